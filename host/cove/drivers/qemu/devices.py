"""Which devices a QEMU has been built with."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

from cove.machine.files import write_whole
from cove.machine.paths import cache_dir

TRIED_S = 10.0


def has(program: Path, device: str) -> bool:
    """As QEMU tells, which takes a tenth of a second; the answer is kept until QEMU is another one."""
    cache = cache_dir() / "qemu-devices.json"
    try:
        info = program.resolve().stat()
        key = f"{program.resolve()} {info.st_size} {info.st_mtime_ns} {device}"
    except OSError:
        return False
    kept = _kept(cache)
    if key not in kept:
        kept = {**dict(list(kept.items())[-8:]), key: _ask(program, device)}
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_whole(cache, json.dumps(kept).encode())
    return kept[key]


def _kept(cache: Path) -> dict[str, bool]:
    try:
        kept = json.loads(cache.read_text("utf-8"))
        return {key: value is True for key, value in kept.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _ask(program: Path, device: str) -> bool:
    try:
        said = subprocess.run(
            [program, "-device", f"{device},help"], stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIED_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0
