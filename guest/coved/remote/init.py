"""PID 1 of the engine's namespace of processes: keeps spawner, engine and streams running, reaps what is left, and ends when it is told to.

The kernel kills whatever is left in the namespace when it ends.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from coved.boot.console import say
from coved.boot.places import RUN
from coved.boot.services import Service, said
from coved.errors import UNFIT
from coved.runtime.listening import listen

ENGINE_S, SOON_S = 20.0, 2.0
"""Seconds in which the engine stops its containers and itself, and in which it does when all data go anyway."""
SOON = signal.SIGINT
ORDERS = {signal.SIGTERM, signal.SIGUSR2, SOON}
"""The second is the engine's, when the laptop tells it to end (`coved.link.client.POWER_OFF`)."""
_SPAWNER = f"{RUN}/spawner.sock"


def serve(streams: socket.socket) -> int:
    """Until it is told to end; its exit status.

    Args:
        streams: where the laptop's streams come in.
    """
    spawner = Service(
        "spawner", "coved.runtime.spawner", "--socket", _SPAWNER, "--shims", f"{RUN}/shims", "--foreground", "--listener-fd", "3"
    )  # fmt: skip
    engine = Service("engine", "coved.remote.engine")
    door = Service("streams", "coved.streams.door", "3")
    services = (spawner, engine, door)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *ORDERS})
    for number in ORDERS:  # PID 1 gets no signal that it has not asked for
        signal.signal(number, lambda *_: None)
    orders = listen(_SPAWNER)
    spawner.listener, door.listener = orders.fileno(), streams.fileno()
    for service in services:
        service.start()
    due: dict[Service, float] = {}
    while True:
        wait = max(0.0, min(due.values()) - time.monotonic()) if due else 3600.0
        told = signal.sigtimedwait({signal.SIGCHLD, *ORDERS}, wait)
        if told is not None and told.si_signo in ORDERS:
            _stop(engine.pid, SOON_S if told.si_signo == SOON else ENGINE_S)
            return 0
        for pid, status in _ended():
            if pid == engine.pid and status == UNFIT:
                say(f"cannot go on: {said(engine.name) or 'the engine does not fit the data'}")
                return UNFIT
            for service in services:
                if service.pid == pid:
                    due[service] = time.monotonic() + service.ended(status)
        for service in [service for service, at in due.items() if at <= time.monotonic()]:
            del due[service]
            service.start()


def _ended() -> list[tuple[int, int]]:
    """Pid and exit status of each child that has ended."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))


def _stop(engine: int, within_s: float) -> None:
    say("stopping")
    if not engine:
        return
    os.kill(engine, signal.SIGTERM)  # it has not been waited for: the number is its own
    deadline = time.monotonic() + within_s
    while (left := deadline - time.monotonic()) > 0:
        if any(pid == engine for pid, _ in _ended()):
            return
        signal.sigtimedwait({signal.SIGCHLD}, left)
    say(f"the engine did not end within {within_s:.0f} s")
