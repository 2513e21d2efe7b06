"""The files of removed containers: out of the way at once, and deleted while nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from coved.errors import no_room
from coved.store.trees import remove_tree

log = logging.getLogger(__name__)

SHORT_BYTES = 256 << 20
SHORT_INODES = 4096
"""With less than this free, a removal is over when its room is free."""


class Removals:
    """Deletes one tree after another. What is left when the engine ends, however it does, is the next one's.

    Args:
        folder: where they wait for that; on the file system of what is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[Path] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Takes up what an earlier engine has left. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            self._delete(path)

    def take(self, path: Path) -> None:
        """``path`` is no more when this returns; if there is none, that is as well. Raises OSError: then it has stayed.

        On a full disk it goes a little later, if there is no block for its name in the folder.
        """
        gone = self._folder / path.name
        try:
            path.rename(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            if no_room(error) is None:
                raise
            gone = path
        self._delete(gone)

    async def make_room(self) -> None:
        """Returns when all is deleted, if the disk has little room: whoever removes something then does it for the room."""
        if self._task is not None and _is_short(self._folder):
            await asyncio.wait([self._task])

    def _delete(self, path: Path) -> None:
        self._waiting.append(path)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting and not self._closing:
            path = self._waiting.pop()
            try:
                await asyncio.to_thread(remove_tree, path, lambda: not self._closing)
            except OSError as error:
                log.warning("the files in %s stay for now: %s", path, error)
        self._task = None

    async def close(self) -> None:
        """Nothing is being deleted any more when this returns, which is soon, however much is left."""
        self._closing = True
        if self._task is not None:
            await asyncio.wait([self._task])


def _is_short(folder: Path) -> bool:
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize < SHORT_BYTES or (there.f_files > 0 and there.f_favail < SHORT_INODES)
