"""The first stage: packages unpacked into one tar archive, as dpkg leaves a system before it configures it.

Nothing is written but the archive: owners, modes, links and times stay as the packages have them on hosts that could not keep them.
"""

from __future__ import annotations

import copy
import hashlib
import io
import posixpath
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from cove.debian import dpkg
from cove.debian.filters import KEPT_DIRECTORIES, PathFilter
from cove.image import deb
from cove.image.tree import MERGED, clean

FIRST = ("base-files", "base-passwd")
"""Packages unpacked before the others: a directory has the owner and mode of who brings it first, and these say what is right."""


class Tree:
    """Writes the tree into `output`. `newest` is the time of its newest file, in seconds: nothing in it is newer than that."""

    def __init__(self, output: IO[bytes], paths: PathFilter) -> None:
        self._tar = tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._filter = paths
        self._files: set[str] = set()
        self._directories: set[str] = set()
        self._left_out: dict[str, tarfile.TarInfo] = {}
        self._links: list[tuple[str, tarfile.TarInfo]] = []
        self._packages: list[dpkg.Unpacked] = []
        self.newest = 0

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def unpack(self, path: Path, archived: Mapping[str, str]) -> None:
        """Add the package at `path`, of which the archive says `archived`.

        Raises `CoveError` when it cannot be read, or has a file that another one has.
        """
        with deb.opened(path, "control.tar") as archive:
            control = dpkg.Control.read(archive)
        conffiles, wanted = {}, set(control.conffiles)
        names = []
        with deb.opened(path, "data.tar") as archive:
            for member in archive:
                name = "/" + member.name.removeprefix("./").strip("/")
                names.append(name if name != "/" else "/.")
                md5 = self._unpack(archive, member, wanted=name in wanted)
                if md5 is not None:
                    conffiles[name] = md5
        ordered = {name: conffiles[name] for name in control.conffiles if name in conffiles}
        self._packages.append(dpkg.Unpacked(control, names, ordered, dict(archived)))

    def _unpack(self, archive: tarfile.TarFile, member: tarfile.TarInfo, *, wanted: bool) -> str | None:
        """Add one file; return its MD5 when `wanted`. Raises `ValueError`."""
        path = clean(member.name)
        self.newest = max(self.newest, int(member.mtime))
        entry = _plain(member, path)
        if member.isdir():
            if path in MERGED:  # as packages of before Debian's merge of /usr have them
                return None
            entry.mode &= 0o7777
            if path and self._filter.drops(path) and not KEPT_DIRECTORIES.fullmatch(path):
                self._left_out.setdefault(path, entry)
            else:
                self._directory(path, entry)
            return None
        if not (member.isreg() or member.issym() or member.islnk()):
            raise ValueError(f"it has a special file, {member.name}")
        if self._filter.drops(path):
            if member.issym():
                self._links.append((path, entry))  # it may be to a directory that is kept
            return None
        if path in self._files or path in self._directories:
            raise ValueError(f"/{path} is in another package too")
        self._parents(path)
        self._files.add(path)
        if member.issym():
            entry.linkname = member.linkname
            self._tar.addfile(entry)
            return None
        if member.islnk():
            entry.linkname = clean(posixpath.normpath(member.linkname))
            if entry.linkname not in self._files:
                raise ValueError(f"/{path} is a link to /{entry.linkname}, which is not there")
            self._tar.addfile(entry)
            return None
        stream = archive.extractfile(member)
        content = stream.read() if stream else b""
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))
        return hashlib.md5(content, usedforsecurity=False).hexdigest() if wanted else None

    def finish(self, files: Mapping[str, tuple[int, bytes]]) -> None:
        """Add dpkg's database and `files` (path to permissions and content), and end the archive."""
        for path in MERGED:
            if path not in self._files and f"usr/{path}" in self._directories:
                self._add(path, 0o777, b"", target=f"usr/{path}")
        for path, entry in self._links:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.linkname))
            if target in self._directories | self._files and path not in self._files:
                self._parents(path)
                self._files.add(path)
                self._tar.addfile(entry)
        for name, permissions, content in dpkg.database(self._packages):
            self._add(name, permissions, content)
        for name, (permissions, content) in files.items():
            self._add(name, permissions, content)
        self._tar.close()

    def _add(self, path: str, permissions: int, content: bytes, target: str = "") -> None:
        self._parents(path)
        entry = tarfile.TarInfo(path)
        entry.mode, entry.size, entry.mtime = permissions, len(content), self.newest
        if target:
            entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._files.add(path)
        self._tar.addfile(entry, io.BytesIO(content))

    def _parents(self, path: str) -> None:
        parent = posixpath.dirname(path)
        if not parent or parent in self._directories:
            return
        self._parents(parent)
        entry = self._left_out.get(parent)
        if entry is None:
            entry = tarfile.TarInfo(parent)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, self.newest
        self._directory(parent, entry)

    def _directory(self, path: str, entry: tarfile.TarInfo) -> None:
        if path in self._files:
            raise ValueError(f"/{path} is a directory here and none in another package")
        if path not in self._directories:
            self._parents(path)
            self._directories.add(path)
            entry.name = path or "."
            self._tar.addfile(entry)


def in_order(names: Iterable[str]) -> list[str]:
    """The order in which to unpack packages."""
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def _plain(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    entry = copy.copy(member)
    entry.name, entry.uname, entry.gname, entry.pax_headers = path, "", "", {}
    entry.mtime = int(member.mtime)
    return entry
