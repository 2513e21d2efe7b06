"""Builds that have ended, on the disk: a file for each, with what is known of it and with what it has said.

A file is a message with its length before it (``Kept``), and behind that the log, compressed: messages with their lengths as well
(``StatusResponse``), in the form that BuildKit's content store has them in. It is renamed into its place when it is whole. What a crash
of the machine has left torn is found out when it is read, and removed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from coved.buildkit.messages import BuildHistoryRecord, StatusResponse
from coved.grpc.codec import Message, WireError, message, string

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">I")
_LENGTH = struct.Struct("<I")
_MOST = 64 << 20
"""Bytes of a record: a length beyond that is none."""
_PIECE = 1 << 16
_NEW = ".new"
_SPEED = 1
"""Of the compression: a log is small by then, and somebody waits for the processor."""


@dataclass
class Kept(Message):
    record: BuildHistoryRecord | None = message(1, BuildHistoryRecord)
    context: str = string(2)
    """What the folder was called that the build was given; "" for none that is known."""


class Files:
    """``folder`` is theirs alone. All block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read_all(self) -> list[tuple[Kept, int]]:
        """With their sizes. What is none is removed; what cannot be read now stays, it may be another time. Raises OSError."""
        try:
            paths = sorted(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = []
        for path in paths:
            try:
                with path.open("rb") as file:
                    kept = _read_head(file)
                if path.name.endswith(_NEW) or kept.record is None:
                    raise WireError("it is not whole")
                found.append((kept, path.stat().st_size))
            except OSError as error:
                log.warning("a build's record cannot be read: %s", error)
            except WireError as error:
                log.warning("a build's record is removed, which is none: %s", error)
                with contextlib.suppress(OSError):
                    path.unlink()
        return found

    def write(self, kept: Kept, log: bytes) -> int:
        """Gives the size. Raises OSError."""
        path = self._path(kept)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = path.with_name(path.name + _NEW)
        data = kept.encode()
        try:
            with new.open("wb") as file:
                file.write(_HEAD.pack(len(data)) + data)
                with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_SPEED, mtime=0) as packed:
                    packed.write(log)
            size = new.stat().st_size
            new.rename(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        return size

    def rewrite(self, kept: Kept) -> None:
        """What is known of it has changed. Raises OSError."""
        self.write(kept, self.log(kept))

    def log(self, kept: Kept) -> bytes:
        """What it has said, see ``packed``; as much as can be read. Raises FileNotFoundError."""
        found = bytearray()
        with self._path(kept).open("rb") as file:
            try:
                _read_head(file)
                with gzip.GzipFile(fileobj=file) as packed:
                    while piece := packed.read(_PIECE):
                        found += piece
            except (OSError, EOFError, zlib.error, WireError) as error:
                log.warning("a build's log cannot be read whole: %s", error)
        return bytes(found)

    def remove(self, kept: Kept) -> None:
        self._path(kept).unlink(missing_ok=True)

    def _path(self, kept: Kept) -> Path:
        assert kept.record is not None
        name = hashlib.sha256(kept.record.ref.encode("utf-8", "replace")).hexdigest()[:32]
        return self._folder / f"{name}.build"


def packed(messages: Iterable[StatusResponse]) -> bytes:
    """A log as BuildKit keeps it: each message with its length before it."""
    found = bytearray()
    for each in messages:
        data = each.encode()
        found += _LENGTH.pack(len(data))
        found += data
    return bytes(found)


def unpacked(log: bytes) -> Iterator[StatusResponse]:
    """As far as it is whole."""
    view, at = memoryview(log), 0
    while at + _LENGTH.size <= len(view):
        (length,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        if at + length > len(view):
            return
        yield StatusResponse.decode(view[at : at + length])
        at += length


def _read_head(file: BinaryIO) -> Kept:
    """Raises WireError."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise WireError("it is cut short")
    (length,) = _HEAD.unpack(head)
    data = file.read(length) if length <= _MOST else b""
    if len(data) != length:
        raise WireError("it is cut short")
    return Kept.decode(data)
