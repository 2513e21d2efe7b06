"""A log as one client reads it, while others go on writing."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coved.containers.logs import reader
from coved.containers.logs.reader import Selection, read
from coved.containers.logs.runs import JsonDecoder
from coved.containers.logs.watch import LogWatches
from coved.runtime.logfile import LogFile
from coved.runtime.logformats import JsonLines, Records

FORMS: dict[str, Callable[[], Any]] = {"json-file": JsonLines, "local": Records}
LINES = b"".join(b"%d\n" % number for number in range(100_000))


def container(driver: str) -> Any:
    host = {"LogConfig": {"Type": driver, "Config": {}}}
    return SimpleNamespace(host_config=host, state=SimpleNamespace(running=True), exit_waiters=set())


def log(path: Path, driver: str) -> LogFile:
    made = LogFile(str(path), form=FORMS[driver]())
    for start in range(0, len(LINES), 60_000):
        made.feed("stdout", LINES[start : start + 60_000])
    return made


@pytest.mark.parametrize("tail", [None, 50_000])
@pytest.mark.parametrize("driver", list(FORMS))
def test_one_who_does_not_follow_comes_to_an_end_though_more_is_written(
    tmp_path: Path, driver: str, tail: int | None
) -> None:
    written = log(tmp_path / "log", driver)

    async def reading() -> bytes:
        result = b""
        async for chunk in read(container(driver), tmp_path / "log", Selection(tail=tail, frames=False)):
            result += chunk
            assert len(result) < 2 * len(LINES), "there is no end"
            written.feed("stdout", LINES)  # more than is taken
        return result

    expected = LINES if tail is None else b"".join(LINES.splitlines(keepends=True)[-tail:])
    assert asyncio.run(reading()) == expected
    written.close()


def test_the_last_lines_of_a_long_log_are_looked_for_beside_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(tmp_path / "log", "json-file").close()
    seek, begun, may_end, descriptors = JsonDecoder.seek_tail, threading.Event(), threading.Event(), []

    def slow(self: JsonDecoder, fd: int, lines: int) -> tuple[int, int]:
        begun.set()
        assert may_end.wait(10), "all else waits"
        descriptors.append(os.fstat(fd).st_ino)
        return seek(self, fd, lines)

    monkeypatch.setattr(JsonDecoder, "seek_tail", slow)

    async def reading(*, give_up: bool) -> bytes:
        begun.clear()
        may_end.clear()
        first = asyncio.ensure_future(
            anext(read(container("json-file"), tmp_path / "log", Selection(tail=1, frames=False)))
        )
        await asyncio.to_thread(begun.wait, 10)
        if give_up:
            first.cancel()
            await asyncio.sleep(0)
        may_end.set()
        return await first

    assert asyncio.run(reading(give_up=False)) == b"99999\n"
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(reading(give_up=True))
    # It was still open for the one that was given up: another file could have had the descriptor.
    assert descriptors == [(tmp_path / "log").stat().st_ino] * 2


@pytest.mark.parametrize("failing", ["open_all", "_watches"])
def test_a_follower_that_cannot_open_the_log_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    log(tmp_path / "log", "json-file").close()

    def none(*arguments: Any) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    watches = LogWatches()
    monkeypatch.setattr(reader, "_watches", SimpleNamespace(add=none) if failing == "_watches" else watches)
    if failing == "open_all":
        monkeypatch.setattr(reader, "open_all", none)
    followed = container("json-file")

    async def following() -> None:
        with pytest.raises(OSError, match="too many open files"):
            await anext(read(followed, tmp_path / "log", Selection(follow=True)))

    asyncio.run(following())
    assert not followed.exit_waiters
    assert watches._fd < 0
