"""What is said to a query: an answer, or that others are to be asked. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from coved.names import message
from coved.names.message import Query

_ALL = 0
_OCTETS = {message.A: 4, message.AAAA: 16, message.ANY: _ALL}
"""Of the addresses that a type of record has."""


class View(Protocol):
    """What one client, a container, can see."""

    @property
    def forwards(self) -> bool:
        """Names that are not known here may be asked for elsewhere."""

    @property
    def dotless(self) -> bool:
        """Also names of one label are asked for elsewhere, not only those to which the client has appended a domain."""

    def addresses(self, name: str) -> Sequence[bytes] | None:
        """Those of a name (lower case, without a dot at its end), of either family; None: there is nobody of that name."""

    def name_of(self, address: str) -> str:
        """Who has this address; "": nobody that the client can see."""


class Responder:
    """Answers for one client. Addresses of one name come in turns, so that clients spread over them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._turn = 0

    def answer(self, query: Query, limit: int = 0) -> bytes | None:
        """The answer; None: other servers are to be asked. ``limit``: octets that it may have, 0 for any number."""
        view = self._view
        if query.class_ == message.IN:
            if query.type == message.PTR:
                address = message.address_of_pointer(query.name)
                if address and (name := view.name_of(address)):
                    return message.pointer(query, name)
            found = view.addresses(query.name)
            if found is not None:
                wanted = _OCTETS.get(query.type)
                found = [
                    one for one in found if wanted in (len(one), _ALL)
                ]  # () is: it is there, but has no such thing
                if len(found) > 1:
                    self._turn += 1
                    first = self._turn % len(found)
                    found = (*found[first:], *found[:first])
                return message.addresses(query, found, limit)
            if not view.dotless and "." not in query.name and query.type in (message.A, message.AAAA):
                return message.addresses(query, ())
        return None if view.forwards else message.failure(query, message.SERVER_FAILURE)
