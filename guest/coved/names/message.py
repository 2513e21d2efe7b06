"""DNS messages (RFC 1035, RFC 6891), as much as a server of names needs that passes all else on: the question of a query,
and answers to it. Whoever asks may be hostile: what is read is bounded, and a query's name is followed through no pointer.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
IN = 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NO_DOMAIN, NOT_IMPLEMENTED, REFUSED = range(6)
PLAIN_UDP = 512
"""Octets that every client takes by UDP."""
LARGEST_UDP = 4096
"""What a client may ask for is sent up to this size: no container needs a larger one, and an answer can be asked for by TCP."""
TTL_S = 600
"""Seconds; dockerd's."""

_HEADER = struct.Struct("!HHHHHH")
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE, _CHECKING_DISABLED = (
    0x8000,
    0x0200,
    0x0100,
    0x0080,
    0x0010,
)
_OPCODE = 0x7800
_RECORD = struct.Struct("!HHHIH")  # a name that points to the question, type, class, time to live, length
_QUESTION_NAME = 0xC000 | _HEADER.size
_OPT = struct.Struct("!BHHIH")
_NAME_OCTETS = 255
_ADDRESS = struct.Struct("!HHHIH4s")
_ADDRESS6 = struct.Struct("!HHHIH16s")


class Malformed(ValueError):
    """No query at all: there is nobody to answer. ``reply`` is what to send back, or None."""

    def __init__(self, reply: bytes | None) -> None:
        super().__init__("malformed DNS query")
        self.reply = reply


@dataclass(slots=True)
class Query:
    """One question. ``name`` has lower case and no dot at its end; octets that are no text stand as in latin-1."""

    id: int
    flags: int
    name: str
    type: int
    class_: int
    question: bytes
    """The question as it was asked, letters' case included."""
    limit: int
    """Octets that an answer by UDP may have."""
    extended: bool
    """It has an OPT record, so the answer gets one."""


def parse(data: bytes) -> Query:
    """The query in a message.

    Raises:
        Malformed: it is none, or one that no server of names answers (several questions, another opcode).
    """
    if len(data) < _HEADER.size:
        raise Malformed(None)
    id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        raise Malformed(None)  # answering an answer could go on for ever
    if flags & _OPCODE:
        raise Malformed(_bare(id, flags, NOT_IMPLEMENTED))
    if questions != 1 or answers or authorities:
        raise Malformed(_bare(id, flags, FORMAT_ERROR))
    labels: list[bytes] = []
    at, size = _HEADER.size, len(data)
    while True:
        if at >= size:
            raise Malformed(_bare(id, flags, FORMAT_ERROR))
        length = data[at]
        at += 1
        if not length:
            break
        # A pointer has its two highest bits set: in the first name of a message there is nothing that it could point to.
        if length > 63 or at + length > size or at + length - _HEADER.size >= _NAME_OCTETS:
            raise Malformed(_bare(id, flags, FORMAT_ERROR))
        labels.append(data[at : at + length])
        at += length
    end = at + 4
    if end > size:
        raise Malformed(_bare(id, flags, FORMAT_ERROR))
    limit, extended = PLAIN_UDP, False
    if additional and end + _OPT.size <= size and data[end] == 0 and data[end + 1 : end + 3] == b"\0\x29":
        extended = True
        limit = min(max(int.from_bytes(data[end + 3 : end + 5], "big"), PLAIN_UDP), LARGEST_UDP)
    return Query(
        id,
        flags,
        b".".join(labels).lower().decode("latin-1"),
        int.from_bytes(data[at : at + 2], "big"),
        int.from_bytes(data[at + 2 : end], "big"),
        data[_HEADER.size : end],
        limit,
        extended,
    )


def addresses(query: Query, found: Sequence[bytes], limit: int = 0) -> bytes:
    """An answer with these addresses (4 octets, or IPv6's 16), none at all being an answer too: the name is there.

    Args:
        limit: octets that it may have; those addresses that do not fit are left out, and the answer says so. 0: any.
    """
    records: list[bytes] = []
    room = limit - _HEADER.size - len(query.question) - (_OPT.size if query.extended else 0)
    for address in found:
        if len(address) == 4:
            record = _ADDRESS.pack(_QUESTION_NAME, A, IN, TTL_S, 4, address)
        else:
            record = _ADDRESS6.pack(_QUESTION_NAME, AAAA, IN, TTL_S, 16, address)
        room -= len(record)
        if limit and room < 0:
            return _answer(query, NO_ERROR | _TRUNCATED, records)
        records.append(record)
    return _answer(query, NO_ERROR, records)


