"""Keeps an engine there: a process that has all that an engine needs loaded, forks one, and forks the next when it dies.

It holds what must outlive an engine that is killed: the claim on the data, and the socket that clients connect to, so that
those who connect meanwhile wait instead of being refused (docs/decisions/0025). Nothing in it is periodic.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from coved.errors import Conflict
from coved.runtime import syscalls
from coved.runtime.listening import listen
from coved.runtime.oom import spare_this

_log = logging.getLogger("coved.supervisor")

QUICK_S = 2.0
"""An engine that ends sooner than this after its start is followed by the next with delay."""
MAX_DELAY_S = 5.0
MAX_KILLED_DELAY_S = 0.2
"""After SIGKILL: somebody's, or the kernel's for want of memory."""


class Door:
    """The socket of the API's clients. Raises Conflict when another engine answers on the path, OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.listener = _listen(path)

    def renew(self) -> None:
        """For the next engine, should somebody have removed the file. Raises OSError."""
        if not self._path.exists():
            self.listener.close()
            self.listener = _listen(self._path)

    def let_all_in(self) -> None:
        """Whoever sees the file may connect: a container's user need not be root. Raises OSError."""
        self._path.parent.chmod(0o755)
        self._path.chmod(0o666)

    def remove(self) -> None:
        """Nobody connects any more; who waits is refused."""
        self.listener.close()
        self._path.unlink(missing_ok=True)


def orders() -> set[signal.Signals]:
    """The signals by which an engine, or its supervisor, is told to end. SIGHUP is none where it is ignored, as by nohup(1)."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return {signal.SIGTERM, signal.SIGINT, *(() if ignored else (signal.SIGHUP,))}


def on_console(text: str) -> None:
    """Tell the host, which reads the machine's console; one that is not there is no reason to fail."""
    with contextlib.suppress(OSError):
        console = os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(console, f"cove: {text}\n".encode())
        finally:
            os.close(console)


def supervise(
    engine: Callable[[], int], prepare: Callable[[], None], say: Callable[[str], None] = lambda text: None
) -> int:
    """Runs ``engine`` in a child until it has ended by itself, and again whenever it has died. Returns its exit status,
    or 128 and the signal that ended it.

    ``prepare`` is called before each that follows, ``say`` with what became of the one before it. An engine dies by a signal that
    nobody meant for it, or with an exit status other than 0; but the first one that ends with such a status could not start, and
    that is the end. The child is killed when this process ends. To be called while there is one thread, and no event loop.
    """
    # Objects made so far never end: keep the collector from touching their pages in the engine.
    gc.collect()
    gc.freeze()
    syscalls.set_process_name("cove-supervisor")
    spare_this()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Passed on to the engine; and one that is ended by them was told to end.
    meant = orders()
    # All are waited for in one place: none is lost between two system calls.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *meant})
    delay, following, killed = 0.0, False, False
    while True:
        started = time.monotonic()
        try:
            if following:
                prepare()
            pid = _fork(engine, before)
        except (OSError, Conflict) as error:
            if not following:
                raise
            ended, killed = f"cannot be started: {error}", False
        else:
            status, told = _wait(pid, meant)
            if told or status == 0 or -status in meant or (status > 0 and not following):
                return status if status >= 0 else 128 - status
            ended, killed = f"has died ({_how(status)})", status == -signal.SIGKILL
            following = True
        quick = time.monotonic() - started < QUICK_S
        # One that is killed again and again may be well; one that ends by itself will hardly do better at once.
        delay = min(max(2 * delay, 0.1), MAX_KILLED_DELAY_S if killed else MAX_DELAY_S) if quick else 0.0
        _log.warning("the engine %s; here is another%s", ended, f" in {delay:.1f} s" if delay else "")
        say(f"the engine {ended}")
        if delay and signal.sigtimedwait(meant, delay) is not None:
            return 0


def _fork(engine: Callable[[], int], mask: set[int | signal.Signals]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        syscalls.set_process_name("cove-engine")
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = engine()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _end(status)


def _end(status: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status)  # threads that were left behind hold nobody up


def _wait(pid: int, meant: set[signal.Signals]) -> tuple[int, bool]:
    """How the child ended, as a status of subprocess.Popen, and whether it was told to."""
    told = False
    while True:
        number = signal.sigwait({signal.SIGCHLD, *meant})
        if number != signal.SIGCHLD:
            told = True
            os.kill(pid, number)  # it has not been waited for: the number is its own
            continue
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), told


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def _listen(path: Path) -> socket.socket:
    """A listening unix socket with mode 0600 from its first instant.

    A socket file whose engine is dead is replaced; raises ``Conflict`` when something answers on it, or when the path
    is taken by something else than a socket.
    """
    if not path.is_socket() and os.path.lexists(path):
        raise Conflict(f"cannot listen on {path}: there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):  # a path may be longer than an address
        probe.setblocking(False)
        if probe.connect_ex(str(path)) in (0, errno.EAGAIN):
            raise Conflict(f"cannot listen on {path}: another engine answers there")
    listener = listen(path)
    listener.setblocking(False)
    return listener
