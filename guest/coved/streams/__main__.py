"""``python3 -m coved.streams PORT``: the streams' service, as PID 1 starts it again."""

import sys

from coved.streams.service import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
