"""Where changes of files are learnt from: one interface, and a source of it for each system."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coved.link.protocol import ChangeKind


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened to one name of a watched folder; paths are relative to the folder, "" is the folder itself."""

    kind: ChangeKind
    path: str
    directory: bool = False
    to: str = ""
    """Of a move."""


Tell = Callable[[Path, Sequence[Seen], bool], None]
"""Called from any thread with a watched folder, what happened there in its order, and whether more happened that is not known."""


class Source(Protocol):
    """Watches folders and all that is below them, symlinks not followed."""

    def watch(self, within: Path, folder: Path, *, deep: bool = True) -> None:
        """Begin with the folder, which lies in ``within`` or is it; what happens from the return on is told. It costs a visit to
        each directory below, and is not to be called from an event loop.

        Raises:
            OSError: it cannot be watched, or is no folder.
        """

    def unwatch(self, folder: Path) -> None:
        """What is no longer watched is told of no more; an unknown folder is none."""

    def unwatched(self) -> int:
        """Directories that are not watched because the system allows no more."""

    def close(self) -> None: ...


def for_this_system(tell: Tell) -> Source:
    if sys.platform == "linux":
        from cove.share.watching.inotify import Inotify

        return Inotify(tell)
    if sys.platform == "win32":
        from cove.share.watching.notifications import Notifications

        return Notifications(tell)
    from cove.share.watching.observer import Observed

    return Observed(tell)
