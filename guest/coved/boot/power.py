"""The end: everything stops in order, all is written, the power goes off. Every step is bounded."""

import os
import signal
import time
from collections.abc import Callable

from coved.boot.console import say
from coved.boot.places import DATA
from coved.boot.system import MS_RDONLY, MS_REMOUNT, mount, reboot, unmount

RB_POWER_OFF, RB_AUTOBOOT, RB_DISABLE_CAD = 0x4321FEDC, 0x01234567, 0
ENGINE_S, TERM_S = 20.0, 2.0


def down(engine: int, command: int) -> None:
    """Stop the engine (which stops the containers), then all else, and end the VM. Does not return."""
    say("stopping")
    if engine and _signal(engine, signal.SIGTERM):
        _reap_until(ENGINE_S, lambda ended: ended == engine)
    _signal(-1, signal.SIGTERM)
    _reap_until(TERM_S, lambda _: False)
    _signal(-1, signal.SIGKILL)
    _reap_until(TERM_S, lambda _: False)
    os.sync()
    try:
        unmount(DATA)
    except OSError:
        try:
            mount("", DATA, "", MS_REMOUNT | MS_RDONLY)
        except OSError as error:
            say(f"{DATA} stays writable: {error.strerror}")
    os.sync()
    reboot(command)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _reap_until(seconds: float, done: Callable[[int], bool]) -> None:
    """Reap children until ``done`` is true of one, none is left, or the time is over."""
    deadline = time.monotonic() + seconds
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid and done(pid):
            return
        left = deadline - time.monotonic()
        if left <= 0:
            return
        if not pid:
            signal.sigtimedwait([signal.SIGCHLD], left)
