"""Docker's json-file log: one JSON object a line, ``{"log":"...\\n","stream":"stdout","time":"RFC 3339, ns"}``.

Whole chunks are turned into lines by a few bulk operations on bytes, with one time for all lines of a chunk: a
container that prints 200,000 lines must not cost its shim a second.
"""

import codecs
import contextlib
import errno
import os
import time

_MAX_LINE = 16 * 1024  # longer lines are split there, as docker does; the pieces but the last have no newline
_PLAIN = bytes(byte for byte in range(0x20, 0x80) if byte not in b'"\\<>&') + b"\n"
_ESCAPES = {byte: b"\\u%04x" % byte for byte in (*range(0x20), *b"<>&")}
_ESCAPES[ord("\r")] = b"\\r"
_ESCAPES[ord('"')] = b'\\"'
_LINE_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def _replace_invalid(error: UnicodeError) -> tuple[str, int]:
    """One replacement for every invalid byte, as Go's encoding/json writes it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\\ufffd", error.start + 1


codecs.register_error("go-json", _replace_invalid)


def escape(data: bytes) -> bytes:
    """The inside of JSON strings; newlines are left as they are, to be split at."""
    special = set(data.translate(None, _PLAIN))
    if not special:
        return data
    if 0x5C in special:
        data = data.replace(b"\\", b"\\\\")
    for byte in special:
        replacement = _ESCAPES.get(byte)
        if replacement is not None:
            data = data.replace(bytes((byte,)), replacement)
    if max(special) >= 0x80:
        for separator, replacement in _LINE_SEPARATORS:
            data = data.replace(separator, replacement)
        data = data.decode("utf-8", "go-json").encode("utf-8")
    return data


class _Clock:
    """RFC 3339 times; the part down to the second is made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def now(self) -> bytes:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        fraction = (b".%09d" % nanoseconds).rstrip(b"0")
        return self._text + (fraction if len(fraction) > 1 else b"") + b"Z"


class LogFile:
    """A container's log. Errors of writing (a full disk) never reach the container: lines are dropped and counted.

    ``dropped``: lines lost so far; ``last_error``: why.
    """

    def __init__(self, path: str, max_size: int | None = None, max_files: int = 1) -> None:
        self.path = path
        self.dropped = 0
        self.last_error = ""
        self._max_size = max_size
        self._max_files = max(1, max_files)
        self._clock = _Clock()
        self._tails: dict[str, bytes] = {}
        self._noted = 0
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)

    def feed(self, stream: str, data: bytes) -> None:
        """Take a chunk of output; whole lines are written at once, the rest waits for its newline."""
        tail = self._tails.get(stream)
        if tail:
            data = tail + data
        out: list[bytes] = []
        position, length = 0, len(data)
        lines_from = 0
        while length - position >= _MAX_LINE:
            newline = data.rfind(b"\n", position, position + _MAX_LINE)
            if newline >= 0:
                position = newline + 1
                continue
            if position > lines_from:
                out.append(self._lines(stream, data[lines_from:position]))
            end = _character_boundary(data, position, position + _MAX_LINE)
            out.append(self._piece(stream, data[position:end]))
            position = lines_from = end
        end = data.rfind(b"\n", position) + 1
        end = max(end, position)
        if end > lines_from:
            out.append(self._lines(stream, data[lines_from:end]))
        self._tails[stream] = data[end:]
        if out:
            self._write(b"".join(out))

    def finish(self, stream: str) -> None:
        """The stream has ended: write what has no newline."""
        tail = self._tails.pop(stream, b"")
        if tail:
            self._write(self._piece(stream, tail))

    def close(self) -> None:
        for stream in list(self._tails):
            self.finish(stream)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lines(self, stream: str, data: bytes) -> bytes:
        end = b'\\n","stream":"%s","time":"%s"}\n' % (stream.encode(), self._clock.now())
        body = escape(data[:-1]).replace(b"\n", end + b'{"log":"')
        return b'{"log":"' + body + end

    def _piece(self, stream: str, data: bytes) -> bytes:
        return b'{"log":"%s","stream":"%s","time":"%s"}\n' % (escape(data), stream.encode(), self._clock.now())

    def _write(self, lines: bytes) -> None:
        if self.dropped > self._noted:
            note = f"[cove: {self.dropped - self._noted} lines of this log were lost: {self.last_error}]\n"
            if self._append(self._lines("stderr", note.encode())):
                self._noted = self.dropped
        if self._max_size is None:
            if not self._append(lines):
                self.dropped += lines.count(b"\n")
            return
        while lines:
            if self._size >= self._max_size:
                self._rotate()
            # Up to and including the line that crosses the limit, as docker does.
            end = lines.find(b"\n", max(0, self._max_size - self._size - 1)) + 1 or len(lines)
            if not self._append(lines[:end]):
                self.dropped += lines.count(b"\n")
                return
            lines = lines[end:]

    def _append(self, lines: bytes) -> bool:
        """All or nothing: a line cut short would spoil the next one."""
        try:
            if self._fd < 0:
                self._fd = self._open()
                self._size = os.fstat(self._fd).st_size
            written = os.write(self._fd, lines)
            if written == len(lines):
                self._size += written
                return True
            os.ftruncate(self._fd, self._size)
            self.last_error = os.strerror(errno.ENOSPC)
        except OSError as error:
            self.last_error = error.strerror or str(error)
        return False

    def _rotate(self) -> None:
        with contextlib.suppress(OSError):  # a failed rotation shows as a failed write, which is counted
            os.close(self._fd)
            self._fd = -1
            if self._max_files == 1:
                os.unlink(self.path)
            else:
                for number in range(self._max_files - 1, 0, -1):
                    older = f"{self.path}.{number - 1}" if number > 1 else self.path
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(older, f"{self.path}.{number}")
            self._fd = self._open()
        self._size = 0


def _character_boundary(data: bytes, start: int, end: int) -> int:
    """At most three bytes back from ``end``, so that no UTF-8 character is cut in two."""
    for back in range(4):
        if end - back <= start or end >= len(data) or data[end - back] & 0xC0 != 0x80:
            return end - back if end - back > start else end
    return end
