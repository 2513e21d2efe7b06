"""Reading a container's log: from the end, by time, across rotated files, and as it grows."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from coved.containers.container import Container
from coved.containers.logs.files import LogSource, close_all, is_rotated, open_all, open_next
from coved.containers.logs.runs import Decoder, Run, decoder
from coved.containers.logs.watch import LogWatches
from coved.errors import Conflict, NotImplementedByEngine
from coved.finishing import to_the_end

log = logging.getLogger(__name__)

_STREAMS = {"stdout": 1, "stderr": 2}
_watches = LogWatches()
_SMALL = 64 * 1024
"""Bytes of a file in which the last lines are found sooner than by a thread, in a millisecond or so at most."""


@dataclass(frozen=True)
class Selection:
    """What of a log is wanted. ``tail`` None is all; times in Unix nanoseconds, 0 is no limit. ``details``: with the
    attributes that log options add. ``frames``: with Docker's headers."""

    stdout: bool = True
    stderr: bool = True
    tail: int | None = None
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    details: bool = False
    follow: bool = False
    frames: bool = True


def must_be_readable(container: Container) -> None:
    """Raises Conflict, NotImplementedByEngine (the driver keeps nothing) in Docker's words."""
    if container.state.status in ("removing", "dead"):
        raise Conflict("can not get logs from container which is dead or marked for removal")
    if container.host_config["LogConfig"]["Type"] == "none":
        raise NotImplementedByEngine("configured logging driver does not support reading")


async def read(container: Container, path: Path, wanted: Selection) -> AsyncGenerator[bytes, None]:
    """The selected lines, in chunks. With ``follow`` until the container ends; one that does not run has ended."""
    formatter = Formatter(wanted)
    driver = container.host_config["LogConfig"]["Type"]
    follower = _Follower(container, path) if wanted.follow and container.state.running else None
    sources: list[LogSource] = []
    try:
        sources = open_all(path)
        last: LogSource | None = None
        decode = decoder(driver)
        chosen = await _choose(sources, driver, wanted)
        if follower is None:  # or it would have no end, where more is written than the client takes
            for source, _ in chosen:
                source.end_here()
        for source, omitted in chosen:
            last, decode = source, decoder(driver)
            formatter.omit = omitted
            async for chunk in _rest_of(source, decode, formatter):
                yield chunk
            if formatter.finished:
                return
        if follower is not None:
            async for chunk in follower.read(last, decode, driver, formatter):
                yield chunk
    finally:
        close_all(sources)
        if follower is not None:
            follower.close()


async def _rest_of(source: LogSource, decode: Decoder, formatter: Formatter) -> AsyncIterator[bytes]:
    """What is in a file from where it stands; what is no log (a damaged file) is passed over, as dockerd does it."""
    try:
        while (data := source.read()) and not formatter.finished:
            if chunk := formatter.format(decode.feed(data)):
                yield chunk
            await asyncio.sleep(0)  # a long log must not hold up the engine
    except (OSError, ValueError) as error:
        log.warning("reading a log: %s", error)


async def _choose(sources: list[LogSource], driver: str, wanted: Selection) -> list[tuple[LogSource, int]]:
    """The files to read, oldest first, each where reading is to begin, and with how many lines to leave out there."""
    if wanted.tail is None:
        return [
            (one, 0)
            for one in sources
            if not (one.last_ns and one.last_ns < wanted.since_ns) or one is sources[-1]
        ]  # fmt: skip
    left = wanted.tail
    chosen: list[tuple[LogSource, int]] = []
    for source in reversed(sources):
        if left <= 0 and chosen:
            break
        if source.compressed:
            count = await _count(source, driver)
            source.rewind()
            found, omitted = min(count, left), max(0, count - left)
        else:
            found, omitted = await _seek_tail(source, driver, left)
        left -= found
        chosen.append((source, omitted))
    chosen.reverse()
    return chosen


async def _seek_tail(source: LogSource, driver: str, lines: int) -> tuple[int, int]:
    """As a decoder does it. The whole of a file may have to be read."""
    seek = decoder(driver).seek_tail
    if os.fstat(source.fd).st_size <= _SMALL:
        return seek(source.fd, lines)
    # To its end, or another file might have the descriptor.
    return await to_the_end(asyncio.to_thread(seek, source.fd, lines))


