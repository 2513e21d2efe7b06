"""`python -m cove.agent NAME [READY_FD]`: the background process of a machine. Started by `cove.agent.launch`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from cove.errors import CoveError
from cove.machine.files import rotate
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths

MAX_LOG = 2 << 20
LOOKED_AT_S = 0.5


def main() -> None:
    paths = MachinePaths(sys.argv[1])
    ready_fd = int(sys.argv[2]) if len(sys.argv) > 2 else None
    rotate(paths.agent_log, MAX_LOG)
    logging.basicConfig(
        filename=paths.agent_log, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("paramiko").setLevel(logging.WARNING)
    logging.getLogger("qemu").setLevel(logging.ERROR)
    lock = FileLock(paths.lock)
    try:
        lock.acquire(LOOKED_AT_S, "the machine")  # whoever asks whether it is free holds it for a moment
    except CoveError:
        return  # another agent has the machine: whoever started this one will find it

    def listening() -> None:
        if ready_fd is not None:
            os.write(ready_fd, b"\n")
            os.close(ready_fd)

    from cove.agent.service import Service

    async def run() -> None:
        await Service(paths).run(listening)

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        logging.info("interrupted; the VM goes on")
    except Exception:
        logging.exception("the agent failed")
        sys.exit(1)
    logging.info("the agent ends")


if __name__ == "__main__":
    main()
