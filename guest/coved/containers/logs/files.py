"""The files of a container's log, oldest first: rotated ones, which may be compressed, and the one that is written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from coved.containers.logs.runs import BLOCK
from coved.runtime.logformats import read_compressed_head

_TRIES = 100


class LogSource:
    """An open file of a log. ``inode``: which it was when it was written; ``last_ns``: the time of its last line, 0 when
    that is not known."""

    def __init__(self, fd: int, compressed: bool) -> None:
        self.fd = fd
        self.compressed = compressed
        self.inode = os.fstat(fd).st_ino
        self.last_ns = 0
        if compressed:
            inode, self.last_ns = read_compressed_head(os.pread(fd, 64, 0))
            self.inode = inode or self.inode
        self._unpacker: Any = None
        self._packed = b""
        self._end: int | None = None

    def end_here(self) -> None:
        """What is written from now on is not read."""
        self._end = os.fstat(self.fd).st_size

    def read(self, size: int = BLOCK) -> bytes:
        """The next bytes, ``size`` at most, uncompressed; nothing at the end. Raises OSError, ValueError (not a compressed file)."""
        if not self.compressed:
            if self._end is not None:
                size = min(size, max(0, self._end - os.lseek(self.fd, 0, os.SEEK_CUR)))
            return os.read(self.fd, size)
        import zlib  # only for those who have such files

        if self._unpacker is None:
            self._unpacker = zlib.decompressobj(wbits=31)
        while not self._unpacker.eof:
            if not self._packed:
                self._packed = os.read(self.fd, BLOCK)
                if not self._packed:
                    return b""
            try:
                data: bytes = self._unpacker.decompress(self._packed, size)
            except zlib.error as error:
                raise ValueError(f"a compressed log file is damaged: {error}") from None
            self._packed = self._unpacker.unconsumed_tail
            if data:
                return data
        return b""

    def rewind(self) -> None:
        os.lseek(self.fd, 0, os.SEEK_SET)
        self._unpacker, self._packed = None, b""

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_all(path: Path) -> list[LogSource]:
    """All files of the log at ``path``, oldest first. Raises OSError."""
    for _ in range(_TRIES):
        sources = _open_newest_first(path)
        # A rotation in between moves everything on; the open file keeps its number from being given to another.
        if not sources or sources[0].compressed or _inode(path) in (sources[0].inode, 0):
            break
        close_all(sources)
    sources.reverse()
    return sources


def open_next(path: Path, before: LogSource) -> LogSource | None:
    """The file that came after ``before``, or the oldest when ``before`` is gone; None when it is the newest."""
    sources = open_all(path)
    at = next((index for index, one in enumerate(sources) if one.inode == before.inode), -1)
    chosen = sources[at + 1] if at + 1 < len(sources) else None
    close_all([one for one in sources if one is not chosen])
    return chosen


def is_rotated(path: Path, source: LogSource) -> bool:
    """Whether another file is written now, and ``source`` is complete."""
    return source.compressed or _inode(path) not in (source.inode, 0)


def close_all(sources: list[LogSource]) -> None:
    for source in sources:
        source.close()


def _open_newest_first(path: Path) -> list[LogSource]:
    sources: list[LogSource] = []
    try:
        with contextlib.suppress(FileNotFoundError):
            sources.append(_open(path, compressed=False))
        number = 1
        while True:
            name = f"{path}.{number}"
            try:
                sources.append(_open(name, compressed=False))
            except FileNotFoundError:
                # A file is removed only after its compressed form is complete and in place.
                sources.append(_open(f"{name}.gz", compressed=True))
            number += 1
    except FileNotFoundError:
        return sources
    except BaseException:
        close_all(sources)
        raise


def _open(path: Path | str, *, compressed: bool) -> LogSource:
    return LogSource(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), compressed)


def _inode(path: Path) -> int:
    """0 when there is no such file, as for a moment during a rotation."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
