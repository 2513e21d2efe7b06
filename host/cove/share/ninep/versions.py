"""By what the guest's kernel knows whether a file is the one that it has in its caches.

A regular file that has changed gets another version (of its qid, qid(5)), and whoever looks it up anew gets another inode, without
what was cached of the old one. What the guest itself has written must not do that: its kernel may still have pages to write, and
beside them an inode that has the size which the file had on the host at that moment. So a file that nobody but the guest has
changed keeps its version.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cove.share.ninep.looks import Look

MAX_KNOWN = 1 << 16
"""Files that the guest has written to and closed. One that is forgotten is read anew."""

_State = tuple[int, ...]


@dataclass(slots=True)
class _Written:
    version: int
    state: _State | None
    """As the guest left it; None while it is being written."""
    writers: int = 0


class Versions:
    """Of one session; files by their numbers (`Folder.number`)."""

    def __init__(self) -> None:
        self._written: OrderedDict[int, _Written] = OrderedDict()

    def of(self, number: int, look: Look) -> int:
        """32 bits, never 0, which would keep the kernel from caching."""
        known = self._written.get(number)
        if known is not None and (known.state is None or known.state == _state(look)):
            return known.version
        return hash(_state(look)) & 0xFFFFFFFF or 1

    def is_being_written(self, number: int) -> bool:
        """Whether the guest has it open for writing. Its kernel has it open for as long as it has pages to write."""
        known = self._written.get(number)
        return known is not None and known.writers > 0

    def begin(self, number: int, before: Look) -> None:
        """The guest opens it for writing; `before`: as it was until then."""
        version = self.of(number, before)
        known = self._written.setdefault(number, _Written(version, None))
        known.version, known.state = version, None
        known.writers += 1
        self._written.move_to_end(number)

    def end(self, number: int, look: Look) -> None:
        """The guest has closed it, and left it so."""
        known = self._written[number]
        known.writers -= 1
        if not known.writers:
            known.state = _state(look)
            while len(self._written) > MAX_KNOWN and not next(iter(self._written.values())).writers:
                self._written.popitem(last=False)

    def knows(self, number: int) -> bool:
        return number in self._written

    def changed(self, number: int, before: Look, after: Look) -> None:
        """The guest has changed attributes of a file."""
        known = self._written.get(number)
        if known is not None and known.state == _state(before):
            known.state = _state(after)


def _state(look: Look) -> _State:
    return look.size, look.ctime, look.ctime_ns, look.btime, look.btime_ns, look.mtime, look.mtime_ns
