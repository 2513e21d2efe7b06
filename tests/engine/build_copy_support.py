"""Trees to copy from and into, and what came of it, as lines of text."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from coved.build.files.copying import copy
from coved.build.orders import CopyOrder
from coved.runtime import view

STAMP = 1_600_000_000
"""When everything in the sources was changed; what lies below was changed before."""
_KINDS = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFCHR: "c", stat.S_IFSOCK: "s"
}  # fmt: skip
_TEXT_MAX = 30

PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1001:1002::/:/x\n"
GROUP = "root:x:0:\nstaff:x:50:\n"


def write(root: Path, path: str, data: str | bytes, mode: int = 0o644) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data if isinstance(data, bytes) else data.encode())
    target.chmod(mode)
    return target


def link(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).symlink_to(text)


def stamp(root: Path, at: int = STAMP) -> None:
    for folder, folders, files in os.walk(root, topdown=False):
        for name in folders + files:
            os.utime(Path(folder, name), (at, at), follow_symlinks=False)
    os.utime(root, (at, at))


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(
            name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, mode: int = 0o640, target: str = ""
        ) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname, info.size = kind, mode, target, len(data)
            info.uid, info.gid, info.mtime = 7, 8, STAMP
            tar.addfile(info, io.BytesIO(data))

        add("td", kind=tarfile.DIRTYPE, mode=0o710)
        add("td/in.txt", b"in")
        add("keep.txt", b"new")
        add("sub/x", b"x")
        add("l", kind=tarfile.SYMTYPE, target="td/in.txt")
    return buffer.getvalue()


def make_source(root: Path) -> Path:
    write(root, "a.txt", "a")
    write(root, "run.sh", "#!", 0o755)
    write(root, "dir/one.txt", "1", 0o600)
    write(root, "dir/sub/two.txt", "2")
    write(root, "dir/sub/deep/three.md", "3")
    write(root, "dir2/b.md", "b")
    (root / "dir/empty").mkdir()
    (root / "dir").chmod(0o750)
    for name, text in {
        "dir/link": "one.txt", "link": "a.txt", "linkdir": "dir", "abs": "/a.txt", "out": "../../a.txt",
        "dangling": "nowhere", "loop": "loop",
    }.items():  # fmt: skip
        link(root, name, text)
    write(root, "hard/h1", "h")
    os.link(root / "hard/h1", root / "hard/h2")
    write(root, "arr[0].txt", "arr")
    write(root, "setid", "s", 0o4755)
    write(root, "x.tar", archive())
    write(root, "x.tgz", gzip.compress(archive(), mtime=0))
    write(root, "x.bin", archive())
    write(root, "no.tar", "no archive")
    write(root, "zero.tar", bytes(10240))
    stamp(root)
    return root


def give(root: Path, uid: int, gid: int) -> None:
    """Everything in a tree to somebody, as a stage may have it."""
    for path in [*root.rglob("*")]:
        found = path.lstat()
        os.chown(path, uid, gid, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode))


def make_base(root: Path) -> Path:
    write(root, "etc/passwd", PASSWD)
    write(root, "etc/group", GROUP)
    write(root, "existing/keep.txt", "old")
    write(root, "existing/one.txt", "old")
    (root / "existing").chmod(0o700)
    write(root, "file", "file")
    write(root, "conflict/sub", "file")
    (root / "conflict2/one.txt").mkdir(parents=True)
    for name, text in {
        "todir": "existing", "tonew": "/made/later", "escape": "../../../../existing", "tofile": "file",
        "conflict3/sub": "../existing", "conflict3/one.txt": "../file",
    }.items():  # fmt: skip
        link(root, name, text)
    stamp(root, STAMP - 1000)
    return root


class Target:
    """A file system that files are copied into."""

    def __init__(self, place: Path, lower: Path | None) -> None:
        self.upper, self.work, self._empty = place / "upper", place / "work", place / "empty"
        for path in (self.upper, self.work, self._empty):
            path.mkdir(parents=True)
        self.lower = [lower or self._empty]

    def copy(self, order: CopyOrder, source_dirs: list[Path] | None = None) -> None:
        copy(order, self.lower, self.upper, self.work, source_dirs or [])

    def listing(self) -> dict[str, str]:
        return listing([self.upper, *self.lower])

    def changes(self) -> list[str]:
        """What is new or different, a line each, and "- PATH" for what is gone."""
        before, after = listing(self.lower), self.listing()
        gone = [f"- {path}" for path in before if path not in after]
        return [f"{path} {what}" for path, what in sorted(after.items()) if before.get(path) != what] + gone


def listing(layers: list[Path]) -> dict[str, str]:
    """Path to kind, mode, owner, content, and T when it has the sources' time."""
    with view.of_image(layers) as root:
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
        try:
            return dict(_entries(directory, "", {}))
        finally:
            os.close(directory)


def _entries(directory: int, prefix: str, seen: dict[int, str]) -> Iterator[tuple[str, str]]:
    for name in sorted(os.listdir(directory)):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        path = f"{prefix}/{name}"
        kind, content = _KINDS[stat.S_IFMT(found.st_mode)], ""
        if kind == "l":
            content = os.readlink(name, dir_fd=directory)
        elif kind == "f" and found.st_ino in seen and found.st_nlink > 1:
            kind, content = "h", seen[found.st_ino]
        elif kind == "f":
            seen[found.st_ino] = path
            with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as file:
                data = file.read()
            content = f"<{data.decode()}>" if len(data) < _TEXT_MAX else f"{len(data)} bytes"
        words = [kind, f"{stat.S_IMODE(found.st_mode):o}", f"{found.st_uid}:{found.st_gid}", content]
        yield path, " ".join([word for word in words if word] + ["T"] * (found.st_mtime == STAMP))
        if kind == "d":
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
            yield from _entries(child, path, seen)
            os.close(child)
