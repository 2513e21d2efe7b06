"""A container's log as the shim writes it: lines cut out of the streams, the file, its rotation."""

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, Any

from coved.runtime.logformats import JsonLines, Records, compressed_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from coved.runtime.logcompress import Compressor
    from coved.runtime.logformats import Format

_MAX_LINE = 16 * 1024  # longer lines are split there, as docker does; the pieces but the last have no newline
_SLICE = 16 * 1024  # at least a line; as much is encoded at once, for what is larger stays with the shim's heap
_NO_LIMIT = 1 << 62


class LogFile:
    """A container's log. Errors of writing (a full disk) never reach the container: lines are dropped and counted.

    ``path`` is the file that is written; ``path.1`` is the one before it, up to ``max_files`` in all, and with a
    ``compressor`` they become ``path.1.gz``. ``dropped``: lines lost so far; ``last_error``: why.
    """

    def __init__(
        self,
        path: str,
        max_size: int | None = None,
        max_files: int = 1,
        form: "Format | None" = None,
        compressor: "Compressor | None" = None,
    ) -> None:
        self.path = path
        self.dropped = 0
        self.last_error = ""
        self._max_size = max_size
        self._form = JsonLines() if form is None else form
        self._tails: dict[str, bytes] = {}
        self._stamps: dict[str, int] = {}  # of lines of which pieces are written
        self._last_stamp = 0
        self._noted = 0
        self._size = 0
        self._older = _Older(path, max(1, max_files) - 1, compressor)
        self._fd = -1
        self._open()
        # A crash of the machine may have cut the last entry short; nothing is to be appended to half of one.
        whole = self._form.intact(self._fd, self._size)
        if whole < self._size:
            os.ftruncate(self._fd, whole)
            self._size = whole

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size

    def feed(self, stream: str, data: bytes) -> None:
        """Take a chunk of output; whole lines are written at once, the rest waits for its newline."""
        tail = self._tails.get(stream)
        if tail:
            data = tail + data
        position, length = 0, len(data)
        lines_from = 0
        while length - position >= _MAX_LINE:
            newline = data.rfind(b"\n", position, position + _MAX_LINE)
            if newline >= 0:
                position = newline + 1
                continue
            if position > lines_from:
                self._write_lines(stream, data[lines_from:position])
            end = _character_boundary(data, position, position + _MAX_LINE)
            self._write_piece(stream, data[position:end])
            position = lines_from = end
        end = data.rfind(b"\n", position) + 1
        end = max(end, position)
        if end > lines_from:
            self._write_lines(stream, data[lines_from:end] if lines_from or end < length else data)
        self._tails[stream] = data[end:]

    def finish(self, stream: str) -> None:
        """The stream has ended: write what has no newline."""
        tail = self._tails.pop(stream, b"")
        if tail:
            self._write_piece(stream, tail)

    def position(self) -> tuple[int, int] | None:
        """The inode of the file that is written, and its size; None when there is none."""
        return (os.fstat(self._fd).st_ino, self._size) if self._fd >= 0 else None

    def unfinished(self) -> dict[str, bytes]:
        """By stream, what waits for its newline."""
        return {stream: tail for stream, tail in self._tails.items() if tail}

    def close(self) -> None:
        for stream in list(self._tails):
            self.finish(stream)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def settle(self, then: "Callable[[], None]") -> bool:
        """Whether a file is being compressed; then ``then`` is called when all are, or one failed."""
        return self._older.settle(then)

    def give_up(self) -> None:
        """Compress no further; what is half done goes, the original stays."""
        self._older.give_up()

    def _write_lines(self, stream: str, data: bytes) -> None:
        stamp = self._stamps.pop(stream, 0)
        if stamp:  # the end of a line that came in pieces has the time of its beginning
            first = data.index(b"\n") + 1
            self._write(stream, data[:first], stamp)
            data = data[first:]
        if data:
            self._write(stream, data, time.time_ns())

    def _write(self, stream: str, data: bytes, stamp: int) -> None:
        self._note_losses()
        position, length = 0, len(data)
        while position < length:
            end = length if length - position <= _SLICE else data.rfind(b"\n", position, position + _SLICE) + 1
            for block in self._form.lines(stream, data[position:end], stamp, self._room):
                self._append(block, stamp)
            position = end

    def _write_piece(self, stream: str, data: bytes) -> None:
        stamp = self._stamps.setdefault(stream, time.time_ns())
        self._note_losses()
        self._room()
        self._append(self._form.piece(stream, data, stamp), stamp)

    def _note_losses(self) -> None:
        lost = self.dropped - self._noted
        if lost:
            note = f"[cove: {lost} lines of this log were lost: {self.last_error}]\n"
            for block in self._form.lines("stderr", note.encode(), time.time_ns(), self._room):
                if self._put(block):
                    self._noted += lost

    def _append(self, block: bytes, stamp: int) -> None:
        if self._put(block):
            self._last_stamp = stamp
        else:
            self.dropped += self._form.count(block)

    def _room(self) -> int:
        """Bytes until the file is full; one that is full is rotated first."""
        if self._max_size is None:
            return _NO_LIMIT
        if self._size >= self._max_size:
            self._rotate()
        return self._max_size - self._size

    def _put(self, block: bytes) -> bool:
        """All or nothing: a line cut short would spoil the next one."""
        try:
            if self._fd < 0:
                self._open()
            written = os.write(self._fd, block)
            if written == len(block):
                self._size += written
                return True
            os.ftruncate(self._fd, self._size)
            self.last_error = os.strerror(errno.ENOSPC)
        except OSError as error:
            self.last_error = error.strerror or str(error)
        return False

    def _rotate(self) -> None:
        with contextlib.suppress(OSError):  # a failed rotation shows as a failed write, which is counted
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._older.push(self._last_stamp)
            self._open()


