"""The processes that serve folders to a VM. Like QEMU they outlive the agent, and they end when QEMU does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from cove.drivers.base import Serve, StreamEnd
from cove.errors import DriverError
from cove.local import processes
from cove.local.sockets import listen
from cove.machine.files import rotate
from cove.machine.paths import MachinePaths
from cove.share import virtiofsd
from cove.share.folders import Folder

MAX_LOG = 1 << 20


class Plugs(Protocol):
    """What folders come into a guest by: a VM's driver, or streams to another computer. Each raises `DriverError`."""

    async def plugged(self) -> set[str]:
        """The tags of those that it has."""

    async def plug_folder(self, tag: str) -> None: ...
    async def plug_virtiofs(self, tag: str, socket: Path) -> None: ...
    async def plug_stream(self, tag: str, serve: Serve) -> None: ...
    async def unplug(self, tag: str) -> None: ...
    async def held_by(self) -> list[str]: ...
    def over(self) -> set[str]:
        """The tags of those of which the guest may have something mounted that answers no more, since this was asked last."""

    def on_over(self, callback: Callable[[], object]) -> None:
        """Call back, in any thread, when there is such a one."""


def control(paths: MachinePaths, tag: str) -> Path:
    """Where Cove's own server of a folder takes orders. Raises `CoveError` when the path is too long for a socket."""
    return paths.folder_socket(tag)


async def serve_virtiofs(paths: MachinePaths, driver: Plugs, folder: Folder) -> subprocess.Popen[bytes]:
    """Plug a folder in that a new virtiofsd serves. Raises `DriverError`."""
    place = paths.folder_socket(f"{folder.tag}.fs")
    with _listening(place) as listener:
        words = await asyncio.to_thread(virtiofsd.command, folder.path, listener.fileno())
        process = _start(paths, words, listener.fileno())
    try:
        await driver.plug_virtiofs(folder.tag, place)
    except DriverError as error:
        raise _failed(process, error) from None
    finally:
        place.unlink(missing_ok=True)
    await asyncio.to_thread(pid_file(paths, folder.tag).write_text, str(process.pid))
    return process


async def serve_9p(paths: MachinePaths, driver: Plugs, folder: Folder) -> subprocess.Popen[bytes]:
    """Plug a folder in that a server of Cove's own serves. Raises `DriverError`."""
    words = [sys.executable, "-m", "cove.share.ninep", "--root", str(folder.path)]
    words += ["--control", str(control(paths, folder.tag)), *(["--read-only"] if folder.read_only else [])]
    words += ["--owner", f"{folder.owner[0]}:{folder.owner[1]}"]
    started: list[subprocess.Popen[bytes]] = []

    def serve(end: StreamEnd) -> subprocess.Popen[bytes]:
        if end.socket >= 0:
            process = _start(paths, [*words, "--fd", str(end.socket)], end.socket)
        else:
            process = _start(paths, [*words, "--port", str(end.port), "--keys", str(end.keys)])
        started.append(process)
        return process

    try:
        await driver.plug_stream(folder.tag, serve)
    except DriverError as error:
        raise (_failed(started[-1], error) if started else error) from None
    await asyncio.to_thread(pid_file(paths, folder.tag).write_text, str(started[-1].pid))
    return started[-1]


async def ended(paths: MachinePaths, tag: str) -> None:
    """Return when the server of a folder has ended, whoever started it; never where that cannot be told."""
    try:
        pid = int(await asyncio.to_thread(pid_file(paths, tag).read_text))
    except (OSError, ValueError):
        return
    await processes.ended(pid)


def pid_file(paths: MachinePaths, tag: str) -> Path:
    return paths.run_dir / f"{tag}.pid"


@contextlib.contextmanager
def _listening(place: Path) -> Iterator[socket.socket]:
    if sys.platform == "win32":
        raise DriverError("servers of folders are given no sockets on Windows")
    try:
        listener = listen(place, 1)
    except OSError as error:
        raise DriverError(f"{place} cannot be made: {error.strerror}") from error
    with listener:
        yield listener


def _start(paths: MachinePaths, words: list[str], *inherited: int) -> subprocess.Popen[bytes]:
    rotate(paths.folders_log, MAX_LOG)
    try:
        with paths.folders_log.open("ab") as log:
            # What containers write when they end is to come through it.
            return processes.start(words, log, inherited=inherited, folder=Path("/"), spared=True)
    except OSError as error:
        raise DriverError(f"{words[0]} cannot be run: {error.strerror}") from error


def _failed(process: subprocess.Popen[bytes], error: DriverError) -> DriverError:
    """It may have ended by itself, and then that is why."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    if process.returncode is None:
        process.kill()
        process.wait(5)
        return error
    return DriverError(f"its server ended with status {process.returncode}: {error}")
