"""Which folders of the user's computer are watched: those that running containers have bound, where what changed can be done again.

That is Cove's own server, which pretends. To touch a file of another to make an event, while a container writes to it, takes back what
the kernel knows of its size.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from coved.link.protocol import watchable
from coved.watching import mounted

log = logging.getLogger(__name__)


class Watched:
    """Args: tell: called with all paths of this machine that the host shall watch, whenever they are others."""

    def __init__(self, tell: Callable[[tuple[str, ...]], None]) -> None:
        self._tell = tell
        self._by_container: dict[str, frozenset[str]] = {}
        self._told: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """What the host shall watch; the excess over what a message can carry is not."""
        return watchable(sorted({path for paths in self._by_container.values() for path in paths}))

    async def begin(self, container_id: str, sources: Iterable[str]) -> None:
        """Before a container is started with these paths bound: it sees them as they are, whatever was cached while nobody watched."""
        mounts = {path: mount for path in sources if (mount := mounted.find(path)) is not None and mount.kind == "own"}
        watched = set(self.paths)
        if mounts:
            self._by_container[container_id] = frozenset(mounts)
        new = {mount.point: mount for path, mount in mounts.items() if not _within(path, watched)}
        for mount in new.values():
            try:
                await asyncio.to_thread(mount.forget)
            except OSError as error:
                log.warning("what is cached of %s cannot be dropped: %s", mount.point, error)
        self._tell_when_new()

    def end(self, container_id: str) -> None:
        """A container has ended, or has not been started."""
        if self._by_container.pop(container_id, None) is not None:
            self._tell_when_new()

    def _tell_when_new(self) -> None:
        paths = self.paths
        if paths != self._told:
            self._told = paths
            self._tell(paths)


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
