"""Builds that have ended, on the disk: a file for each, with what is known of it and with what it has said.

A file is a message with its length before it (``Kept``), and behind that more of them, compressed (``StatusResponse``). It is
renamed into its place when it is whole. What a crash of the machine has left torn is found out when it is read, and removed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from coved.buildkit.messages import BuildHistoryRecord, StatusResponse
from coved.grpc.codec import Message, WireError, message, string

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

_LENGTH = struct.Struct(">I")
_MOST = 64 << 20
"""Of one message: a length beyond that is none."""
_NEW = ".new"
_SPEED = 1
"""Of the compression: a log is small by then, and somebody waits for the processor."""


@dataclass
class Kept(Message):
    record: BuildHistoryRecord | None = message(1, BuildHistoryRecord)
    context: str = string(2)
    """What the folder was called that the build was given."""


class Files:
    """``folder`` is theirs alone. All block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read_all(self) -> list[tuple[Kept, int]]:
        """With their sizes; what is none is removed."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self._folder.iterdir()):
                try:
                    with path.open("rb") as file:
                        kept = _read(file, Kept)
                    if path.name.endswith(_NEW) or kept is None or kept.record is None:
                        raise WireError("it is not whole")
                    found.append((kept, path.stat().st_size))
                except (OSError, WireError) as error:
                    log.warning("a build's record is removed, which cannot be read: %s", error)
                    path.unlink(missing_ok=True)
        return found

    def write(self, kept: Kept, messages: Iterable[StatusResponse]) -> int:
        """Gives the size. Raises OSError."""
        path = self._path(kept)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = path.with_name(path.name + _NEW)
        try:
            with new.open("wb") as file:
                _write(file, kept)
                with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_SPEED, mtime=0) as packed:
                    for each in messages:
                        _write(packed, each)
            size = new.stat().st_size
            new.rename(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        return size

    def rewrite(self, kept: Kept) -> None:
        """What is known of it has changed. Raises OSError."""
        self.write(kept, self.messages(kept))

    def messages(self, kept: Kept) -> list[StatusResponse]:
        """What it has said; as much as can be read. Raises FileNotFoundError."""
        found: list[StatusResponse] = []
        with self._path(kept).open("rb") as file:
            try:
                _read(file, Kept)
                with gzip.GzipFile(fileobj=file) as packed:
                    while (each := _read(packed, StatusResponse)) is not None:
                        found.append(each)
            except (OSError, EOFError, WireError) as error:
                log.warning("a build's log cannot be read whole: %s", error)
        return found

    def remove(self, kept: Kept) -> None:
        self._path(kept).unlink(missing_ok=True)

    def _path(self, kept: Kept) -> Path:
        assert kept.record is not None
        name = hashlib.sha256(kept.record.ref.encode("utf-8", "replace")).hexdigest()[:32]
        return self._folder / f"{name}.build"


def _write(file: BinaryIO | gzip.GzipFile, what: Message) -> None:
    data = what.encode()
    file.write(_LENGTH.pack(len(data)))
    file.write(data)


def _read(file: BinaryIO | gzip.GzipFile, kind: type[M]) -> M | None:
    """None: there are no more. Raises WireError."""
    head = file.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise WireError("it is cut short")
    (length,) = _LENGTH.unpack(head)
    data = file.read(length) if length <= _MOST else b""
    if len(data) != length:
        raise WireError("it is cut short")
    return kind.decode(data)
