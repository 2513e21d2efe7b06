"""What is said after a start of the published ports that the machine could not have again."""

from __future__ import annotations

import sys

from cove.machine.paths import MachinePaths
from cove.support import lost_ports
from cove.support.lost_ports import LostPort


def told(name: str) -> list[LostPort]:
    """Say it on standard error, and return which they are."""
    lost = lost_ports.of_machine(MachinePaths(name))
    for one in lost:
        print(f"cove: the published port {one}", file=sys.stderr)
    if lost:
        print(f"      {lost_ports.way_out(len(lost))}", file=sys.stderr)
    return lost
