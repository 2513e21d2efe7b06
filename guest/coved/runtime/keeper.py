"""Keeps a spawner running for an engine without a PID 1 of its own (outside the VM), and ends it with the engine.

The engine owns the socket and the spawner only accepts on it: what is asked while a new spawner is being started waits.
"""

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from coved.runtime.errors import SpawnerGone
from coved.runtime.listening import listen

_log = logging.getLogger(__name__)

QUICK_S = 2.0
"""A spawner that ends sooner than this after its start is started again with delay."""
MAX_DELAY_S = 5.0
_LAST_S = 2.0
"""For a spawner to end by itself, which takes it milliseconds."""


class SpawnerKeeper:
    """One spawner at a time, from :meth:`start` to :meth:`close`. It ends when this process does, however that happens."""

    def __init__(self, socket_path: Path, shims_dir: Path) -> None:
        self._socket_path = socket_path
        self._shims_dir = shims_dir
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = (-1, -1)
        self._started = 0.0
        self._delay = 0.0
        self._closing = False
        self._again: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Returns while it is being started: what is asked meanwhile waits. Raises OSError."""
        self._listener = listen(self._socket_path)
        self._lifeline = os.pipe()
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def started(self) -> None:
        """Returns when the first one accepts. Raises SpawnerGone, OSError."""
        assert self._starting is not None
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        assert self._listener is not None
        self._started = time.monotonic()
        self._process = await asyncio.to_thread(
            start_spawner, self._socket_path, self._shims_dir, listener=self._listener, lifeline=self._lifeline[0]
        )
        pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(pidfd, self._ended, self._process, pidfd)

    def _ended(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        status = process.wait()
        if not self._closing:
            _log.warning("the container spawner has ended (exit status %d); starting it again", status)
            self._start_again()

    def _start_again(self) -> None:
        quick = time.monotonic() - self._started < QUICK_S
        self._delay = min(max(2 * self._delay, 0.1), MAX_DELAY_S) if quick else 0.0
        self._again = asyncio.get_running_loop().call_later(self._delay, self._begin)

    def _begin(self) -> None:
        self._starting = asyncio.get_running_loop().create_task(self._try())

    async def _try(self) -> None:
        try:
            await self._start()
        except (SpawnerGone, OSError) as error:
            _log.error("%s", error)
            if not self._closing:
                self._start_again()

    async def close(self) -> None:
        """End the spawner; shims and their containers go on."""
        self._closing = True
        if self._again is not None:
            self._again.cancel()
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._process is not None:
            await asyncio.to_thread(_end, self._process)
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(FileNotFoundError):
                self._socket_path.unlink()
        for fd in self._lifeline:
            if fd >= 0:
                os.close(fd)
        self._lifeline = (-1, -1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_LAST_S)
    except subprocess.TimeoutExpired:  # stopped, say
        process.kill()
        process.wait()


def start_spawner(
    socket_path: Path,
    shims_dir: Path,
    *,
    timeout_s: float = 10.0,
    listener: socket.socket | None = None,
    lifeline: int = -1,
) -> subprocess.Popen[bytes]:
    """Start a spawner as a child process and wait until it accepts connections (used outside the VM).

    ``listener``: what it shall accept on, when the socket is there already. ``lifeline``: the reading end of a pipe; the
    spawner ends when nobody holds the other end any more. Without one it outlives its starter: stop it with
    ``terminate()``. Raises SpawnerGone when it ends or is not ready in time.
    """
    words = [sys.executable, "-m", "coved.runtime.spawner", "--foreground"]
    words += ["--socket", str(socket_path), "--shims", str(shims_dir)]
    passed = []
    if listener is not None:
        words += ["--listener-fd", str(listener.fileno())]
        passed.append(listener.fileno())
    if lifeline >= 0:
        words += ["--lifeline-fd", str(lifeline)]
        passed.append(lifeline)
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            [*words, "--ready-fd", str(write_end)],
            pass_fds=(*passed, write_end),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the engine's terminal is not meant for containers
        )
    finally:
        os.close(write_end)
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    try:
        if poll.poll(timeout_s * 1000) and os.read(read_end, 1):
            return process
    finally:
        os.close(read_end)
    process.send_signal(signal.SIGKILL)
    raise SpawnerGone(f"the container spawner did not start (exit status {process.wait()}); its messages tell why")
