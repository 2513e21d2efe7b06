"""A local file or directory as a tar archive, in the order and with the entries that `docker cp` sends."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator

from cove.cli.cp.paths import LOCAL
from cove.cli.cp.tarball import (
    BLOCK,
    BLOCK_DEVICE,
    CAPABILITY,
    CHARACTER,
    DIRECTORY,
    END,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMBOLIC_LINK,
    Entry,
    header,
)
from cove.cli.errors import CliError, os_error_text

CHUNK = 1 << 18
_TYPES = {
    stat.S_IFREG: REGULAR,
    stat.S_IFLNK: SYMBOLIC_LINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}


def pack(path: str, rename: str, final: Callable[[str], str], unread: list[str]) -> Iterator[bytes]:
    """The archive of `path`, in chunks. The first word of names becomes `rename`, if there is one, and the names of
    entries what `final` makes of them.

    Directories and files that cannot be read, and sockets, are told on stderr and left out; the files are added to
    `unread`. (Docker breaks the archive off there.) Raises `CliError` when a file gets shorter while it is read.
    """
    directory, base = LOCAL.split(path)
    buffer = bytearray()
    seen: dict[tuple[int, int], str] = {}
    for file, relative in _walk(os.path.join(directory, base), base):
        name = relative.replace(os.sep, "/")
        if rename:
            name = name.replace(base, "" if rename == "/" else rename, 1)
        for piece in _member(file, name, final, seen, unread):
            buffer += piece
            if len(buffer) >= CHUNK:
                yield bytes(buffer)
                buffer.clear()
    yield bytes(buffer) + END


def _walk(top: str, base: str) -> Iterator[tuple[str, str]]:
    """(path, path in the archive) of `top` and all beneath it, directories before what is in them, by name."""
    pending = [(top, "." if base == os.sep else base)]
    while pending:
        file, relative = pending.pop()
        yield file, relative
        try:
            if not stat.S_ISDIR(os.lstat(file).st_mode):
                continue
            names = sorted(os.listdir(file), key=os.fsencode, reverse=True)
        except OSError as error:
            _tell(f"Tar: Can't stat file {os.path.dirname(top)} to tar: {os_error_text(error)}")
            continue
        inner = "" if base == os.sep and relative == "." else relative + os.sep
        pending += [(os.path.join(file, name), inner + name) for name in names]


def _member(
    file: str, name: str, final: Callable[[str], str], seen: dict[tuple[int, int], str], unread: list[str]
) -> Iterator[bytes]:
    try:
        found = os.lstat(file)
        entry = _entry(file, name, found)
        if entry is None:
            _tell(f"Can't add file {file} to tar: archive/tar: sockets not supported")
            return
        identity = (found.st_dev, found.st_ino)
        linked = entry.type != DIRECTORY and found.st_nlink > 1
        if linked and identity in seen:
            entry.type, entry.size, entry.link = HARD_LINK, 0, seen[identity]
        descriptor = os.open(file, _READ) if entry.type == REGULAR and entry.size else None
        if linked:
            seen.setdefault(identity, name)
    except OSError as error:
        _tell(f"Can't add file {file} to tar: {os_error_text(error, 'open')}")
        unread.append(file)
        return
    entry.name = final(entry.name)
    if entry.type == HARD_LINK:
        entry.link = final(entry.link)
    try:
        yield header(entry)
        if descriptor is not None:
            yield from _content(file, descriptor, entry.size)
    finally:
        if descriptor is not None:
            os.close(descriptor)


_READ = os.O_RDONLY
for _flag in ("O_BINARY", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):  # what became a pipe meanwhile is not waited for
    _READ |= getattr(os, _flag, 0)


def _content(file: str, descriptor: int, size: int) -> Iterator[bytes]:
    left = size
    while left:
        try:
            data = os.read(descriptor, min(left, CHUNK))
        except OSError as error:
            raise CliError(f"read {file}: {(error.strerror or str(error)).lower()}") from error
        if not data:
            raise CliError(f"archive/tar: missed writing {left} bytes")  # the file has become shorter meanwhile
        left -= len(data)
        yield data
    if size % BLOCK:
        yield bytes(-size % BLOCK)


def _entry(file: str, name: str, found: os.stat_result) -> Entry | None:
    """None for what no archive holds."""
    kind = _TYPES.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return None
    entry = Entry(
        name,
        kind,
        stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime=found.st_mtime_ns,
    )
    if kind == REGULAR:
        entry.size = found.st_size
        entry.capability = _capability(file)
    elif kind == SYMBOLIC_LINK:
        entry.link = os.readlink(file).replace(os.sep, "/")
    elif sys.platform != "win32" and kind in (CHARACTER, BLOCK_DEVICE):
        entry.device = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return entry


def _capability(file: str) -> bytes:
    """The file's capabilities, as they are without the user namespace that they may name (capabilities(7), version 3
    to 2).
    """
    if sys.platform != "linux":
        return b""
    try:
        value = os.getxattr(file, CAPABILITY, follow_symlinks=False)
    except OSError:
        return b""
    return value[:3] + b"\x02" + value[4:20] if len(value) > 20 and value[3] == 3 else value


def _tell(message: str) -> None:
    """A warning as docker's log prints it, on a terminal too."""
    import time

    from cove.cli.quoting import quoted

    zone = time.strftime("%z")
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
    print(f'time="{stamp}{offset}" level=error msg={quoted(message)}', file=sys.stderr)
