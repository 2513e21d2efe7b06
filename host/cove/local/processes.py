"""Processes that live on when the one that started them ends: agents, QEMU, and the servers of folders."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

Words = Sequence[str | Path]

if sys.platform == "win32":
    import _winapi
    import msvcrt
    import threading

    _SYNCHRONIZE = 0x0010_0000
    _LOOK_MS = 1000

    async def ended(pid: int) -> None:
        """Return when a process has ended, which may be nobody's child here."""
        try:
            handle = _winapi.OpenProcess(
                _SYNCHRONIZE, False, pid
            )  # it cannot come to mean another process from here on
        except OSError:
            return
        loop, gone, over = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def wait() -> None:
            try:
                while not over.is_set():
                    if _winapi.WaitForSingleObject(handle, _LOOK_MS) != _winapi.WAIT_TIMEOUT:
                        with contextlib.suppress(RuntimeError):  # the loop has ended
                            loop.call_soon_threadsafe(gone.set)
                        return
            finally:
                _winapi.CloseHandle(handle)

        threading.Thread(target=wait, name="ended", daemon=True).start()
        try:
            await gone.wait()
        finally:
            over.set()

    def says_something(output: IO[bytes], within_s: float) -> bool:
        """Whether a process says within the time that it is ready. No pipe can be waited for: a thread does."""
        heard: list[bytes] = []
        listening = threading.Thread(target=lambda: heard.append(output.read(1)), daemon=True)
        listening.start()
        listening.join(within_s)
        return any(heard)

    def start(
        words: Words, log: IO[bytes], *, inherited: Sequence[int], folder: Path, output: int | None = None,
        spared: bool = False,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """It has no window, and the Ctrl-C of this console is not for it. A process whose children are to end with it (a job, as
        some terminals and build servers make one) lets go of it where it may.

        Args:
            log: where it says what it has to say.
            inherited: descriptors whose files it has open as well.
            output: for its standard output, when that is not to be the log.
            spared: means nothing here, where there are no such signals.

        Raises `OSError`.
        """
        handles = [msvcrt.get_osfhandle(fd) for fd in inherited]
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": handles})
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        for handle in handles:
            os.set_handle_inheritable(handle, True)
        try:
            for more in (subprocess.CREATE_BREAKAWAY_FROM_JOB, 0):
                try:
                    return subprocess.Popen(
                        words, stdin=subprocess.DEVNULL, stdout=log if output is None else output, stderr=log, cwd=folder,
                        startupinfo=startup, creationflags=flags | more,
                    )  # fmt: skip
                except PermissionError:  # the job does not let it go
                    if not more:
                        raise
            raise AssertionError("not reached")
        finally:
            for handle in handles:
                os.set_handle_inheritable(handle, False)

else:
    import select
    import signal

    async def ended(pid: int) -> None:
        """Return when a process has ended, which may be nobody's child here; never where that cannot be told."""
        loop = asyncio.get_running_loop()
        if sys.platform != "linux":
            await loop.create_future()
            return
        try:
            process = os.pidfd_open(pid)  # it cannot come to mean another process from here on
        except OSError:
            return
        gone = asyncio.Event()
        loop.add_reader(process, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(process)
            os.close(process)

    TO_END = (signal.SIGTERM, signal.SIGHUP)
    """What the system sends to all processes of a user (systemd to a session's: both)."""

    def says_something(output: IO[bytes], within_s: float) -> bool:
        """Whether a process says within the time that it is ready."""
        ready, _, _ = select.select([output], [], [], within_s)
        return bool(ready and output.read(1))

    def start(
        words: Words, log: IO[bytes], *, inherited: Sequence[int], folder: Path, output: int | None = None,
        spared: bool = False,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """It has a session of its own.

        Args:
            log: where it says what it has to say.
            inherited: descriptors that it has as well.
            output: for its standard output, when that is not to be the log.
            spared: it does not end when the system asks all processes to, at a shutdown or a logout: whoever started it sees to its end.

        Raises `OSError`.
        """
        # A process has from the thread that starts it which signals wait, and QEMU and virtiofsd leave that as it is.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TO_END if spared else ())
        try:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log if output is None else output, stderr=log, cwd=folder,
                start_new_session=True, pass_fds=inherited,
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
