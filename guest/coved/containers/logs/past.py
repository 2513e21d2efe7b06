"""A log read in steps, each up to a place in it: what has been written until now, then what until a little later."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from coved.containers.container import Container
from coved.containers.logs.files import LogSource, close_all, open_all, open_next
from coved.containers.logs.reader import Formatter, Selection
from coved.containers.logs.runs import BLOCK, decoder

log = logging.getLogger(__name__)

Position = tuple[int, int]
"""The inode of the file that is being written, and how many bytes of it."""


class Past:
    """What is in a container's log, in the order of its writing, across rotations. To be closed."""

    def __init__(self, container: Container, path: Path, wanted: Selection) -> None:
        self._driver = container.host_config["LogConfig"]["Type"]
        self._path = path
        self._formatter = Formatter(wanted)
        # Held open, they can be read when they have been rotated away, and nobody else gets their inodes.
        self._sources = deque(open_all(path))
        self._decode = decoder(self._driver)
        self._read = 0
        self._failed = False

    def end(self) -> Position | None:
        """Up to where the log has been written. None when there is no file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size

    def has_more(self) -> bool:
        """Whether something has been written that has not been read."""
        end = self.end()
        if end is None or self._failed:
            return False
        inode, size = end
        return not self._sources or self._sources[0].inode != inode or self._read < size

    async def until(self, end: Position | None) -> AsyncIterator[bytes]:
        """What has not been read before ``end``; None is all there is."""
        try:
            if not self._sources:
                self._sources.extend(open_all(self._path))
            while self._sources:
                source = self._sources[0]
                left = end[1] - self._read if end is not None and source.inode == end[0] else None
                async for chunk in self._rest_of(source, left):
                    yield chunk
                if left is not None or not self._advance(source):
                    return
        except (OSError, ValueError) as error:
            self._failed = True
            log.warning("reading a log: %s", error)

    async def _rest_of(self, source: LogSource, left: int | None) -> AsyncIterator[bytes]:
        while (left is None or left > 0) and (data := source.read(BLOCK if left is None else min(BLOCK, left))):
            self._read += len(data)
            if left is not None:
                left -= len(data)
            if chunk := self._formatter.format(self._decode.feed(data)):
                yield chunk
            await asyncio.sleep(0)  # a long log must not hold up the engine

    def _advance(self, source: LogSource) -> bool:
        """To the file after ``source``; that one stays when it is the newest."""
        if len(self._sources) == 1:
            following = open_next(self._path, source)
            if following is None:
                return False
            self._sources.append(following)
        self._sources.popleft().close()
        self._decode = decoder(self._driver)
        self._read = 0
        return True

    def close(self) -> None:
        close_all(list(self._sources))
        self._sources.clear()
