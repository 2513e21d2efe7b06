"""``python3 -m coved.boot.streams PORT``: the streams' service as PID 1 starts it first, held until the machine begins."""

import sys

from coved.boot import held
from coved.streams.service import main

if __name__ == "__main__":
    held.wait("streams")
    sys.exit(main(sys.argv[1]))
