"""`python -m cove.agent NAME`: the background processes of a machine. Started by `cove.agent.launch`, which reads a line from it once
commands are answered, or the end.

What is imported here stays in the supervisor's memory.
"""

from __future__ import annotations

import contextlib
import os
import sys

from cove.agent.supervisor import Listeners, supervise
from cove.errors import CoveError
from cove.machine import descriptors
from cove.machine.files import MAX_LOG, rotate
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths

LOOKED_AT_S = 0.5


def main() -> None:
    paths = MachinePaths(sys.argv[1])
    rotate(paths.agent_log, MAX_LOG)
    lock = FileLock(paths.lock)
    try:
        lock.acquire(LOOKED_AT_S, "the machine")  # whoever asks whether it is free holds it for a moment
    except CoveError:
        return  # another agent has the machine: whoever started this one will find it
    descriptors.allow_many()
    paths.make_run_dir()
    listeners = Listeners(paths)

    def say_no_more() -> None:
        os.dup2(2, 1)  # from here on both are the log

    def listening() -> None:
        with contextlib.suppress(OSError):  # nobody waits any more; or it is another agent than the first
            os.write(1, b"\n")
        say_no_more()

    def agent(again: bool) -> int:
        from cove.agent.service import main as serve

        return serve(paths, listeners, listening, again)

    sys.exit(supervise(listeners, agent, say_no_more, paths.agent_log))


if __name__ == "__main__":
    main()
