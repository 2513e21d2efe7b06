"""What builds tell, to those who listen early and late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from coved.build.progress import Status, Vertex
from coved.buildkit import status
from coved.buildkit.messages import StatusResponse
from coved.buildkit.status import StatusLog
from coved.dockerfile.instructions import Location, Warning


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await body()

    asyncio.run(bounded())


async def all_of(log: StatusLog) -> list[StatusResponse]:
    return [message async for message in log.follow()]


def test_everybody_hears_everything() -> None:
    async def body() -> None:
        log = StatusLog()
        early = asyncio.create_task(all_of(log))
        log.vertex(Vertex("d", "one", started_ns=5))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        log.log("d", 2, b"out")
        log.vertex(Vertex("d", "one", True, 5, 6, "error"))
        log.warning("d", Warning("Rule", "what", "https://x", "message", Location(2, 3), "Dockerfile", "FROM a\n"))
        log.end()
        messages = await early
        assert len(messages) == 2
        (late,) = await all_of(log)
        assert [vertex.completed for vertex in late.vertexes] == [0, 6]
        assert (late.vertexes[1].cached, late.vertexes[1].error) == (True, "error")
        assert (late.logs[0].msg, late.logs[0].stream, late.logs[0].vertex) == (b"out", 2, "d")
        (warning,) = late.warnings
        assert (warning.short, warning.url, warning.detail) == (b"Rule: message (line 2)", "https://x", [b"what"])
        assert warning.info is not None
        assert (warning.info.filename, warning.info.data) == ("Dockerfile", b"FROM a\n")
        (lines,) = warning.ranges
        assert lines.start is not None
        assert lines.end is not None
        assert (lines.start.line, lines.end.line) == (2, 3)

    run(body)


def test_addresses_are_told_without_who_asks() -> None:
    given, shown = "ftp://me:hu@sh@host/a", "ftp://xxxxx:xxxxx@host/a"
    log = StatusLog()
    log.vertex(Vertex("d", f"[1/2] ADD {given} /", True, 5, 6, f"cannot fetch {given}"))
    log.status(Status("d", f"fetching {given}"))
    log.warning("d", Warning("Rule", "what", "", f"see {given}", Location(2, 3), "Dockerfile", f"ADD {given} /\n"))
    (told,) = log.messages(1 << 20)
    (vertex,), (status,), (warning,) = told.vertexes, told.statuses, told.warnings
    assert (vertex.name, vertex.error) == (f"[1/2] ADD {shown} /", f"cannot fetch {shown}")
    assert status.id == f"fetching {shown}"
    assert warning.short == f"Rule: see {shown} (line 2)".encode()
    assert warning.info is not None
    assert given.encode() in warning.info.data  # the Dockerfile is told as it is


def test_only_the_last_of_a_transfer_is_told() -> None:
    async def body() -> None:
        log = StatusLog()
        for n in range(1000):
            log.status(Status("d", "a", current=n))
            log.status(Status("d", "b", current=-n))
        following = log.follow()
        assert [each.current for each in (await anext(following)).statuses] == [999, -999]
        log.status(Status("d", "a", current=1000))
        log.end()
        assert [each.current for each in (await anext(following)).statuses] == [1000]
        (late,) = await all_of(log)
        assert [(each.id, each.current) for each in late.statuses] == [("b", -999), ("a", 1000)]

    run(body)


def test_output_is_joined_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOG_LIMIT", 100_000)

    async def body() -> None:
        log = StatusLog()
        log.vertex(Vertex("d", "one"))
        for n in range(100_000):
            log.log("d", 1, b"%05d\n" % n)
        log.log("d", 2, b"error")
        log.end()
        messages = await all_of(log)
        assert [vertex.name for message in messages for vertex in message.vertexes] == ["one"]
        logs = [each for message in messages for each in message.logs]
        output = b"".join(each.msg for each in logs)
        assert 30_000 < len(output) <= 100_000
        assert output.endswith(b"99999\nerror")
        assert len(logs) < 10

    run(body)


def test_a_follower_that_is_slow_misses_nothing_but_the_oldest_output(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        log = StatusLog()
        log.log("d", 1, b"first")
        following = log.follow()
        assert (await anext(following)).logs[0].msg == b"first"
        for n in range(10):
            log.log("d", 1, b"%d" % n)
        log.end()
        assert b"".join(each.msg for each in (await anext(following)).logs) == b"0123456789"
        with pytest.raises(StopAsyncIteration):
            await anext(following)

    run(body)
