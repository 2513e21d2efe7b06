"""``python3 -m coved.remote.engine``: the engine on a host that is reached by SSH, started by `coved.remote.init` where all is in its
place."""

import dataclasses
import sys

from coved.process import run
from coved.remote.places import own_name
from coved.vm import CONFIG

if __name__ == "__main__":
    sys.exit(run(dataclasses.replace(CONFIG, beside=own_name())))
