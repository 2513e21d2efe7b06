"""What each layer of an image brings, and what it takes away from those below it."""

from __future__ import annotations

import tarfile
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cove.contents import files
from cove.contents.archive import MAX_BYTES, MAX_PATH, Damaged, Hostile, Layer, Stream, layer, members
from cove.contents.findings import MAX_FINDINGS, Findings
from cove.contents.package import clean
from cove.errors import CoveError

MAX_ENTRIES = 5_000_000
"""Files of all layers."""
MAX_FOLDERS = 256
"""That a path leads through."""
MAX_CHARACTERS = 256 << 20
"""Of all that is kept of all layers, as text or for it."""
_FOLDER = 64
"""Counted for each folder of a path that is kept: a hash of its path is (`image`)."""
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_RESERVED = ".wh..wh."
"""Of aufs itself, and no file of the image."""


@dataclass(slots=True)
class Changes:
    """Of one layer: files that tell of packages, by path; paths that it removes; folders whose content below it hides; folders
    that have the name of a file that tells; and hashes of the paths of all that is no folder, and therefore takes the place of
    one. Hashes (8 bytes, keyed anew in each process), for a layer may have a million files, and which of them matter is known
    when all layers have been read.
    """

    told: dict[str, Findings] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    files: array[int] = field(default_factory=lambda: array("q"))


class Limits:
    """Counts over all layers of an image. Raises `Hostile`."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._bytes = self._entries = self._told = self._characters = 0

    def bytes(self, count: int) -> None:
        self._bytes += count
        if self._bytes > MAX_BYTES:
            raise Hostile(f"its layers have more than {MAX_BYTES} bytes")
        self._report(self._bytes)

    def entry(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise Hostile(f"its layers have more than {MAX_ENTRIES} files")

    def told(self, path: str, told: Findings | None = None) -> None:
        """That a path is kept, and what its file tells."""
        self._told += 1
        self._characters += len(path) + _FOLDER * path.count("/")
        if told:
            self._told += len(told.packages) + len(told.owned)
            self._characters += sum(map(len, told.owned)) + sum(package.characters for package in told.packages)
        if self._told > MAX_FINDINGS:
            raise Hostile(f"its layers tell of more than {MAX_FINDINGS} packages")
        if self._characters > MAX_CHARACTERS:
            raise Hostile(f"what its layers tell of packages has more than {MAX_CHARACTERS} characters")


def read(archive: Iterable[bytes], wanted: Iterable[str], report: Callable[[int], None]) -> dict[str, Changes]:
    """The layers with the diff ids `wanted`, of an image's archive (`docker save`), as it comes. `report` is told how many bytes of layers
    have been read. Raises `CoveError`.
    """
    limits = Limits(report)
    missing, found, reasons = set(wanted), dict[str, Changes](), list[str]()
    try:
        for member, reading in members(Stream(archive)):
            if not member.isreg():
                continue
            limits.entry()
            try:
                opened = layer(reading, limits.bytes)
                if opened is None:
                    continue
                changes = _changes(opened, limits)
                opened.drain()
            except Damaged as error:
                reasons.append(clean(f"{member.name}: {error}"))
                continue
            if opened.digest in missing:
                missing.discard(opened.digest)
                found[opened.digest] = changes
    except Damaged as error:
        reasons.append(str(error))
    if missing:
        because = f" ({reasons[-1]})" if reasons else ""
        raise CoveError(
            f"the engine's archive of the image lacks the layer {min(missing)}, or has a damaged one{because}"
        )
    return found


def _changes(source: Layer, limits: Limits) -> Changes:
    changes = Changes()
    linked: list[tuple[str, str]] = []
    for member, reading in members(source):
        limits.entry()
        path = _normal(member.name)
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            limits.told(folder)
            changes.hidden.add(folder)
        elif name.startswith(_RESERVED):
            continue
        elif name.startswith(_WHITEOUT):
            limits.told(path)
            changes.removed.add(f"{folder}/{name[len(_WHITEOUT) :]}".removeprefix("/"))
        elif member.isdir():
            if files.reader(path):
                limits.told(path)
                changes.folders.add(path)
        elif not path:
            continue
        else:
            changes.files.append(hash(path))
            changes.told.pop(path, None)
            if member.isreg() and (told := _told(path, member, reading)) is not None:
                limits.told(path, told)
                changes.told[path] = told
            elif member.islnk() and files.reader(path):
                linked.append((path, _normal(member.linkname)))
                limits.told(path)
                limits.told(linked[-1][1])
    for path, target in linked:
        unread = Findings(unread="file of a package manager that is a hard link to another")
        changes.told[path] = changes.told.get(target, unread)
    return changes


def _normal(name: str) -> str:
    """A path without a slash or `./` at its front. Raises `Hostile` for one that leads out of the image, or too deep."""
    if len(name) > MAX_PATH:
        raise Hostile(f"a path of {len(name)} characters")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Hostile("a path that leads out of it")
    if len(parts) > MAX_FOLDERS:
        raise Hostile(f"a path of {len(parts)} folders")
    return "/".join(parts)


def _told(path: str, member: tarfile.TarInfo, reading: Callable[[int], bytes]) -> Findings | None:
    reader = files.reader(path)
    if reader is None:
        unread = files.unread(path)
        return Findings(unread=unread) if unread else None
    if member.size > reader.most and not reader.cut:
        return Findings(unread=f"{reader.what} of more than {reader.most >> 20} MiB")
    data = b""
    while len(data) < reader.most and (piece := reading(reader.most - len(data))):
        data += piece
    try:
        return reader.read(data.decode("utf-8", "replace"))
    except ValueError:
        return Findings(unread=f"{reader.what} that cannot be read")