def pointer(query: Query, name: str) -> bytes:
    """An answer with the name of an address; a name that no message can carry is a server failure."""
    encoded = encode_name(name)
    if encoded is None:
        return failure(query, SERVER_FAILURE)
    return _answer(query, NO_ERROR, [_RECORD.pack(_QUESTION_NAME, PTR, IN, TTL_S, len(encoded)) + encoded])


def failure(query: Query, code: int) -> bytes:
    """An answer that says nothing but ``code``."""
    return _answer(query, code, ())


def encode_name(name: str) -> bytes | None:
    """The wire's form of a name; None when it has none (RFC 1035, 3.1)."""
    result = b""
    for label in name.rstrip(".").encode("utf-8").split(b"."):
        if not 0 < len(label) < 64:
            return None
        result += bytes((len(label),)) + label
    return result + b"\0" if len(result) < _NAME_OCTETS else None


def address_of_pointer(name: str) -> str:
    """The address that a reverse query is about; "" when it is about none (RFC 1035, 3.5; RFC 3596, 2.5)."""
    if name.endswith(".ip6.arpa"):
        digits = name.removesuffix(".ip6.arpa").split(".")
        if len(digits) != 32 or not all(len(one) == 1 and one in "0123456789abcdef" for one in digits):
            return ""
        return str(ipaddress.IPv6Address(bytes.fromhex("".join(reversed(digits)))))
    if not name.endswith(".in-addr.arpa"):
        return ""
    parts = name.removesuffix(".in-addr.arpa").split(".")
    plain = [part for part in parts if part.isascii() and part.isdigit() and len(part) <= 3 and str(int(part)) == part]
    return ".".join(reversed(plain)) if len(parts) == len(plain) == 4 and all(int(part) < 256 for part in plain) else ""


def asking(query: Query, id: int) -> bytes:
    """The same question to another server, with an id of its own: nothing that the client sent besides it is passed on."""
    flags = query.flags & (_RECURSION_DESIRED | _CHECKING_DISABLED)
    tail = _OPT.pack(0, OPT, query.limit, 0, 0) if query.extended else b""
    return _HEADER.pack(id, flags, 1, 0, 0, query.extended) + query.question + tail


def with_id(message: bytes, id: int) -> bytes:
    return id.to_bytes(2, "big") + message[2:]


def answers(message: bytes, id: int, question: bytes) -> bool:
    """Whether another server's ``message`` is an answer to the query that was sent with this id and question."""
    if len(message) < _HEADER.size or int.from_bytes(message[:2], "big") != id or not message[2] & 0x80:
        return False
    if message[4:6] == b"\0\0":  # some that refuse do not repeat the question
        return code(message) != NO_ERROR
    found = message[_HEADER.size : _HEADER.size + len(question)]
    return found.lower() == question.lower()


def code(message: bytes) -> int:
    """The response code of a message that has a header."""
    return message[3] & 0x0F


def fitting(query: Query, message: bytes, limit: int) -> bytes:
    """Another server's answer, or, when it is larger than ``limit`` octets, one that sends the client to TCP."""
    if not limit or len(message) <= limit:
        return message
    return _answer(query, NO_ERROR | _TRUNCATED, ())


def _answer(query: Query, bits: int, records: Sequence[bytes]) -> bytes:
    flags = _RESPONSE | _RECURSION_AVAILABLE | query.flags & (_RECURSION_DESIRED | _CHECKING_DISABLED) | bits
    header = _HEADER.pack(query.id, flags, 1, len(records), 0, query.extended)
    tail = _OPT.pack(0, OPT, LARGEST_UDP, 0, 0) if query.extended else b""
    return b"".join((header, query.question, *records, tail))


def _bare(id: int, flags: int, code: int) -> bytes:
    """For what has no question that could be repeated."""
    kept = flags & (_OPCODE | _RECURSION_DESIRED)
    return _HEADER.pack(id, _RESPONSE | _RECURSION_AVAILABLE | kept | code, 0, 0, 0, 0)
