"""Which folders of the user's computer are watched: those that running containers have bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from coved.link.protocol import watchable
from coved.watching import mounted
from coved.watching.pins import Pins, within

log = logging.getLogger(__name__)


class Watched:
    """Args: tell: called with all paths of this machine that the host shall watch, whenever they are others."""

    def __init__(self, tell: Callable[[tuple[str, ...]], None]) -> None:
        self._tell = tell
        self._by_container: dict[str, frozenset[str]] = {}
        self._told: tuple[str, ...] = ()
        self.pins = Pins()

    @property
    def paths(self) -> tuple[str, ...]:
        """What the host shall watch; the excess over what a message can carry is not."""
        return watchable(sorted({path for paths in self._by_container.values() for path in paths}))

    async def begin(self, container_id: str, sources: Iterable[str]) -> None:
        """Before a container is started with these paths bound: it sees them as they are, whatever was cached while nobody watched."""
        theirs = frozenset(sources)
        watched = set(self.paths)
        if theirs:
            self._by_container[container_id] = theirs
        new = [
            (path, mount) for path in theirs if not within(path, watched) and (mount := mounted.find(path)) is not None
        ]
        self.pins.want(self.paths)
        for mount in {mount.point: mount for _, mount in new}.values():
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
        self.pins.want(paths)
        if paths != self._told:
            self._told = paths
            self._tell(paths)
