"""`python -m cove.cli.tray_process NAME SECONDS`: the tray's process, with the way to the dashboard."""

from __future__ import annotations

import sys


def open_dashboard(name: str) -> None:
    """Raises `CoveError`."""
    from cove.cli.dashboard import PROCESS, show
    from cove.dashboard import launch
    from cove.errors import CoveError

    if not show(launch.address(name, PROCESS)):
        raise CoveError("no browser was found to open", "for the address alone: cove dashboard --no-open")


if __name__ == "__main__":
    from cove.tray import process

    sys.exit(process.run(sys.argv[1], float(sys.argv[2]), open_dashboard))
