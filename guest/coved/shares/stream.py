"""Folders that the agent itself serves: 9p over a port of the VM, for which the kernel has no transport of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coved.shares.table import Share


def mount(share: Share, place: Path, call: Callable[[str], None]) -> None:
    raise OSError(95, "Operation not supported")
