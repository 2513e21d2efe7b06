"""Brings to the disk for good what nobody waits for, a moment after it has been written."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

SETTLE_S = 0.1
"""By then, most changes have been carried along by one that somebody did wait for."""


class Settling:
    """Of the file at ``path``, which is there as long as anything is written. Belongs to one event loop's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._timer: asyncio.TimerHandle | None = None
        self._sync: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """There is something that is not on the disk for good; ``SETTLE_S`` from now it begins to be brought there."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_S, self._due)

    def settled(self) -> None:
        """All that has been written is on the disk for good by now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._sync = asyncio.get_running_loop().create_task(self._bring())

    async def _bring(self) -> None:
        try:
            await asyncio.to_thread(_sync, self._path)
        except OSError as error:
            log.error("what is in %s may not outlive the machine: %s", self._path, error.strerror)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
