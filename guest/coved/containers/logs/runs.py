"""From the bytes of log files back to lines, in runs: lines that follow each other with one stream and one time.

The shim writes a chunk of output at once, with one time; whole runs are therefore taken apart by a few bulk operations.
"""

from __future__ import annotations

import calendar
import json
import os
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from coved.runtime.logformats import PIECE, RECORD_EXTRA, RECORD_HEAD, RECORD_TAIL, JsonLines, Records
from coved.times import parse_rfc3339_ns

BLOCK = 128 * 1024
_LONGEST = 16 * 1024 * 1024
"""More than any entry can take (16 KiB of text, escaped, and the attributes): what is longer is not a log."""
_STREAM_NAMES = ("", "stdout", "stderr")
_SUFFIX = re.compile(rb'","stream":"(stdout|stderr)"(?:,"attrs":(\{.*\}))?,"time":"([^"]*)"\}\n')
_START, _STREAM = b'{"log":"', b'","stream":"'
_WINDOW = 4096


@dataclass(slots=True)
class Run:
    """``lines`` without the ``end`` that each has: a newline, or nothing for pieces and lines that hold their own.

    ``stamp``: Unix nanoseconds, or RFC 3339 text as it was stored. ``attrs``: a JSON object, or nothing.
    """

    stream: str
    stamp: int | bytes
    attrs: bytes
    lines: list[bytes]
    end: bytes

    def time_ns(self) -> int:
        return self.stamp if isinstance(self.stamp, int) else _nanoseconds(self.stamp)

    def time_text(self) -> bytes:
        """RFC 3339 with nine digits, in UTC."""
        second, fraction = divmod(self.time_ns(), 1_000_000_000)
        return b"%s.%09dZ" % (_second_text(second), fraction)


class Decoder(Protocol):
    """One for each file."""

    def feed(self, data: bytes) -> list[Run]:
        """The runs that ``data`` completes; what is not complete waits for its rest. Raises ValueError: not a log."""

    def seek_tail(self, fd: int, lines: int) -> tuple[int, int]:
        """Go near the last ``lines`` lines; how many there are from there on, and how many of them to leave out."""


class JsonDecoder:
    """Docker's json-file."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Run]:
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if len(self._rest) > _LONGEST:
            raise ValueError("a line of the log is too long")
        runs: list[Run] = []
        position = 0
        while position < end:
            line_end = data.index(b"\n", position) + 1
            cut = data.find(_STREAM, position, line_end)
            suffix = data[cut:line_end] if cut >= 0 else b""
            match = _SUFFIX.fullmatch(suffix)
            if match is None or not data.startswith(_START, position):
                position = line_end  # cut short by a full disk
                continue
            run_end = _run_end(data, line_end, end, suffix)
            texts = data[position + len(_START) : run_end - len(suffix)]
            separator = suffix + _START
            # Other lines in between (a clock that was set back and forth) would still hold their line ends.
            if texts.count(b"\n") != texts.count(separator):
                run_end = line_end
                texts = data[position + len(_START) : cut]
            lines, line_feed = _texts(texts, separator)
            if lines:
                runs.append(Run(match[1].decode(), match[3], match[2] or b"", lines, line_feed))
            position = run_end
        return runs

    def seek_tail(self, fd: int, lines: int) -> tuple[int, int]:
        # Up to where whole lines are: one may be under way.
        end = position = JsonLines().intact(fd, os.fstat(fd).st_size)
        found = 0
        while position > 0 and lines > 0:
            start = max(0, position - BLOCK)
            block = os.pread(fd, position - start, start)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if start + at + 1 == end:
                    continue  # the last byte ends the last line and begins none
                found += 1
                if found == lines:
                    os.lseek(fd, start + at + 1, os.SEEK_SET)
                    return found, 0
            position = start
        os.lseek(fd, 0 if lines > 0 else end, os.SEEK_SET)
        return (found + 1 if end and lines > 0 else 0), 0


def _run_end(data: bytes, line_end: int, end: int, suffix: bytes) -> int:
    """Where the lines that end in ``suffix`` may end: found by looking further as long as that pays."""
    window = _WINDOW
    run_end = line_end
    while run_end < end:
        reach = min(end, line_end + window)
        last = data.rfind(suffix, run_end, reach)
        if last < 0:
            return run_end
        run_end = last + len(suffix)
        if run_end < line_end + window // 2:
            return run_end
        window *= 4
    return run_end


def _texts(texts: bytes, separator: bytes) -> tuple[list[bytes], bytes]:
    """The lines inside the JSON strings of a run, and the end that all of them have."""
    others = texts.count(separator)
    ended = b"\\n" + separator
    # When each line has a backslash at its end, and there are as many as lines, there is no other escape.
    all_ended = texts.endswith(b"\\n") and texts.count(ended) == others
    if all_ended and texts.count(b"\\") - separator.count(b"\\") * others == others + 1:
        return texts[:-2].split(ended), b"\n"
    lines = texts.split(separator)
    try:
        decoded = json.loads(b'["' + b'","'.join(lines) + b'"]')
    except ValueError:
        return [], b""
    return [text.encode("utf-8", "replace") for text in decoded], b""


class RecordDecoder:
    """Our own ``local`` form."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Run]:
        data = self._rest + data
        runs: list[Run] = []
        position = 0
        while position + RECORD_HEAD.size <= len(data):
            size, kind, stamp = RECORD_HEAD.unpack_from(data, position)
            end = position + size + 2 * RECORD_TAIL.size
            stream = kind & ~PIECE
            if size < RECORD_HEAD.size - RECORD_TAIL.size or size > _LONGEST or stream not in (1, 2):
                raise ValueError("not a record of a log")
            if end > len(data):
                break
            text = data[position + RECORD_HEAD.size : end - RECORD_TAIL.size]
            if kind & PIECE:
                runs.append(Run(_STREAM_NAMES[stream], stamp, b"", [text], b""))
            else:
                runs.append(Run(_STREAM_NAMES[stream], stamp, b"", text[:-1].split(b"\n"), b"\n"))
            position = end
        self._rest = data[position:]
        return runs

    def seek_tail(self, fd: int, lines: int) -> tuple[int, int]:
        position = Records().intact(fd, os.fstat(fd).st_size)
        found = 0
        while position >= RECORD_EXTRA and found < lines:
            (size,) = RECORD_TAIL.unpack(os.pread(fd, RECORD_TAIL.size, position - RECORD_TAIL.size))
            start = position - size - 2 * RECORD_TAIL.size
            if start < 0 or size > _LONGEST or size < RECORD_HEAD.size - RECORD_TAIL.size:
                break
            text = os.pread(fd, size - RECORD_HEAD.size + RECORD_TAIL.size, start + RECORD_HEAD.size)
            found += text.count(b"\n") or 1
            position = start
        os.lseek(fd, position, os.SEEK_SET)
        return min(found, lines), max(0, found - lines)


def decoder(driver: str) -> Decoder:
    return RecordDecoder() if driver == "local" else JsonDecoder()


@lru_cache(16)
def _second_text(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


@lru_cache(16)
def _second(text: bytes) -> int:
    return calendar.timegm(time.strptime(text.decode(), "%Y-%m-%dT%H:%M:%S"))


def _nanoseconds(stamp: bytes) -> int:
    """Of RFC 3339 text in UTC, as our own shim and dockerd write it; 0 for what is no time."""
    try:
        if stamp.endswith(b"Z"):
            return _second(stamp[:19]) * 1_000_000_000 + int(stamp[20:-1].ljust(9, b"0") or 0)
        return parse_rfc3339_ns(stamp.decode())
    except ValueError:
        return 0
