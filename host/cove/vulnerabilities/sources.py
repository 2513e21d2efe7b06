"""Where a database's entries come from: the files that osv.dev publishes, as a zip archive, or a folder of such or of their JSON files."""

from __future__ import annotations

import hashlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cove.errors import CoveError

MAX_ENTRY = 32 << 20
"""Bytes of one entry; those with the most versions have some."""


@dataclass(frozen=True, slots=True)
class Source:
    path: Path
    size: int
    modified_ns: int

    @property
    def is_archive(self) -> bool:
        return self.path.suffix.lower() == ".zip"


def find(path: Path) -> list[Source]:
    """Every file of the database at `path`, in order. Raises `CoveError` when there is none."""
    try:
        found = sorted(_walk(path), key=lambda source: str(source.path)) if path.is_dir() else [_source(path)]
    except OSError as error:
        raise CoveError(
            f"the vulnerability database {path} cannot be read: {error.strerror or error}", _HINT
        ) from error
    if not found:
        raise CoveError(f"there is no OSV database in {path}: no .zip and no .json file", _HINT)
    return found


_HINT = "give a file all.zip of osv.dev, or a folder of such files or of OSV's JSON files (docs/images-contents.md)"


def fingerprint(sources: list[Source]) -> str:
    """Another for files with other names, sizes or times."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.path}\0{source.size}\0{source.modified_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def entries(source: Source) -> Iterator[tuple[int, bytes | None]]:
    """How many bytes of the file each entry takes, and the entry; None for one that cannot be read. Raises `CoveError`."""
    if not source.is_archive:
        yield source.size, _read(source)
        return
    try:
        with zipfile.ZipFile(source.path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".json"):
                    yield member.compress_size, _unpacked(archive, member)
    except (OSError, zipfile.BadZipFile, ValueError) as error:  # names that are not UTF-8, though it says so
        raise CoveError(
            f"the vulnerability database {source.path} cannot be read: {error}", "fetch it again: it may be incomplete"
        ) from error


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | None:
    if member.file_size > MAX_ENTRY:
        return None
    try:
        return archive.read(member)  # never more than its size, which the archive's list tells
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError):
        return None


def _read(source: Source) -> bytes | None:
    if source.size > MAX_ENTRY:
        return None
    try:
        return source.path.read_bytes()
    except OSError:
        return None


def _walk(folder: Path) -> Iterator[Source]:
    with os.scandir(folder) as listed:
        for each in listed:
            if each.is_dir(follow_symlinks=False):
                yield from _walk(Path(each.path))
            elif each.name.lower().endswith((".zip", ".json")) and each.is_file():
                yield _source(Path(each.path))


def _source(path: Path) -> Source:
    found = path.stat()
    return Source(path, found.st_size, found.st_mtime_ns)