async def _count(source: LogSource, driver: str) -> int:
    decode, count = decoder(driver), 0
    try:
        while data := source.read():
            count += sum(len(run.lines) for run in decode.feed(data))
            await asyncio.sleep(0)
    except (OSError, ValueError):
        pass  # told when it is read
    return count


class Formatter:
    """From runs of lines to what a client gets."""

    def __init__(self, wanted: Selection) -> None:
        self._wanted = wanted
        self._since_ns = wanted.since_ns
        self._heads = {name: _Heads(number) for name, number in _STREAMS.items()}
        self._attributes: dict[bytes, bytes] = {}
        self.omit = 0
        """How many lines to leave out before the first."""
        self.finished = False
        """``until_ns`` is passed."""

    def format(self, runs: list[Run]) -> bytes:
        wanted = self._wanted
        result: list[bytes] = []
        for run in runs:
            if self.omit:
                omitted = min(self.omit, len(run.lines))
                run.lines = run.lines[omitted:]
                self.omit -= omitted
                if not run.lines:
                    continue
            if self._since_ns:
                if run.time_ns() < self._since_ns:
                    continue
                self._since_ns = 0  # as dockerd: times may go backwards after that
            if wanted.until_ns and run.time_ns() > wanted.until_ns:
                self.finished = True
                break
            if wanted.stdout if run.stream == "stdout" else wanted.stderr:
                self._add(result, run)
        return b"".join(result)

    def _add(self, result: list[bytes], run: Run) -> None:
        prefix = b""
        if self._wanted.timestamps:
            prefix = run.time_text() + b" "
        if self._wanted.details:
            prefix += self._details(run.attrs)
        end = run.end
        if self._wanted.frames:
            heads, more = self._heads[run.stream], len(prefix) + len(end)
            if prefix:
                parts = [heads[len(line) + more] + prefix + line for line in run.lines]
            elif end:
                parts = [heads[len(line) + 1] + line for line in run.lines]
            else:
                parts = [heads[len(line)] + line for line in run.lines]
        else:
            parts = [prefix + line for line in run.lines] if prefix else run.lines
        result.append(end.join(parts))
        result.append(end)

    def _details(self, attrs: bytes) -> bytes:
        known = self._attributes.get(attrs)
        if known is None:
            from urllib.parse import quote_plus

            values = json.loads(attrs) if attrs else {}
            text = ",".join(f"{quote_plus(key)}={quote_plus(str(value))}" for key, value in sorted(values.items()))
            known = self._attributes[attrs] = text.encode() + b" "
        return known


class _Heads(dict[int, bytes]):
    """Frame headers of one stream by the length of what follows."""

    def __init__(self, stream: int) -> None:
        super().__init__()
        self._stream = stream

    def __missing__(self, length: int) -> bytes:
        made = struct.pack(">BxxxL", self._stream, length)
        if len(self) < 32 * 1024:
            self[length] = made
        return made


class _Follower:
    """Goes on where the files end, until the container has. Made before the files are read, so that nothing is missed."""

    def __init__(self, container: Container, path: Path) -> None:
        self._container = container
        self._path = path
        self._woken = asyncio.Event()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ended.add_done_callback(lambda future: self._woken.set())
        self._end_watch = _watches.add(path, self._woken.set)
        container.exit_waiters.add(self._ended)
        self._own: LogSource | None = None

    async def read(
        self, source: LogSource | None, decode: Decoder, driver: str, formatter: Formatter
    ) -> AsyncIterator[bytes]:
        while not formatter.finished:
            self._woken.clear()
            # Looked at before the read: what was written until then is read below.
            over = self._ended.done()
            complete = source is None or is_rotated(self._path, source)
            if source is not None:
                async for chunk in _rest_of(source, decode, formatter):
                    yield chunk
            if complete and (following := self._next(source)) is not None:
                source, decode = following, decoder(driver)
                continue
            if over:
                return
            await self._woken.wait()

    def _next(self, source: LogSource | None) -> LogSource | None:
        if source is None:
            sources = open_all(self._path)
            following = sources[0] if sources else None
            close_all(sources[1:])
        else:
            following = open_next(self._path, source)
        if following is not None:
            if self._own is not None:
                self._own.close()
            self._own = following
        return following

    def close(self) -> None:
        self._container.exit_waiters.discard(self._ended)
        self._end_watch()
        if self._own is not None:
            self._own.close()
