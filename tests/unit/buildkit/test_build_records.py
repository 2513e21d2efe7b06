"""The history of builds: what is kept of them, how long, and who is told."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from coved.build.errors import BuildError
from coved.build.progress import Vertex
from coved.build.request import Output, Request, Result
from coved.buildkit import history, records
from coved.buildkit.classic import recorded
from coved.buildkit.history import Entry, History
from coved.buildkit.messages import (
    HISTORY_COMPLETE,
    HISTORY_DELETED,
    HISTORY_STARTED,
    Exporter,
    StatusResponse,
)
from coved.buildkit.status import StatusLog
from coved.dockerfile.instructions import Location
from coved.errors import Conflict, EngineError, NotFound
from coved.grpc.status import Code, Detail, Status

IMAGE = "sha256:" + "5" * 64


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await body()

    asyncio.run(bounded())


def begin(made: History, ref: str, context: str = "") -> tuple[Entry, StatusLog]:
    log = StatusLog()
    record = records.begun(ref, "", {"filename": "Dockerfile"}, [Exporter("moby", {"name": "n"})], time.time_ns())
    return made.begin(record, log, context), log


async def build(made: History, ref: str, output: bytes = b"said\n", error: Status | None = None) -> Entry:
    """One that is kept when this is done."""
    entry, log = begin(made, ref)
    log.vertex(Vertex("sha256:1", "one", started_ns=1))
    log.log("sha256:1", 1, output)
    log.vertex(Vertex("sha256:1", "one", started_ns=1, completed_ns=2, cached=True))
    log.end()
    made.end(entry, Result(IMAGE, ["n:latest"]), error)
    assert entry.writing is not None
    await asyncio.wait([entry.writing])
    return entry


async def said(made: History, entry: Entry) -> bytes:
    return b"".join([each.msg async for message in made.follow(entry) for each in message.logs])


def files(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


async def refs(made: History) -> list[str]:
    return [each.record.ref for each in await made.entries()]


def test_what_was_built_is_known_to_the_next_engine(tmp_path: Path) -> None:
    async def body() -> None:
        made = History(tmp_path)
        entry, log = begin(made, "r", "folder")
        log.vertex(Vertex("sha256:1", "one", started_ns=1, completed_ns=2, cached=True))
        log.vertex(Vertex("sha256:2", "two", started_ns=1, completed_ns=2, error="bad"))
        log.log("sha256:2", 1, b"out")
        log.end()
        made.end(entry, Result(IMAGE, ["n:latest"]), Status(Code.UNKNOWN, "bad"))
        await made.close()

        (again,) = await History(tmp_path).entries()
        record = again.record
        assert (record.ref, again.kept.context, record.frontend_attrs) == ("r", "folder", {"filename": "Dockerfile"})
        assert (record.num_total_steps, record.num_cached_steps, record.num_completed_steps) == (2, 1, 2)
        assert record.exporter_response["containerimage.digest"] == IMAGE
        assert record.error == Status(Code.UNKNOWN, "bad")
        assert record.created_at <= record.completed_at
        messages = [each async for each in History(tmp_path).follow(again)]
        assert [vertex.name for each in messages for vertex in each.vertexes] == ["one", "two"]
        assert [each.msg for message in messages for each in message.logs] == [b"out"]

    run(body)


def test_a_build_that_an_engine_was_killed_over_is_unknown(tmp_path: Path) -> None:
    async def body() -> None:
        made = History(tmp_path)
        begin(made, "killed")
        await build(made, "whole")
        assert await refs(made) == ["whole", "killed"]
        assert await refs(History(tmp_path)) == ["whole"]

    run(body)


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    async def body() -> None:
        await build(History(tmp_path), "good")
        (good,) = files(tmp_path)
        data = good.read_bytes()
        (tmp_path / "empty.build").touch()
        (tmp_path / "cut.build").write_bytes(data[:10])
        (tmp_path / "nonsense.build").write_bytes(b"\xff" * 100)
        (tmp_path / "half.build.new").write_bytes(data)
        made = History(tmp_path)
        assert await refs(made) == ["good"]
        assert files(tmp_path) == [good]
        good.write_bytes(data[:-9])  # of the log there is no end
        (entry,) = await made.entries()
        assert await said(made, entry) in (b"", b"said\n")

    run(body)


def test_what_cannot_be_read_stays(tmp_path: Path) -> None:
    """It may be for want of files that an engine may open, or of a disk that answers."""

    async def body() -> None:
        await build(History(tmp_path), "good")
        (tmp_path / "folder.build").mkdir()
        (tmp_path / "circle.build").symlink_to("circle.build")
        assert await refs(History(tmp_path)) == ["good"]
        assert len(files(tmp_path)) == 3

    run(body)


def test_what_is_none_and_cannot_be_removed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        await build(History(tmp_path), "good")
        (tmp_path / "nonsense.build").write_bytes(b"\xff" * 100)

        def unlink(path: Path, missing_ok: bool = False) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(Path, "unlink", unlink)
        assert await refs(History(tmp_path)) == ["good"]

    run(body)


def test_a_folder_that_cannot_be_read_now_is_read_later(tmp_path: Path) -> None:
    async def body() -> None:
        await build(History(tmp_path / "there"), "good")
        link = tmp_path / "link"
        link.symlink_to("link")
        made = History(link)
        with pytest.raises(OSError, match="symbolic links"):
            await made.find("good")
        link.unlink()
        link.symlink_to("there")
        assert await refs(made) == ["good"]

    run(body)


def test_the_oldest_go_when_there_are_many_and_they_are_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT_COUNT", 2)

    async def body() -> None:
        made = History(tmp_path)
        for ref in "abc":
            await build(made, ref)
        assert await refs(made) == ["c", "b", "a"]  # none is old
        await made.pin("a", pinned=True)
        monkeypatch.setattr(history, "KEPT_S", 0)
        await build(made, "d")
        assert await refs(made) == ["d", "c", "a"]
        await made.pin("a", pinned=False)
        await build(made, "e")
        assert await refs(made) == ["e", "d"]
        assert await refs(History(tmp_path)) == ["e", "d"]

    run(body)


def test_what_cannot_be_pinned_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        made = History(tmp_path)
        entry = await build(made, "r")
        async with made._changing:
            pinning = asyncio.create_task(made.pin("r", pinned=True))
            await asyncio.sleep(0)
            await made._forget(entry)
        with pytest.raises(NotFound, match="no record found for ref r"):
            await pinning
        assert files(tmp_path) == []  # nor is it there again

        entry = await build(made, "s")
        (file,) = files(tmp_path)
        file.with_name(file.name + ".new").mkdir()  # in the way
        with pytest.raises(OSError, match="directory"):
            await made.pin("s", pinned=True)
        assert not entry.record.pinned

    run(body)


def test_all_of_them_take_so_much_of_the_disk_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        made = History(tmp_path)
        first = await build(made, "a")
        assert first.size == sum(each.stat().st_size for each in files(tmp_path))
        monkeypatch.setattr(history, "MOST_BYTES", first.size * 5 // 2)
        await build(made, "b")
        await build(made, "c")
        assert await refs(made) == ["c", "b"]
        monkeypatch.setattr(history, "MOST_BYTES", 1)
        await build(made, "d")
        assert await refs(made) == ["d"]  # the last one is there for whoever wonders

    run(body)


def test_of_much_output_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LOG_BYTES", 200_000)

    async def body() -> None:
        made = History(tmp_path)
        entry, log = begin(made, "r")
        listening = log.follow()
        for number in range(100):
            log.log("sha256:1", 1, f"{number:05d}\n".encode() * 1000)
            await anext(listening)
        log.end()
        made.end(entry, Result(), None)
        assert entry.writing is not None
        await asyncio.wait([entry.writing])
        kept = await said(made, entry)
        assert kept.endswith(b"00099\n")
        assert 150_000 < len(kept) <= 200_000

    run(body)


def test_listeners_hear_of_builds_that_begin_go_on_end_and_are_removed(tmp_path: Path) -> None:
    async def body() -> None:
        made = History(tmp_path)
        with made.listening() as events:
            entry, log = begin(made, "r")
            assert await anext(events) == (HISTORY_STARTED, entry)
            log.vertex(Vertex("sha256:1", "one", started_ns=1))
            assert await anext(events) == (HISTORY_STARTED, entry)
            assert entry.record.num_total_steps == 1
            log.end()
            made.end(entry, Result(), None)
            assert await anext(events) == (HISTORY_COMPLETE, entry)
            await made.remove("r")
            assert await anext(events) == (HISTORY_DELETED, entry)
            begin(made, "s")
            two, log = begin(made, "t")
            log.end()
            made.end(two, Result(), None)
            told = [await anext(events) for _ in range(3)]
            assert [(kind, each.record.ref) for kind, each in told] == [
                (HISTORY_STARTED, "s"), (HISTORY_STARTED, "t"), (HISTORY_COMPLETE, "t"),
            ]  # fmt: skip

    run(body)


def test_a_build_can_be_followed_before_and_after_its_end(tmp_path: Path) -> None:
    async def body() -> None:
        made = History(tmp_path)
        entry, log = begin(made, "r")
        following = asyncio.create_task(said(made, entry))
        await asyncio.sleep(0)
        log.log("sha256:1", 1, b"out")
        log.end()
        made.end(entry, Result(), None)
        assert await following == await said(made, entry) == b"out"
        assert entry.writing is not None
        await asyncio.wait([entry.writing])
        assert await said(made, entry) == b"out"

    run(body)


def test_what_is_removed_is_gone_and_what_runs_is_not_removed(tmp_path: Path) -> None:
    async def body() -> None:
        made = History(tmp_path)
        entry = await build(made, "r")
        begin(made, "running")
        await made.remove("r")
        assert files(tmp_path) == []
        with pytest.raises(NotFound):
            await said(made, entry)
        for ref in ("r", "none"):
            with pytest.raises(NotFound):
                await made.remove(ref)
        with pytest.raises(Conflict):
            await made.remove("running")

    run(body)


def test_what_cannot_be_written_stays_in_memory(tmp_path: Path) -> None:
    async def body() -> None:
        (tmp_path / "none").write_text("no folder can be here")
        made = History(tmp_path / "none" / "history")
        entry = await build(made, "r")
        assert await said(made, entry) == b"said\n"
        await build(made, "s")
        assert await refs(made) == ["s"]  # or a full disk would fill the memory

    run(body)


def test_what_is_secret_is_in_no_record() -> None:
    imports = [{"Type": "registry", "Attrs": {"ref": "r/c"}}, {"Type": "s3", "Attrs": {"secret_access_key": "hush"}}]
    told = records.attributes(
        {
            "context": "https://me:hush@host/a.git#main",
            "build-arg:TOKEN": "an argument",
            "build-arg:HTTP_PROXY": "http://me:hu@sh@proxy:3128",
            "build-arg:https_proxy": "me:hu@sh@proxy:3128",
            "build-arg:ALL_PROXY": "socks5://me:hush@proxy:1080",
            "build-arg:DATABASE": "postgresql://me:hush@host/a",
            "build-arg:KEY": "https://hush@host/x and https://other/y@z",
            "context:base": "git@host:a/b",
            "context:image": "docker-image://debian:13@sha256:5",
            "context:layout": "oci-layout://a@sha256:5",
            "cache-imports": json.dumps(imports),
        }
    )
    assert told == {
        "context": "https://xxxxx:xxxxx@host/a.git#main",
        "build-arg:TOKEN": "an argument",
        "build-arg:HTTP_PROXY": "http://xxxxx:xxxxx@proxy:3128",
        "build-arg:https_proxy": "xxxxx:xxxxx@proxy:3128",
        "build-arg:ALL_PROXY": "socks5://xxxxx:xxxxx@proxy:1080",
        "build-arg:DATABASE": "postgresql://xxxxx:xxxxx@host/a",
        "build-arg:KEY": "https://xxxxx:xxxxx@host/x and https://other/y@z",
        "context:base": "git@host:a/b",
        "context:image": "docker-image://debian:13@sha256:5",
        "context:layout": "oci-layout://a@sha256:5",
        "cache-imports": json.dumps([{"Type": "registry", "Attrs": {"ref": "r/c"}}, {"Type": "s3", "Attrs": {}}]),
    }
    assert records.attributes({"cache-imports": "[1]"}) == {"cache-imports": ""}
    assert records.failure(EngineError("cannot fetch https://me:hush@host/")).message == (
        "cannot fetch https://xxxxx:xxxxx@host/"
    )


def test_details_of_an_error_are_in_the_content_store() -> None:
    error = BuildError("it failed", location=Location(2, 3), filename="Dockerfile", text="FROM a\nRUN \\\n b\n")
    record = records.begun("r", "", {}, [], 1)
    record.completed_at, record.error = 2, records.failure(error, "sha256:7")
    told, data = records.as_clients_have_it(record)
    assert told.error == Status(Code.UNKNOWN, "it failed")
    assert told.external_error is not None
    assert told.external_error.size == len(data)
    details = Status.decode(data).details
    assert [each.type_url.rpartition(".")[2] for each in details] == ["Source+json", "Vertex+json"]
    lines = records.failed_lines(record.error)
    assert lines is not None
    assert (lines.filename, lines.location, lines.text) == ("Dockerfile", Location(2, 3), error.text)
    assert records.state(record) == "failed"
    assert records.failure(ValueError("of ours")).message == "internal error, see the engine's log"


def test_what_is_no_line_of_a_dockerfile_is_not_told() -> None:
    """A client may give any details with a build that it ends."""
    for number in ("Infinity", "NaN", "1e999", '"x"', "[]", "9" * 5000):
        told = '{"info": {"filename": "f", "data": ""}, "ranges": [{"start": {"line": N}, "end": {"line": 1}}]}'
        told = told.replace("N", number, 1)
        detail = Detail("github.com/moby/buildkit/errdefs.Source+json", told.encode())
        assert records.failed_lines(Status(Code.UNKNOWN, "", [detail])) is None


def test_a_classic_build_is_recorded(tmp_path: Path) -> None:
    async def body() -> None:
        made = History(tmp_path)
        request = Request(build_args={"A": "1", "B": None}, target="t", no_cache=True, outputs=[Output(names=["n"])])
        heard = StatusLog()
        with recorded(made, request, heard) as recording:
            recording.vertex(Vertex("sha256:1", "one", started_ns=1))
            recording.log("sha256:1", 2, b"out")
            (entry,) = await made.entries()
            assert records.state(entry.record) == "running"
            recording.result = Result(IMAGE, ["n:latest"])
        assert records.state(entry.record) == "completed"
        assert entry.record.frontend_attrs == {
            "filename": "Dockerfile", "target": "t", "no-cache": "", "build-arg:A": "1",
        }  # fmt: skip
        assert entry.record.exporters == [Exporter("moby", {"name": "n"})]
        assert [each.name for each in heard.steps.values()] == ["one"]
        assert await said(made, entry) == b"out"

        for error, state in ((BuildError("no"), "failed"), (asyncio.CancelledError(), "canceled")):
            with pytest.raises(type(error)), recorded(made, request, heard):
                raise error
            assert records.state((await made.entries())[0].record) == state
        await made.close()

    run(body)


def test_messages_of_a_log_are_all_that_was_said() -> None:
    log = StatusLog()
    log.vertex(Vertex("sha256:1", "one", started_ns=1))
    log.log("sha256:1", 1, b"out")
    assert log.messages(0) == [StatusResponse(vertexes=[*log.steps.values()])]
    (message,) = log.messages(1000)
    assert message.logs[0].msg == b"out"
