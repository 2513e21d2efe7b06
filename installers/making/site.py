"""Lays wheels out as one folder that Python imports from. Compiled modules carry their Python's version in their names, and so those for
several Pythons lie side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

_DROPPED = re.compile(r"[^/]+\.dist-info/(RECORD|WHEEL|RECORD\.(jws|p7s))|[^/]+\.data/(scripts|headers|data)/.*")
"""What differs between the wheels of one release and nothing reads, and what does not belong where modules are."""
_MOVED = re.compile(r"[^/]+\.data/(?:purelib|platlib)/")


def lay(wheels: Iterable[Path], into: Path) -> None:
    """Raises `RuntimeError` when two wheels differ about a file, or one leads out of the folder."""
    for wheel in wheels:
        with ZipFile(wheel) as archive:
            for member in archive.infolist():
                if member.is_dir() or _DROPPED.fullmatch(member.filename):
                    continue
                name = PurePosixPath(_MOVED.sub("", member.filename, count=1))
                if name.is_absolute() or ".." in name.parts:
                    raise RuntimeError(f"{wheel.name} has {member.filename!r} in it")
                _write(into / name, archive.read(member), wheel)


def _write(path: Path, content: bytes, wheel: Path) -> None:
    if path.exists():
        if path.read_bytes() != content:
            raise RuntimeError(f"{wheel.name} has another {path.name} than a wheel before it: {path}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)
