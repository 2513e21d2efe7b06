"""Folders of Cove's that this user may not use, most often because a `sudo cove` has made them root's: what to do about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cove.errors import CoveError
from cove.machine.paths import cache_dir, config_dir, data_dir, runtime_dir


def refusal(error: PermissionError) -> CoveError | None:
    """`error` in words, with the way out; None when it is of no place of Cove's."""
    if not isinstance(error.filename, str | bytes):
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    fix = way_out(path)
    words = f"{path} cannot be used: {(error.strerror or str(error)).lower()}"
    return CoveError(words, f"make it yours: {fix}") if fix else None


def way_out(path: Path) -> str:
    """The command after which a path below Cove's folders can be used again; "" for other paths."""
    root = next((each for each in _roots() if path.is_relative_to(each)), None)
    if root is None:
        return ""
    if sys.platform == "win32":
        return f'takeown /R /F "{root}"'
    last = None
    for place in (*reversed([each for each in path.parents if each.is_relative_to(root)]), path):
        try:
            owner = place.lstat().st_uid
        except OSError:
            break
        if owner != os.getuid():
            return f"sudo chown -R $USER '{place}'"
        last = place
    return f"chmod -R u+rwX '{last}'" if last is not None else f"sudo install -d -o $USER '{root}'"


def _roots() -> list[Path]:
    home = os.environ.get("COVE_HOME")
    folders = [data_dir(), config_dir(), cache_dir(), runtime_dir()]
    return [*folders, Path(home).absolute()] if home else folders
