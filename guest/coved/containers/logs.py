"""Reading json-file logs: from the end, by time, and as they grow."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from coved.containers.container import Container
from coved.times import parse_rfc3339_ns

_IN_MODIFY, _IN_MOVE_SELF, _IN_CLOEXEC, _IN_NONBLOCK = 0x2, 0x800, 0o2000000, 0o4000
_STREAMS = {"stdout": 1, "stderr": 2}
_BATCH = 1 << 16


@dataclass(frozen=True)
class Selection:
    """What of a log is wanted. ``tail`` None is all; times in Unix nanoseconds, 0 is no limit. ``frames``: with Docker's headers."""

    stdout: bool = True
    stderr: bool = True
    tail: int | None = None
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    follow: bool = False
    frames: bool = True


async def read(container: Container, path: Path, wanted: Selection) -> AsyncIterator[bytes]:
    """The selected lines, in chunks. With ``follow`` until the container ends, or ``until_ns`` is passed."""
    formatter = _Formatter(wanted)
    watch = _Watch(path) if wanted.follow else None
    file: BufferedReader | None = None
    try:
        for stored in _files(path, wanted.tail):
            file = stored
            while data := stored.read(_BATCH):
                if chunk := formatter.feed(data):
                    yield chunk
                await asyncio.sleep(0)  # a long log must not hold up the engine
        while watch is not None and not formatter.finished:
            # Looked at before the read: what was written until then is read below.
            over = not container.state.running and container.ending is None
            if file is None or watch.rotated(file):
                file = _reopen(file, path)
                watch.again(path)
            data = file.read(_BATCH) if file is not None else b""
            if data:
                if chunk := formatter.feed(data):
                    yield chunk
            elif over:
                return
            else:
                await watch.wait(container)
    finally:
        if file is not None:
            file.close()
        if watch is not None:
            watch.close()


def _files(path: Path, tail: int | None) -> Iterator[BufferedReader]:
    """The log's files, oldest first, the first one positioned so that ``tail`` lines are left in all. The last stays open."""
    paths = [path, *(old for number in range(1, 100) if (old := path.with_name(f"{path.name}.{number}")).exists())]
    chosen: list[BufferedReader] = []
    left = tail
    for one in paths:
        if left is not None and left <= 0 and chosen:
            break
        try:
            file = one.open("rb")
        except FileNotFoundError:
            break  # nothing was written yet
        if left is not None:
            left -= _seek_tail(file, left)
        chosen.append(file)
    for index, file in enumerate(reversed(chosen)):
        yield file
        if index < len(chosen) - 1:
            file.close()


def _seek_tail(file: BufferedReader, lines: int) -> int:
    """Go to where the last ``lines`` lines begin; return how many there are from there on."""
    position = file.seek(0, os.SEEK_END)
    found = 0
    # The last byte ends the last line and begins none.
    end = position
    while position > 0 and lines > 0:
        start = max(0, position - _BATCH)
        file.seek(start)
        block = file.read(position - start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if start + at + 1 == end:
                continue
            found += 1
            if found == lines:
                file.seek(start + at + 1)
                return found
        position = start
    file.seek(0 if lines > 0 else end)
    return found + 1 if end and lines > 0 else 0


def _reopen(file: BufferedReader | None, path: Path) -> BufferedReader | None:
    try:
        new = path.open("rb")
    except FileNotFoundError:
        return file
    if file is not None:
        file.close()
    return new


class _Formatter:
    """From lines of the log file to what a client gets; a line that is not complete waits for its rest."""

    def __init__(self, wanted: Selection) -> None:
        self._wanted = wanted
        self._rest = b""
        self.finished = False
        """``until_ns`` is passed."""

    def feed(self, data: bytes) -> bytes:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        result: list[bytes] = []
        wanted = self._wanted
        for line in lines:
            try:
                entry = json.loads(line)
                text, stream, stamp = entry["log"].encode(), entry["stream"], entry["time"]
            except (ValueError, KeyError, AttributeError, UnicodeEncodeError):
                continue  # a line that a full disk cut short
            if wanted.since_ns or wanted.until_ns:
                at = parse_rfc3339_ns(stamp)
                if at < wanted.since_ns:
                    continue
                if wanted.until_ns and at > wanted.until_ns:
                    self.finished = True
                    break
            if not (wanted.stdout if stream == "stdout" else wanted.stderr):
                continue
            if wanted.timestamps:
                text = stamp.encode() + b" " + text
            if wanted.frames:
                result.append(struct.pack(">BxxxL", _STREAMS.get(stream, 1), len(text)))
            result.append(text)
        return b"".join(result)


class _Watch:
    """Waits for a file to grow (inotify(7)): nothing is polled."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "inotify")
        self._path = path
        self.again(path)

    def again(self, path: Path) -> None:
        self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY | _IN_MOVE_SELF)

    def rotated(self, file: BufferedReader) -> bool:
        """Whether the path names another file now than the open one."""
        try:
            return os.fstat(file.fileno()).st_ino != self._path.stat().st_ino
        except OSError:
            return False

    async def wait(self, container: Container) -> None:
        """Return when the file has changed or the container has ended."""
        loop = asyncio.get_running_loop()
        changed: asyncio.Future[int] = loop.create_future()
        container.exit_waiters.add(changed)
        loop.add_reader(self._fd, _resolve, changed)
        try:
            await changed
        finally:
            loop.remove_reader(self._fd)
            container.exit_waiters.discard(changed)
        try:
            os.read(self._fd, 4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self._fd)


def _resolve(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_result(0)
