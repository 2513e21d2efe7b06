"""The Debian image that tests of the engine and of the command line share: in an emulated VM it takes two minutes to make."""

from __future__ import annotations

import os
import subprocess
import sys

NAME = "debian:13-slim"


def have_base_image(host: str, name: str = NAME) -> str:
    """Make `name` in the engine at the address `host`, unless it has it; return its id."""
    inspect = ["docker", "--host", host, "image", "inspect", "--format", "{{.Id}}", name]
    found = subprocess.run(inspect, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if found.returncode == 0:
        return found.stdout.strip()
    made = subprocess.run(
        [sys.executable, "-m", "cove", "image", "bootstrap", name],
        env=os.environ | {"COVE_HOST": host}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "done in" in made.stderr
    return made.stdout.strip()
