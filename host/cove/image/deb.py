"""Reads Debian binary packages: an ar archive with a tar archive in it (deb(5))."""

from __future__ import annotations

import io
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO

from cove.errors import CoveError
from cove.image.tree import Node, clean, file
from cove.machine import space

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_TAR_MODES = {"": "r|", ".gz": "r|gz", ".xz": "r|xz", ".bz2": "r|bz2"}


def files(path: Path, keeps: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, Node]]:
    """Yield each file of the package at `path` that `keeps` says yes to, by its path in the file system (no leading slash).

    Owners are kept as numbers. Raises `CoveError` for what is not a Debian package, has in it what leads out of the file system,
    or is a hard link to a file that is not kept.
    """
    with opened(path, "data.tar") as archive:
        yield from _tar_files(archive, keeps)


@contextmanager
def opened(path: Path, part: str) -> Iterator[tarfile.TarFile]:
    """The archive `part` ("control.tar" or "data.tar") of the package at `path`, to be read from front to end.

    Raises `CoveError` for what is not a Debian package; what goes wrong with its contents in the block becomes one as well.
    """
    try:
        with path.open("rb") as package:
            mode, data = _find(package, part)
        with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
            yield archive
    except (tarfile.TarError, LZMAError, zlib.error, ValueError, KeyError, EOFError, OSError) as error:
        if isinstance(error, OSError) and space.is_full(error):
            raise  # of what the block writes
        raise CoveError(f"the package {path.name} cannot be read: {error}") from error


def _find(package: IO[bytes], part: str) -> tuple[str, IO[bytes]]:
    if package.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("not an ar archive")
    while header := package.read(_AR_HEADER):
        if len(header) != _AR_HEADER or header[58:] != b"`\n":
            raise ValueError("a damaged ar archive")
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        size = int(header[48:58])
        if name.startswith(part):
            if name.removeprefix(part) not in _TAR_MODES:
                raise ValueError(f"its contents are compressed in a way that is not known here ({name})")
            return _TAR_MODES[name.removeprefix(part)], io.BytesIO(package.read(size))
        package.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError(f"it has no {part}")


def _tar_files(archive: tarfile.TarFile, keeps: Callable[[str], bool]) -> Iterator[tuple[str, Node]]:
    seen: dict[str, Node] = {}
    for member in archive:
        path = clean(member.name)
        if not keeps(path):
            continue  # unread: the interpreters that are not wanted alone are 400 MB
        permissions = stat.S_IMODE(member.mode)
        if member.isdir():
            node = Node(stat.S_IFDIR | permissions, uid=member.uid, gid=member.gid)
        elif member.issym():
            node = Node(stat.S_IFLNK | 0o777, member.linkname.encode(), member.uid, member.gid)
        elif member.islnk():
            target = clean(posixpath.normpath(member.linkname))
            if target not in seen:
                raise ValueError(f"{path} is a link to {target}, which is not kept")
            node = seen[target]
        elif member.isreg():
            stream = archive.extractfile(member)
            content = stream.read() if stream else b""
            node = Node(file(content, permissions).mode, content, member.uid, member.gid)
        else:
            raise ValueError(f"it has a special file, {member.name}")
        if node.is_file:
            seen[path] = node
        yield path, node
