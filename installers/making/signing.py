"""The hook for signatures: a program of the releaser's, since keys are nothing that a build should hold."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

VARIABLE = "COVE_SIGN"
"""Names a program. It is called with each file that can be signed, and signs it where it is, or writes a signature beside it."""
_TIMEOUT_S = 300


def program() -> str | None:
    return os.environ.get(VARIABLE) or None


def sign(*files: Path) -> None:
    """Raises `RuntimeError` when the program fails: what is thought to be signed must be."""
    if (call := program()) is None:
        return
    for file in files:
        done = subprocess.run([call, str(file)], stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"{call} {file} ended with status {done.returncode}: nothing has been signed")
