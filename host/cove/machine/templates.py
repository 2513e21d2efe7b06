"""VMs saved at the point where they wait for their seed (docs/decisions/0043): what machines start from.

They hold nothing of any machine, so that all machines of the same kind use the same one; they can be made again at any time.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from cove.machine.paths import cache_dir

KEEP = 2
"""So many stay, the latest used: a machine's, and one of the settings before it or of another machine."""
UNFINISHED_S = 3600
"""Nobody writes one for so long."""
_NAME = re.compile(r"([0-9a-f]{16})-[0-9a-f]{64}")
"""The beginning of the image's digest, and the hash of all that the template was made with."""


def folder() -> Path:
    return cache_dir() / "templates"


def prepare() -> None:
    """Make the folder, with room for one more. Raises `OSError`."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    _prune(KEEP - 1)


def name(image: str, kind: str) -> str:
    """The key of a template of the VM image with the digest `image`; `kind` is the driver's `state_kind`."""
    return f"{image[:16]}-{kind}"


def place(key: str) -> Path:
    """Where the template of that key is, or is to be."""
    return folder() / key


def find(key: str) -> Path | None:
    """The template of that key, which counts as used from now on."""
    path = place(key)
    try:
        os.utime(path)
    except OSError:
        return None
    return path


def discard(key: str) -> None:
    with contextlib.suppress(OSError):
        place(key).unlink()


def keep_only(images: Iterable[str]) -> None:
    """Remove the templates of other VM images than these: nothing will start from them."""
    beginnings = {digest[:16] for digest in images}
    with contextlib.suppress(OSError):  # no folder yet
        for path in folder().iterdir():
            if (found := _NAME.fullmatch(path.name)) and found[1] not in beginnings:
                discard(path.name)


def _prune(keep: int) -> None:
    """Remove those that have not been used for longest, and what was left unfinished."""
    used: dict[Path, float] = {}
    for path in folder().iterdir():
        with contextlib.suppress(OSError):  # another agent was faster
            used[path] = path.stat().st_mtime
    whole = sorted((path for path in used if _NAME.fullmatch(path.name)), key=lambda path: used[path], reverse=True)
    under_way = {path for path in used if path not in whole and time.time() - used[path] < UNFINISHED_S}
    for path in {*used} - {*whole[:keep]} - under_way:
        with contextlib.suppress(OSError):
            path.unlink()
