"""``python3 -m coved.host_engine``: the engine on a host that is reached by SSH, as `coved.remote` starts it, where all is in its place."""

import dataclasses
import sys

from coved.process import run
from coved.remote.places import own_name
from coved.vm import CONFIG

if __name__ == "__main__":
    sys.exit(run(dataclasses.replace(CONFIG, beside=own_name())))
