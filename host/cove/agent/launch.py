"""From any command to a machine whose engine answers.

Light to import, for every docker verb may end here; what is heavy is imported when it is needed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from cove.agent.client import NoAgent, answers, ask, out_of_reach
from cove.errors import AgentError, MachineBusy
from cove.local import processes
from cove.machine import space
from cove.machine.locks import FileLock
from cove.machine.paths import DEFAULT_MACHINE, MachinePaths, machines_dir
from cove.progress import REACHABLE, Event, Report, ignore

AGENT_TIMEOUT_S = 30.0
SILENCE_S = 240.0
"""No event for so long means that the agent hangs: the longest step without one is a boot."""
LAUNCH_TIMEOUT_S = 60.0
ATTEMPTS = 3


class _Reachable(Exception):
    """The machine's sshd answers."""


def ensure_running(name: str, progress: Report | None = None, *, engine: bool = True) -> Path:
    """Return the docker socket of machine `name`, whose engine answers when this returns.

    Without `engine` it is enough that its sshd does: an engine that cannot start is looked into from there.

    Makes the VM image and the machine when they are missing, starts the agent and the VM when they do not run. Safe to call
    from several processes at once. Raises `CoveError` with the way out.
    """
    show = progress or ignore

    def report(event: Event) -> None:
        if event.phase != REACHABLE:
            show(event)
        elif not engine:
            raise _Reachable

    paths = MachinePaths(name)
    for attempt in range(ATTEMPTS):
        try:
            ask(paths, "ready", SILENCE_S, report)
            return paths.docker_socket
        except _Reachable:
            return paths.docker_socket
        except NoAgent:
            # The first time there is none yet; later it has ended between our start and our question.
            if attempt == ATTEMPTS - 1:
                raise
        start_agent(paths)
    raise AssertionError("not reached")


def start_agent(paths: MachinePaths) -> None:
    """Start the machine's agent unless somebody else just did, making the machine when it is missing. Raises `CoveError`."""
    with space.room(machines_dir(), f"the files of machine {paths.name}"), FileLock(paths.launch_lock) as lock:
        lock.acquire(LAUNCH_TIMEOUT_S, f"the start of machine {paths.name}")
        if not paths.settings.exists():
            from cove.machine import lifecycle

            if paths.name != DEFAULT_MACHINE:
                lifecycle.existing(paths.name)  # a name may be mistyped: only the machine that all have makes itself
            lifecycle.init(paths.name)
        paths.make_run_dir()
        from cove.machine import usual_socket

        usual_socket.create(paths)
        if answers(paths):
            return  # somebody else has started it meanwhile
        # An agent that is just ending lets go of the machine in a moment; only then can the next one have it.
        machine = FileLock(paths.lock)
        try:
            machine.acquire(AGENT_TIMEOUT_S, f"machine {paths.name}")
        except MachineBusy:
            raise out_of_reach(paths) from None
        machine.release()
        with paths.agent_log.open("ab") as log:
            words = [sys.executable, "-m", "cove.agent", paths.name]
            process = processes.start(words, log, inherited=(), folder=paths.folder, output=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as said:
            try:
                if not processes.says_something(said, AGENT_TIMEOUT_S):
                    raise AgentError(
                        f"the agent of machine {paths.name} did not start", f"its log is {paths.agent_log}"
                    )
            except BaseException:
                _kill(process)
                raise


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a supervisor and its agent, which are a session of their own."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
