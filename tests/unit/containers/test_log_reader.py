"""A log as one client reads it, while others go on writing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coved.containers.logs.reader import Selection, read
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
