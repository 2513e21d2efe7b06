"""Layers that become one have done to what is below them what they did one after the other."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from coved.build.files.squashing import merge

pytestmark = pytest.mark.root


def white(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def made(path: Path, **files: str) -> Path:
    """A layer; a value of "-" is a whiteout, "/" a directory and "//" an opaque one."""
    path.mkdir()
    for name, content in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("/"):
            file.mkdir(exist_ok=True)
            if content == "//":
                os.setxattr(file, "trusted.overlay.opaque", b"y")
        elif content == "-":
            white(file)
        else:
            file.write_text(content)
    return path


def seen(path: Path) -> dict[str, str]:
    found = {}
    for file in sorted(path.rglob("*")):
        status = file.lstat()
        name = str(file.relative_to(path))
        if stat.S_ISDIR(status.st_mode):
            opaque = "trusted.overlay.opaque" in os.listxattr(file)
            found[name] = "//" if opaque else "/"
        else:
            found[name] = "-" if stat.S_ISCHR(status.st_mode) else file.read_text()
    return found


def test_merge(tmp_path: Path) -> None:
    layers = [
        made(tmp_path / "1", a="1", d="/", d__x="1", d__y="1", was_dir="/", was_dir__in="1", gone="1", below="-"),
        made(tmp_path / "2", a="2", d__x="-", d__z="2", was_dir="file", gone="-", new="//", new__n="2"),
        made(tmp_path / "3", d="//", d__only="3", below="back", new__m="3"),
    ]
    target = tmp_path / "target"
    target.mkdir()
    merge(layers, target)
    assert seen(target) == {
        "a": "2", "d": "//", "d/only": "3", "was_dir": "file", "gone": "-", "below": "back", "new": "//", "new/n": "2",
        "new/m": "3",
    }  # fmt: skip


def test_directories_keep_what_they_have(tmp_path: Path) -> None:
    layer = made(tmp_path / "1", d="/")
    (layer / "d").chmod(0o2711)
    os.chown(layer / "d", 5, 6)
    (layer / "d").chmod(0o2711)
    os.utime(layer / "d", ns=(7, 8))
    target = tmp_path / "target"
    target.mkdir()
    merge([layer], target)
    status = (target / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns) == (0o2711, 5, 6, 8)
    shutil.rmtree(target)
    assert (layer / "d").is_dir()
