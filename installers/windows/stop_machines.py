"""Stops all machines, before the files of their programs are replaced or removed."""

from __future__ import annotations

import subprocess
import sys

from cove.machine import lifecycle

for name in lifecycle.names():
    subprocess.run([sys.executable, "-m", "cove", "machine", "stop", name], stdin=subprocess.DEVNULL, timeout=120)
