"""What carries the folders of a machine, and why that and nothing better."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cove.errors import SettingsError
from cove.machine.files import write_whole
from cove.machine.paths import cache_dir

TRIED_S = 10.0


@dataclass(frozen=True, slots=True)
class Choice:
    """``name`` is "virtiofs", "9p" or "agent"; ``reason`` says why nothing better, "" when there is nothing better."""

    name: str
    reason: str


def describe(name: str) -> str:
    """For people."""
    return {"virtiofs": "virtiofs", "9p": "QEMU's 9p", "agent": "Cove's own 9p"}.get(name, name)


def choose(wanted: str, program: Path) -> Choice:
    """What the settings want, or the best that works. Blocks for a moment. Raises `SettingsError` for what does not work here."""
    reasons: list[str] = []
    for name in ORDER if wanted == "auto" else (wanted,):
        if not (reason := unusable(name, program)):
            return Choice(name, "; ".join(reasons))
        reasons.append(reason)
    raise SettingsError(
        f"folder_driver: {wanted} does not work here: {'; '.join(reasons)}",
        "let Cove choose: cove config set folder_driver auto",
    )


ORDER = ("9p", "agent")
"""What is tried, first to last; virtiofs is by setting (docs/decisions/0046)."""


def unusable(name: str, program: Path) -> str:
    """Why a driver cannot be used here, "" when it can."""
    if name == "virtiofs":
        from cove.share import virtiofsd

        return virtiofsd.unusable(program)
    if name == "9p":
        return _no_virtfs(program)
    return "Cove's own 9p server does not run on Windows yet" if sys.platform == "win32" else ""


def _no_virtfs(program: Path) -> str:
    if sys.platform == "win32":
        return "QEMU for Windows has no 9p server"
    return "" if _has_device(program, "virtio-9p-pci") else f"{program.name} was built without its 9p server"


def has_virtiofs(program: Path) -> bool:
    """Whether QEMU can have a server of virtiofs beside it."""
    return _has_device(program, "vhost-user-fs-pci")


def _has_device(program: Path, device: str) -> bool:
    """As QEMU tells, which takes a tenth of a second; the answer is kept until QEMU is another one."""
    cache = cache_dir() / "folders.json"
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
