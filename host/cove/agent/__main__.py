"""`python -m cove.agent NAME [READY_FD]`: the background processes of a machine. Started by `cove.agent.launch`.

What is imported here stays in the supervisor's memory.
"""

from __future__ import annotations

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
    ready_fd = int(sys.argv[2]) if len(sys.argv) > 2 else None
    rotate(paths.agent_log, MAX_LOG)
    lock = FileLock(paths.lock)
    try:
        lock.acquire(LOOKED_AT_S, "the machine")  # whoever asks whether it is free holds it for a moment
    except CoveError:
        return  # another agent has the machine: whoever started this one will find it
    descriptors.allow_many()
    paths.make_run_dir()
    listeners = Listeners(paths)

    def close_ready() -> None:
        nonlocal ready_fd
        if ready_fd is not None:
            os.close(ready_fd)
            ready_fd = None

    def listening() -> None:
        if ready_fd is not None:
            os.write(ready_fd, b"\n")
            close_ready()

    def agent(again: bool) -> int:
        from cove.agent.service import main as serve

        return serve(paths, listeners, listening, again)

    sys.exit(supervise(listeners, agent, close_ready, paths.agent_log))


if __name__ == "__main__":
    main()
