"""Holds what must outlive an agent that is killed: the machine's lock and the sockets that clients connect to.

It forks the agent and waits. When the agent dies the next one takes over the same sockets, so that clients who connected
meanwhile wait instead of being refused (docs/decisions/0024). Forked before anything heavy is imported, for it stays as long as
the machine: this module and what it imports are its memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cove.errors import CoveError
from cove.local.sockets import Listener, listen
from cove.machine.paths import MachinePaths

BACKLOG = 256
TOO_OFTEN = 3
WITHIN_S = 60.0
"""An agent that dies so often in this time would do so again."""
_MEANT = ("SIGTERM", "SIGINT", "SIGHUP")
"""An agent that is ended by one of these was told to end."""


class Listeners:
    """The sockets of docker's clients and of `cove`. Raises `OSError` when one cannot be made."""

    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths
        # Whoever finds the sockets must also find that nothing runs yet.
        paths.down.touch()
        self.agent: Listener = listen(paths.agent_socket, BACKLOG)
        try:
            self.docker: Listener = listen(paths.docker_socket, BACKLOG)
        except BaseException:
            self.agent.close()
            paths.agent_socket.unlink(missing_ok=True)
            raise

    def renew(self) -> None:
        """For an agent that follows one that died, perhaps while it stopped the machine or ended itself. Raises `OSError`, `CoveError`."""
        self._paths.make_run_dir()  # with the user's last session its folder may have gone
        self._paths.down.touch()
        if not self._paths.agent_socket.exists():
            self.agent.close()
            self.agent = listen(self._paths.agent_socket, BACKLOG)
        if not self._paths.docker_socket.exists():
            self.docker.close()
            self.docker = listen(self._paths.docker_socket, BACKLOG)

    def remove_docker(self) -> None:
        """No client of docker's connects any more; who waits is refused when the last process that has the socket ends."""
        self._paths.docker_socket.unlink(missing_ok=True)

    def remove(self) -> None:
        """Nobody connects any more."""
        self.remove_docker()
        for path in (self._paths.agent_socket, self._paths.down):
            path.unlink(missing_ok=True)


def supervise(
    listeners: Listeners, agent: Callable[[bool], int], forked: Callable[[], None], log: Path
) -> int:  # fmt: skip
    """Run `agent` in a child until it has ended by itself, and again whenever it has died. Returns its exit status.

    `agent` is told whether it follows one that died, and begins with SIGTERM and SIGHUP held back, which it is to let come once it heeds
    them; `forked` is called here when the first one runs. Where there is no fork the agent runs in this process, and its death is the end.
    """
    if sys.platform == "win32":
        try:
            return agent(False)
        finally:
            listeners.remove()
    to_end = (signal.SIGTERM, signal.SIGHUP)
    told: set[int] = set()
    deaths: list[float] = []
    while True:
        signal.pthread_sigmask(signal.SIG_BLOCK, to_end)
        pid = os.fork()
        if not pid:
            for number in to_end:
                signal.signal(number, signal.SIG_DFL)
            status = 1
            try:
                status = agent(bool(deaths))
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)  # threads that were left behind (`threads.abandonable`) hold nobody up
        # What is sent to this process is for the agent, which ends in order; both may get it. One that died has not done it.
        for order in told:
            os.kill(pid, order)
        for number in to_end:
            signal.signal(number, partial(_pass_on, pid, told))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, to_end)
        if not deaths:
            forked()
        _, ended = os.waitpid(pid, 0)
        status = os.waitstatus_to_exitcode(ended)
        if status == 0 or status in [-getattr(signal, name) for name in _MEANT]:
            break
        now = time.monotonic()
        deaths = [*(death for death in deaths if now - death < WITHIN_S), now]
        if len(deaths) >= TOO_OFTEN:
            _say(log, f"the agent has died {len(deaths)} times within {WITHIN_S:.0f} s")
            break
        _say(log, f"the agent has died (status {status}); here is another")
        try:
            listeners.renew()
        except (OSError, CoveError) as error:
            _say(log, f"no other agent can be reached: {error}".replace("\\", "/").replace('"', "'"))
            break
    listeners.remove()
    return status


def _pass_on(pid: int, told: set[int], number: int, frame: object) -> None:
    told.add(number)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _say(log: Path, message: str) -> None:
    """A line of the agent's log (`cove.agent.logs`), in words that need no quoting: JSON's library is not for this process.

    It is not what was the agent's log when this process began: the agent has begun another since, when that was full.
    """
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    line = f'{{"time": "{moment}.000Z", "level": "error", "logger": "cove.agent.supervisor", "message": "{message}"}}'
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
