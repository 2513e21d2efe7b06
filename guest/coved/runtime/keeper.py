"""A spawner beside an engine that has no PID 1 to keep one: started with it, started again when it dies, ended with it."""

import asyncio
import contextlib
import logging
import os
import subprocess
from pathlib import Path

from coved.runtime.client import start_spawner
from coved.runtime.errors import SpawnerGone

_log = logging.getLogger(__name__)

_AGAIN_S = 1.0
"""Before the next try, when one has failed."""
_READY_S = 15.0


class SpawnerKeeper:
    """Owns the spawner's process. Containers do not notice when that dies, and starts wait until it is back."""

    def __init__(self, socket_path: Path, shims_dir: Path) -> None:
        self._socket_path = socket_path
        self._shims_dir = shims_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._up = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins; ``ready`` tells when there is one."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def ready(self) -> None:
        """Returns when it takes requests. Raises SpawnerGone when it does not come up in time."""
        if self._process is not None and self._process.poll() is not None:
            self._up.clear()  # before the news of its death has arrived
        try:
            await asyncio.wait_for(self._up.wait(), _READY_S)
        except TimeoutError:
            raise SpawnerGone(f"the container spawner did not start within {_READY_S:.0f} s") from None

    async def stop(self) -> None:
        """Ends it; containers go on."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait)

    async def _keep(self) -> None:
        while True:
            try:
                await self._launch()
            except SpawnerGone as error:
                _log.error("%s", error)
                await asyncio.sleep(_AGAIN_S)
                continue
            assert self._process is not None
            self._up.set()
            await _ended(self._process.pid)
            self._up.clear()
            _log.error("the spawner ended with status %d; starting it again", self._process.wait())

    async def _launch(self) -> None:
        # Not given up half-way: whoever stops it must know its process.
        launching = asyncio.ensure_future(asyncio.to_thread(start_spawner, self._socket_path, self._shims_dir))
        try:
            self._process = await asyncio.shield(launching)
        except asyncio.CancelledError:
            with contextlib.suppress(SpawnerGone):
                self._process = await launching
            raise


async def _ended(pid: int) -> None:
    """Returns when the process has ended (pidfd_open(2))."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    fd = os.pidfd_open(pid)
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
