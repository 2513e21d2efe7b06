"""Chromium, and the way into a dashboard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machine_support import Machine

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 60_000
"""For what takes a moment: the machine may be emulated, and the computer busy."""
SOURCES = Path(__file__).parents[2] / "host" / "dashboard"
ASSETS = Path(__file__).parents[2] / "host" / "cove" / "dashboard" / "assets"


class Dashboard:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def address(self) -> str:
        """Opens it once."""
        told = json.loads(self.machine.cove("dashboard", "--no-open", "--json").stdout)
        return str(told["url"])

    def choose(self, **choices: str) -> None:
        """What its user has chosen before, of the page; with ``toured="yes"`` it opens with the overview, whatever the machine has."""
        place = self.machine.home / "config" / "dashboard.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(choices))

    def chosen(self) -> dict[str, str]:
        return dict(json.loads((self.machine.home / "config" / "dashboard.json").read_text()))


def comes_true(look: Callable[[], Any], what: str, bound_s: float = PATIENCE_MS / 1000) -> Any:
    """What docker's client tells may be a moment behind the page's click: look until it is so."""
    deadline = time.monotonic() + bound_s
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {bound_s:g} s: {what}")
        time.sleep(0.2)
