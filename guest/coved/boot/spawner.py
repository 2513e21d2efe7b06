"""``python3 -m coved.boot.spawner``: the spawner as PID 1 starts it first, held until the data disk is there."""

import sys

from coved.boot import held
from coved.runtime import spawner

if __name__ == "__main__":
    held.wait("spawner")
    sys.exit(spawner.main())