class _Older:
    """The files ``path.1``, ``path.2``, ..., each plain or compressed. Only renames happen here: no byte is moved."""

    def __init__(self, path: str, limit: int, compressor: "Compressor | None") -> None:
        self._path = path
        self._limit = limit
        self._compressor = compressor
        self._temporary = f"{path}.gz.new"
        self._files: list[tuple[str, int]] = []  # suffix and time of the last line, of path.1 and so on
        self._working_on = (
            0  # number of the file that is being compressed; 0 when none is, or it is not wanted any more
        )
        self._then: Callable[[], None] | None = None
        if limit:
            self._find()

    def _find(self) -> None:
        folder, _, name = self._path.rpartition("/")
        present = {one for one in os.listdir(folder or ".") if one.startswith(name)}
        if f"{name}.gz.new" in present:
            os.unlink(self._temporary)
        while True:
            number = len(self._files) + 1
            plain = f"{name}.{number}" in present
            if plain and f"{name}.{number}.gz" in present:  # a crash came between the two
                os.unlink(f"{self._path}.{number}.gz")
            elif not plain and f"{name}.{number}.gz" not in present:
                return
            self._files.append(("" if plain else ".gz", 0))

    def push(self, last_stamp: int) -> None:
        """``path`` becomes ``path.1``, the others move on, the oldest go. Raises OSError."""
        if not self._limit:
            os.unlink(self._path)
            return
        if not os.path.lexists(self._path):
            return  # somebody has removed it: there is nothing to keep
        if self._working_on:
            self._working_on += 1
            if self._working_on > self._limit and self._compressor is not None:
                self._compressor.kill()
        while len(self._files) >= self._limit:
            self._remove(len(self._files))
        for number in range(len(self._files), 0, -1):
            suffix = self._files[number - 1][0]
            os.rename(f"{self._path}.{number}{suffix}", f"{self._path}.{number + 1}{suffix}")
        os.rename(self._path, f"{self._path}.1")
        self._files.insert(0, ("", last_stamp))
        self._compress()

    def _remove(self, number: int) -> None:
        suffix, _ = self._files.pop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._path}.{number}{suffix}")

    def _compress(self) -> None:
        """The newest that is plain, when nothing else is under way: an older one may have to go before it is done."""
        if self._compressor is None or self._compressor.busy:
            return
        for number, (suffix, stamp) in enumerate(self._files, 1):
            if not suffix:
                with contextlib.suppress(OSError):  # no memory, no processes: it stays as it is
                    source = f"{self._path}.{number}"
                    extra = compressed_head(os.stat(source).st_ino, stamp)
                    self._compressor.start(source, self._temporary, extra, self._compressed)
                    self._working_on = number
                return

    def _compressed(self, success: bool) -> None:
        number, self._working_on = self._working_on, 0
        done = success and 0 < number <= len(self._files)
        try:
            if done:
                os.rename(self._temporary, f"{self._path}.{number}.gz")
                self._files[number - 1] = (".gz", self._files[number - 1][1])
                os.unlink(f"{self._path}.{number}")
            else:
                os.unlink(self._temporary)
        except OSError:
            pass
        if done:
            self._compress()
        if self._then is not None and self._compressor is not None and not self._compressor.busy:
            then, self._then = self._then, None
            then()

    def settle(self, then: "Callable[[], None]") -> bool:
        if self._compressor is None or not self._compressor.busy:
            return False
        self._then = then
        return True

    def give_up(self) -> None:
        if self._compressor is not None:
            self._compressor.kill()


def open_log(options: dict[str, Any], compressor: "Callable[[], Compressor]") -> LogFile:
    """The log that a create request asks for. Raises OSError, KeyError."""
    form = Records() if options["driver"] == "local" else JsonLines(options["attrs"].encode())
    return LogFile(
        options["path"], options["max_size"], options["max_files"], form, compressor() if options["compress"] else None
    )


def _character_boundary(data: bytes, start: int, end: int) -> int:
    """At most three bytes back from ``end``, so that no UTF-8 character is cut in two."""
    for back in range(4):
        if end - back <= start or end >= len(data) or data[end - back] & 0xC0 != 0x80:
            return end - back if end - back > start else end
    return end
