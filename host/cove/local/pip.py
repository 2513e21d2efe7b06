"""Whether pip can add a package to the Python that runs Cove: that of Cove's own packages has none, and a system's Python refuses it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path


def command(package: str) -> str | None:
    """What to type to have a package of PyPI where Cove finds it; None where that cannot be."""
    if find_spec("pip") is None:
        return None
    if sys.prefix == sys.base_prefix and (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists():
        return None  # PEP 668: as Homebrew's and Debian's
    words = [sys.executable, "-m", "pip", "install", package]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def hint(package: str, extra: str, *, alone: bool) -> str:
    """How to have a package of one of Cove's extras; `alone`: it is all of it."""
    if told := command(package):
        return f"install it: {told}   (it is {'' if alone else 'of '}Cove's extra [{extra}])"
    return (
        f"it cannot be added to this Cove, a package without pip: install Cove by pip instead, with its extra [{extra}]"
    )
