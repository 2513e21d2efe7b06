"""The files of a commit, put into a directory, and what git keeps beside them (gitrepository-layout(5), gitformat-index(5))."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from coved.build.errors import BuildError
from coved.build.files.places import DEPTH_MAX, OPEN_DIRECTORY, clean
from coved.build.remote.git_budget import Budget
from coved.build.remote.git_pack import BLOB, COMMIT, TAG, TREE, BadPack, Pack

_HELD_MAX = 256 << 20
"""Bytes of the trees on the way from the top to a file, which are in memory together."""
_STATUS = struct.Struct(">7I")
_TAGS_MAX = 10
_LINK_MAX = 4096
_NAME_MAX = 255
_SHOWN_MAX = 1000
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TIME = re.compile(rb"^committer [^\n]*> (\d{1,12}) [+-]\d+$", re.MULTILINE)
_FILE, _EXECUTABLE, _LINK, _DIRECTORY, _SUBMODULE = 0o100644, 0o100755, 0o120000, 0o040000, 0o160000


class Entry(NamedTuple):
    """Of git's index. ``path`` from the top; ``status`` as the index has it, None of a submodule."""

    path: str
    mode: int
    name: bytes
    status: bytes | None


class Checkout:
    """One commit's files. Blocking; ``wanted`` is asked from time to time."""

    def __init__(
        self, pack: Pack, commit: bytes, wanted: Callable[[], bool] = lambda: True, budget: Budget | None = None
    ) -> None:
        """``commit`` may be a tag's name as well. Raises BuildError, as all methods do."""
        self._pack = pack
        self._budget = budget or Budget()
        self._held = 0
        self._wanted = wanted
        self.commit = _peeled(pack, commit)
        self._text = pack.small(self.commit, COMMIT)
        if not self._text.startswith(b"tree ") or len(self._text) < 45:
            raise BadPack(f"commit {self.commit.hex()} has no tree")
        self.tree = _name(self._text[5:45])
        self.entries: list[Entry] = []

    @property
    def time(self) -> int:
        """When it was committed, in seconds since the epoch."""
        found = _TIME.search(self._text.partition(b"\n\n")[0])
        return int(found[1]) if found else 0

    def subtree(self, path: str) -> bytes:
        """The name of a folder's tree. Raises BuildError when there is none."""
        tree = self.tree
        for part in clean(path).split("/") if clean(path) else []:
            for mode, name, object in self._entries(tree):
                if name == part:
                    if mode != _DIRECTORY:
                        raise BuildError(f"invalid subdir {path}: {part} is not a directory")
                    tree = object
                    break
            else:
                raise BuildError(f"failed to open subdir {path}: {part}: no such file or directory")
        return tree

    def read(self, name: str, limit: int) -> bytes:
        """A file at the top, b"" when there is none. Raises BuildError for a larger one."""
        for mode, entry, object in self._entries(self.tree):
            if entry == name and mode in (_FILE, _EXECUTABLE):
                data = self._pack.small(object, BLOB)
                if len(data) > limit:
                    raise BuildError(f"{name} is larger than {limit} bytes")
                return data
        return b""

    def write(self, tree: bytes, target: Path, time: int | None = None) -> None:
        """Puts the files of a tree into an empty directory; ``entries`` tells of them then.

        Args:
            time: what they have, in seconds since the epoch; None is now.
        """
        fd = os.open(target, OPEN_DIRECTORY)
        try:
            self._directory(fd, tree, "", time, 0)
        finally:
            os.close(fd)

    def _directory(self, fd: int, tree: bytes, prefix: str, time: int | None, depth: int) -> None:
        if depth >= DEPTH_MAX:
            raise BuildError(f"directories are nested more than {DEPTH_MAX} deep at /{prefix[:200]}...")
        data = self._pack.small(tree, TREE)
        self._held += len(data)
        if self._held > _HELD_MAX:
            raise BuildError(f"the directories down to /{prefix[:200]} are larger than {_HELD_MAX} bytes")
        for mode, name, object in self._entries(tree, data):
            path = prefix + name
            if name in ("", ".", "..") or "/" in name or name.lower() == ".git" or len(name) > _NAME_MAX:
                raise BuildError(f"invalid path '{path[:_SHOWN_MAX]}'")
            self._budget.name(path)
            if mode in (_DIRECTORY, _SUBMODULE):
                os.mkdir(name, 0o755, dir_fd=fd)
                child = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
                try:
                    os.fchmod(child, 0o755)
                    if mode == _DIRECTORY:
                        self._directory(child, object, f"{path}/", time, depth + 1)
                    if time is not None:
                        os.utime(child, (time, time))
                finally:
                    os.close(child)
                if mode == _SUBMODULE:
                    self.entries.append(Entry(path, mode, object, None))
                continue
            status = self._link(fd, name, object, time) if mode == _LINK else self._file(fd, name, mode, object, time)
            self.entries.append(Entry(path, mode, object, _status(status)))
        self._held -= len(data)

    def _entries(self, tree: bytes, data: bytes | None = None) -> Iterator[tuple[int, str, bytes]]:
        for entry in _entries(tree, self._pack.small(tree, TREE) if data is None else data):
            if not self._wanted():
                raise BuildError("context canceled")
            yield entry

    def _file(self, fd: int, name: str, mode: int, object: bytes, time: int | None) -> os.stat_result:
        file = os.open(name, _CREATE, 0o600, dir_fd=fd)
        try:
            for piece in self._pack.blob(object):
                self._budget.write(len(piece))
                left = memoryview(piece)
                while left:
                    left = left[os.write(file, left) :]
            os.fchmod(file, 0o755 if mode == _EXECUTABLE else 0o644)
            if time is not None:
                os.utime(file, (time, time))
            return os.fstat(file)
        finally:
            os.close(file)

    def _link(self, fd: int, name: str, object: bytes, time: int | None) -> os.stat_result:
        text = self._pack.small(object, BLOB)
        if not 0 < len(text) < _LINK_MAX or b"\0" in text:
            raise BuildError(f"'{name}' is a symbolic link to nowhere")
        os.symlink(os.fsdecode(text), name, dir_fd=fd)
        if time is not None:
            os.utime(name, (time, time), dir_fd=fd, follow_symlinks=False)
        return os.stat(name, dir_fd=fd, follow_symlinks=False)


