"""``python3 -m coved.vm [held]``: the engine as PID 1 of the VM starts it, where all is in its place; see ``coved.boot.held``."""

import sys
from pathlib import Path

import coved.events.quiet
import coved.link.client
import coved.link.services  # noqa: F401 - loaded before the start, of which it would be a part
from coved import __version__
from coved.boot import held
from coved.boot.places import DATA, LINK_PORT, OUTSIDE, REGISTRIES, RUN, SOCKET, SSH_AGENT, SSH_AGENT_WAY
from coved.engine import Config
from coved.networks import nftables
from coved.process import run
from coved.rehearsal import hold_rules, rehearse

CONFIG = Config(
    Path(DATA), Path(RUN), Path(SOCKET), Path(LINK_PORT), __version__, registries=Path(REGISTRIES), outside=Path(OUTSIDE),
    ssh_agent=(Path(SSH_AGENT), Path(SSH_AGENT_WAY)),
)  # fmt: skip


def main() -> int:
    return run(CONFIG, wait=_wait if sys.argv[1:] == ["held"] else None)


def _wait() -> None:
    nftables.load()  # the only library that an engine loads while it starts
    hold_rules()
    held.wait("engine", rehearse)


if __name__ == "__main__":
    sys.exit(main())
