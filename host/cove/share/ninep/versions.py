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
"""Files that the guest has written to and closed, or given another name. One that is forgotten is read anew."""

_State = tuple[int, ...]


@dataclass(slots=True)
class _Writing:
    version: int
    before: _State
    writers: int = 0
    wrote: bool = False
    missed: bool = False


class Versions:
    """Of one session; files by their numbers (`Folder.number`)."""

    def __init__(self) -> None:
        self._writing: dict[int, _Writing] = {}
        """As many as the guest may have open."""
        self._left: OrderedDict[int, tuple[int, _State]] = OrderedDict()
        """The version of a file, and as the guest left it; who was closed last is the last."""

    def of(self, number: int, look: Look) -> int:
        """32 bits, never 0, which would keep the kernel from caching."""
        if (writing := self._writing.get(number)) is not None:
            return writing.version
        state = _state(look)
        version, left = self._left.get(number, (0, None))
        return version if state == left else hash(state) & 0xFFFFFFFF or 1

    def is_being_written(self, number: int) -> bool:
        """Whether the guest has it open for writing. Its kernel has it open for as long as it has pages to write."""
        return number in self._writing

    def begin(self, number: int, before: Look) -> None:
        """The guest opens it for writing; `before`: as it was until then."""
        if number not in self._writing:
            self._writing[number] = _Writing(self.of(number, before), _state(before))
            self._left.pop(number, None)
        self._writing[number].writers += 1

    def miss(self, number: int) -> None:
        """Somebody else has changed it, which the guest could not be told."""
        if (writing := self._writing.get(number)) is not None:
            writing.missed = True

    def end(self, number: int, look: Look | None, *, wrote: bool) -> bool:
        """The guest has closed it, and left it so (None: nobody knows). Whether it has missed something."""
        writing = self._writing[number]
        writing.writers -= 1
        writing.wrote |= wrote
        if writing.writers:
            return False
        del self._writing[number]
        if look is not None and not writing.missed:
            self._leave(number, writing.version, _state(look) if writing.wrote else writing.before)
        return writing.missed

    def _leave(self, number: int, version: int, state: _State) -> None:
        self._left[number] = version, state
        if len(self._left) > MAX_KNOWN:
            self._left.popitem(last=False)

    def knows(self, number: int) -> bool:
        return number in self._left or number in self._writing

    def changed(self, number: int, before: Look, after: Look) -> None:
        """The guest has changed attributes of a file, or its names, of which its time of change tells."""
        if (writing := self._writing.get(number)) is None:
            self._leave(number, self.of(number, before), _state(after))
        elif writing.before == _state(before):
            writing.before = _state(after)


def _state(look: Look) -> _State:
    return look.size, look.ctime, look.ctime_ns, look.btime, look.btime_ns, look.mtime, look.mtime_ns
