"""``python3 -m coved.vm [FD]``: the engine as PID 1 of the VM starts it, where all is in its place.

With FD, it loads what it needs and begins when that descriptor is at its end: PID 1 sets the system up meanwhile.
"""

import os
import sys
from pathlib import Path

from coved import __version__
from coved.boot.places import DATA, LINK_PORT, REGISTRIES, RUN, SOCKET
from coved.engine import Config
from coved.process import run

CONFIG = Config(Path(DATA), Path(RUN), Path(SOCKET), Path(LINK_PORT), __version__, registries=Path(REGISTRIES))


def main() -> int:
    held = [int(word) for word in sys.argv[1:]]

    def released() -> None:
        for descriptor in held:
            os.read(descriptor, 1)
            os.close(descriptor)

    return run(CONFIG, wait=released)


if __name__ == "__main__":
    sys.exit(main())