def _peeled(pack: Pack, name: bytes) -> bytes:
    for _ in range(_TAGS_MAX):
        if pack.kind(name) == COMMIT:
            return name
        text = pack.small(name, TAG)
        if not text.startswith(b"object "):
            break
        name = _name(text[7:47])
    raise BadPack(f"{name.hex()} is not a commit")


def _name(text: bytes) -> bytes:
    try:
        name = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        name = b""
    if len(name) != 20:
        raise BadPack("an object's name is none")
    return name


def _entries(tree: bytes, data: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Mode, name and object of each."""
    at = 0
    while at < len(data):
        space, end = data.find(b" ", at), data.find(b"\0", at)
        if not at < space < end or end + 21 > len(data):
            raise BadPack(f"tree {tree.hex()} is damaged")
        try:
            mode = int(data[at:space], 8)
        except ValueError:
            raise BadPack(f"tree {tree.hex()} is damaged") from None
        yield _plain(mode), os.fsdecode(data[space + 1 : end]), data[end + 1 : end + 21]
        at = end + 21


def _plain(mode: int) -> int:
    """git knows no other modes, but old repositories do."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFREG:
        return _EXECUTABLE if mode & 0o100 else _FILE
    if kind not in (_LINK, _DIRECTORY, _SUBMODULE):
        raise BuildError(f"unknown mode {mode:o} of a file")
    return kind


def keep(
    target: Path, pack: Pack, source: Path, checkout: Checkout, *, head: bytes, ref: str, remote: str,
    shallow: Sequence[str],
) -> None:  # fmt: skip
    """Makes ``target`` the ``.git`` of what was checked out beside it: HEAD is detached, as BuildKit has it.

    Args:
        source: the pack's file, which is moved.
        head: what ``ref`` ("" is none) names: the commit, or a tag of it.
    """
    for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
        (target / folder).mkdir(parents=True, mode=0o755)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755)
    config = (
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
        f'[remote "origin"]\n\turl = {_quoted(remote)}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'
    )
    name = f"objects/pack/pack-{pack.checksum}"
    _write(target / "config", config.encode("utf-8", "surrogateescape"))
    _write(target / "HEAD", f"{checkout.commit.hex()}\n".encode())
    _write(target / f"{name}.idx", pack.index())
    source.rename(target / f"{name}.pack")
    (target / f"{name}.pack").chmod(0o644)
    _write(target / "index", _index(checkout.entries))
    if shallow:
        _write(target / "shallow", "".join(f"{commit}\n" for commit in sorted(shallow)).encode())
    if ref.startswith("refs/") and clean(ref) == ref and not ref.endswith(".lock"):
        (target / ref).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        _write(target / ref, f"{head.hex()}\n".encode())


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o644)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _status(status: os.stat_result) -> bytes:
    """What the index has before and behind mode and owner: as small as that, as there may be a million."""
    times = (*divmod(status.st_ctime_ns, 10**9), *divmod(status.st_mtime_ns, 10**9))
    return _STATUS.pack(*(number & 0xFFFFFFFF for number in (*times, status.st_dev, status.st_ino, status.st_size)))


def _index(entries: Sequence[Entry]) -> bytes:
    """gitformat-index(5), version 2."""
    parts = [struct.pack(">4sII", b"DIRC", 2, len(entries))]
    for entry in sorted(entries, key=lambda one: os.fsencode(one.path)):
        path, status = os.fsencode(entry.path), entry.status or bytes(_STATUS.size)
        owner = struct.pack(">3I", entry.mode, 0, 0)
        fixed = status[:-4] + owner + status[-4:] + entry.name + struct.pack(">H", min(len(path), 0xFFF))
        parts.append(fixed + path + bytes(8 - (len(fixed) + len(path)) % 8))
    body = b"".join(parts)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()
