"""From a command to an icon in the tray. Light to import."""

from __future__ import annotations

from importlib.metadata import version

from cove.errors import CoveError
from cove.support import companion
from cove.support.companion import Companion

KIND = "tray"
START_S = 30.0


def of(name: str) -> Companion:
    """The tray's process of a machine. Raises `CoveError` for a name that no machine can have."""
    return Companion(KIND, name)


def show(name: str, module: str, wait_s: float) -> bool:
    """Have an icon in the tray for a machine, by ``python -m module name wait``, and say whether there was none before. Raises
    `CoveError`."""
    ours = of(name)
    told, started = ours.ensure(version("cove"), ["-m", module, name, str(wait_s)], START_S + wait_s)
    if told is None:
        raise CoveError("the tray icon has gone again", f"its log is {ours.log}")
    return started


def end(name: str) -> bool:
    """Take the icon of a machine away, and say whether there was one. Raises `CoveError`."""
    return of(name).end()


def shown() -> list[str]:
    """The machines that may have one."""
    return companion.left(KIND)
