"""The services and the session, with a client as buildx is one, and with a builder that does what the test says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from buildkit_client import Holdings, Outcome, SessionServer, build, follow
from coved.build.cache.contexts import Contexts
from coved.build.cache.filters import Filter, matches
from coved.build.client import Client
from coved.build.errors import BuildError
from coved.build.progress import Progress, Status, Vertex
from coved.build.request import Request, Result
from coved.build.upkeep import Entry, Keep
from coved.buildkit import arrivals, patience
from coved.buildkit.builds import Builds
from coved.buildkit.history import History
from coved.buildkit.messages import (
    CONTENT_INFO,
    CONTENT_READ,
    DISK_USAGE,
    EXPORT_TRACE,
    FRONTEND_SOLVE,
    HISTORY_COMPLETE,
    HISTORY_DELETED,
    HISTORY_STARTED,
    INFO,
    LIST_WORKERS,
    LISTEN_BUILD_HISTORY,
    PING,
    PRUNE,
    SOLVE,
    UPDATE_BUILD_HISTORY,
    BuildHistoryEvent,
    BuildHistoryRequest,
    BytesMessage,
    ContentInfoRequest,
    DiskUsageRequest,
    Exporter,
    ExportTraceRequest,
    FrontendSolveRequest,
    InfoRequest,
    ListWorkersRequest,
    PingRequest,
    PruneRequest,
    ReadContentRequest,
    SolveRequest,
    UpdateBuildHistoryRequest,
)
from coved.buildkit.service import Service
from coved.buildkit.session import Session
from coved.buildkit.sessions import Sessions
from coved.dockerfile.instructions import Location
from coved.errors import EngineError, NotFound, Unavailable
from coved.grpc.call import Call
from coved.grpc.client import Channel
from coved.grpc.status import Code, GrpcError
from coved.images import documents

Body = Callable[[Request, Client, Progress], Awaitable[Result]]
IMAGE = "sha256:" + "5" * 64


def entry(id: str, kind: str = "regular", description: str = "RUN x", in_use: bool = False) -> Entry:
    return Entry(id, kind, description, (), 10, in_use, False, 1, 2, 3)


@dataclass
class FakeBuilder:
    """Builds by calling ``body``."""

    body: Body
    contexts: Contexts
    entries_: list[Entry] = field(default_factory=list)
    pruned: list[dict[str, Any]] = field(default_factory=list)
    folder_path: Path | None = None
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def upkeep(self) -> FakeBuilder:
        return self

    @property
    def incoming(self) -> FakeBuilder:
        return self

    async def build(self, request: Request, client: Client, progress: Progress) -> Result:
        return await self.body(request, client, progress)

    async def entries(self, filters: Sequence[Filter] = ()) -> list[Entry]:
        return [each for each in self.entries_ if matches(filters, each.fields)]

    async def prune(self, *, filters: Sequence[Filter], **options: Any) -> list[Entry]:
        self.pruned.append(options)
        return await self.entries(filters)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        assert self.folder_path is not None
        path = self.folder_path.with_name(f"unpacked{next(self.numbers)}")
        path.mkdir()
        yield path
        shutil.rmtree(path)

    async def unpack(self, chunks: AsyncIterator[bytes], folder: Path) -> None:
        (folder / "archive").write_bytes(b"".join([chunk async for chunk in chunks]))


class Set:
    """A service, and a client of it."""

    def __init__(self, tmp_path: Path, body: Body, server: type[SessionServer] = SessionServer) -> None:
        self.server = server
        self.contexts = Contexts(tmp_path / "contexts")
        self.builder: Any = FakeBuilder(body, self.contexts, folder_path=tmp_path / "unpacked")
        self.history = History(tmp_path / "history")
        self.service = Service(
            self.builder,
            self.history,
            identity="me",
            version="1",
            platforms=lambda: [documents.Platform("linux", "amd64"), documents.Platform("linux", "arm", "v7")],
            host_gateway="10.0.0.1",
            sockets=tmp_path / "sockets",
        )
        self.tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        ours, theirs = socket.socketpair()
        serving = asyncio.create_task(self.service.serve(theirs.detach(), b""))
        channel = Channel(*await asyncio.open_connection(sock=ours))
        try:
            yield channel
        finally:
            await channel.close()
            await serving

    @asynccontextmanager
    async def session(self, holdings: Holdings, id: str = "s", key: str = "key") -> AsyncIterator[asyncio.Task[None]]:
        ours, theirs = socket.socketpair()
        holding = asyncio.create_task(self.service.hold(theirs.detach(), b"", id, key))
        serving = asyncio.create_task(self.server(holdings).services.serve(*await asyncio.open_connection(sock=ours)))
        try:
            yield serving
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            await holding

    async def build(self, holdings: Holdings, attributes: dict[str, str] | None = None, **options: Any) -> Outcome:
        async with self.channel() as channel, self.session(holdings):
            return await build(channel, "s", attributes or {}, **options)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await body()

    asyncio.run(bounded())


async def nothing(request: Request, client: Client, progress: Progress) -> Result:
    return Result(IMAGE, ("docker.io/library/a:latest", "docker.io/library/b:1"))


def test_a_build(tmp_path: Path) -> None:
    seen: list[Request] = []

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        seen.append(request)
        vertex = Vertex("sha256:1", "[1/1] RUN x", started_ns=time.time_ns())
        progress.vertex(vertex)
        progress.log("sha256:1", 1, b"hello\n")
        for n in range(100):
            progress.status(Status("sha256:1", "transferring", current=n))
        vertex.completed_ns = time.time_ns()
        progress.vertex(vertex)
        return await nothing(request, client, progress)

    async def main() -> None:
        outcome = await Set(tmp_path, body).build(
            Holdings(), {"filename": "F", "target": "t"}, exporters=[Exporter("moby", {"name": "a,b:1"})]
        )
        assert outcome.response.exporter_response == {
            "containerimage.config.digest": IMAGE,
            "containerimage.digest": IMAGE,
            "image.name": "docker.io/library/a:latest,docker.io/library/b:1",
        }
        assert (outcome.names, outcome.output) == (["[1/1] RUN x"], b"hello\n")
        last = [vertex for message in outcome.status for vertex in message.vertexes][-1]
        assert last.completed >= last.started > 0
        transfers = [status.current for message in outcome.status for status in message.statuses]
        assert transfers[-1] == 99
        assert len(transfers) < 100
        assert (seen[0].dockerfile, seen[0].target, [*seen[0].outputs[0].names]) == ("F", "t", ["a", "b:1"])

    run(main)


def test_a_build_without_the_clients_half(tmp_path: Path) -> None:
    """``Solve`` that names the frontend itself."""

    async def main() -> None:
        made = Set(tmp_path, nothing)
        async with made.channel() as channel, made.session(Holdings()):
            request = SolveRequest(ref="r", session="s", frontend="dockerfile.v0", exporters=[Exporter("moby")])
            assert (await channel.unary(SOLVE, request)).exporter_response["containerimage.digest"] == IMAGE
            with pytest.raises(GrpcError, match="failed to find frontend gateway"):
                await channel.unary(SOLVE, SolveRequest(ref="r2", session="s", frontend="gateway.v0"))
            with pytest.raises(GrpcError, match="job ID r exists"):
                await channel.unary(SOLVE, request)

    run(main)


def test_what_fails_shows_where(tmp_path: Path) -> None:
    async def body(request: Request, client: Client, progress: Progress) -> Result:
        raise BuildError(
            "it failed",
            location=Location(2, 3),
            filename="Dockerfile",
            text="FROM x\nRUN ä\n",
            exit_code=3,
        )

    async def main() -> None:
        with pytest.raises(GrpcError) as caught:
            await Set(tmp_path, body).build(Holdings())
        assert (caught.value.code, caught.value.message) == (Code.UNKNOWN, "it failed")
        details = {each.type_url.rpartition("/")[2]: json.loads(each.value) for each in caught.value.details}
        source = details["errdefs.Source+json"]
        assert source["ranges"] == [{"start": {"line": 2}, "end": {"line": 3}}]
        assert base64.b64decode(source["info"]["data"]).decode() == "FROM x\nRUN ä\n"
        assert details["gatewayapi.ExitMessage+json"] == {"Code": 3}

    run(main)


def test_whoever_listens_late_hears_everything(tmp_path: Path) -> None:
    async def body(request: Request, client: Client, progress: Progress) -> Result:
        for n in range(5):
            progress.log("sha256:1", 1, b"%d" % n)
            await asyncio.sleep(0)
        return Result()

    async def main() -> None:
        made = Set(tmp_path, body)
        async with made.channel() as channel, made.session(Holdings()):
            await channel.unary(SOLVE, SolveRequest(ref="r", session="s", frontend="dockerfile.v0"))
            messages = await follow(channel, "r")
            assert b"".join(log.msg for message in messages for log in message.logs) == b"01234"

    run(main)


def test_it_comes_in_any_order(tmp_path: Path) -> None:
    async def main() -> None:
        made = Set(tmp_path, nothing)
        async with made.channel() as channel:
            ping = asyncio.create_task(
                channel.unary(PING, PingRequest(), metadata=[("buildkit-controlapi-buildid", "r")])
            )
            following = asyncio.create_task(follow(channel, "r"))
            solving = asyncio.create_task(
                channel.unary(SOLVE, SolveRequest(ref="r", session="s", frontend="dockerfile.v0"))
            )
            await ping
            async with made.session(Holdings()):
                await solving
            await following

    run(main)


def test_what_a_history_that_cannot_be_read_has_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients ask before they build."""
    monkeypatch.setattr(arrivals, "WAIT_S", 0.05)

    async def main() -> None:
        (tmp_path / "history").symlink_to("history")
        made = Set(tmp_path, nothing)
        async with made.channel() as channel:
            with pytest.raises(GrpcError, match="no such job r"):
                await follow(channel, "r")

    run(main)


def test_what_never_comes_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "WAIT_S", 0.05)

    async def main() -> None:
        made = Set(tmp_path, nothing)
        async with made.channel() as channel:
            with pytest.raises(GrpcError, match="no active session for s: context deadline exceeded"):
                await channel.unary(SOLVE, SolveRequest(ref="r", session="s", frontend="dockerfile.v0"))
            with pytest.raises(GrpcError, match="no such job x"):
                await follow(channel, "x")
            with pytest.raises(GrpcError, match="no such job x"):
                await channel.unary(PING, PingRequest(), metadata=[("buildkit-controlapi-buildid", "x")])
            with pytest.raises(GrpcError, match="no buildid"):
                await channel.unary(PING, PingRequest())

    run(main)


@pytest.mark.parametrize("how", ["solve", "frontend", "connection"])
def test_a_client_that_gives_up_cancels_its_build(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        began, cancelled = asyncio.Event(), asyncio.Event()

        async def body(request: Request, client: Client, progress: Progress) -> Result:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return Result()

        made = Set(tmp_path, body)
        async with made.session(Holdings()):
            async with made.channel() as channel:
                solving = asyncio.create_task(channel.unary(SOLVE, SolveRequest(ref="r", session="s")))
                metadata = [("buildkit-controlapi-buildid", "r")]
                asking = asyncio.create_task(
                    channel.unary(FRONTEND_SOLVE, FrontendSolveRequest(frontend="dockerfile.v0"), metadata=metadata)
                )
                following = asyncio.create_task(follow(channel, "r"))
                await began.wait()
                if how != "connection":
                    (solving if how == "solve" else asking).cancel()
                    await cancelled.wait()
                    solving.cancel()
                    await following
            await cancelled.wait()
            await asyncio.gather(solving, asking, following, return_exceptions=True)

    run(main)


def test_a_build_ends_when_all_of_it_has_ended(tmp_path: Path) -> None:
    """Also when whoever asked for it was cancelled again while it was ending."""

    async def main() -> None:
        began, ending, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def body(request: Request, client: Client, progress: Progress) -> Result:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await may_end.wait()
            return Result()

        made = Set(tmp_path, body)
        there = Sessions()
        channel = cast(Any, None)
        await there.add(Session(channel, "s", "", contexts=made.contexts, archives=made.builder, sockets=tmp_path))
        builds = Builds(there, made.builder, made.history)
        one = await builds.begin(SolveRequest(ref="r", session="s"))
        asking = asyncio.create_task(one.run("dockerfile.v0", {}, {}))
        await began.wait()
        asking.cancel()
        await ending.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        ended = asyncio.create_task(builds.end(one))
        await asyncio.sleep(0.05)
        assert not ended.done()
        may_end.set()
        await ended

    run(main)


def test_trees(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a" / "f").write_bytes(b"x" * 100_000)
    (source / "g").write_text("two")
    (source / "l").symlink_to("a/f")
    keys: list[str] = []
    meters: list[int] = []

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        async with client.tree("context", excludes=["*.o", "ä b"], only=["a", "g"], meter=meters.append) as tree:
            keys.append(tree.key)
            assert sorted(path.name for path in tree.path.rglob("*")) == ["a", "f", "g"]
        async with client.tree("context", meter=meters.append) as tree:
            assert (tree.path / "a/f").read_bytes() == b"x" * 100_000
            assert sorted(path.name for path in tree.path.rglob("*")) == ["a", "f", "g", "l"]
            keys.append(tree.key)
        with pytest.raises(NotFound, match='no access allowed to dir "other"'):
            async with client.tree("other"):
                pass
        return Result()

    async def main() -> None:
        made = Set(tmp_path, body)
        first = Holdings({"context": source})
        await made.build(first)
        excluded = [value for key, value in first.asked[0][1] if key == "exclude-patterns"]
        assert excluded == ["%2A.o", "%C3%A4+b"]
        assert ("exclude-patterns-encoded", "1") in first.asked[0][1]
        assert meters[-1] >= 3
        second = Holdings({"context": source})
        (source / "g").write_text("three")
        await made.build(second)
        assert (first.transferred, second.transferred) == (100_003, 5)
        assert len(set(keys)) == 1
        kept = await made.contexts.entries()
        assert [each.key.split("\0")[:2] for each in kept] == [["key", "context"]]

    run(main)


def test_a_tree_of_another_session(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("shared")

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        async with client.tree("context") as tree:
            assert (tree.path / "f").read_text() == "shared"
        assert await client.secret("one") == b"mine"
        return Result()

    async def main() -> None:
        made = Set(tmp_path, body)
        async with made.session(Holdings({"c": source}), id="other", key="k"):
            attributes = {"contextkey": "c", "local-sessionid:c": "other"}
            await made.build(Holdings(secrets={"one": b"mine"}), attributes)

    run(main)


def test_builds_of_one_session_do_not_meddle_with_one_another(tmp_path: Path) -> None:
    """Each has its own names for trees, and its own archive, though all of them begin before one looks at its files."""
    trees: dict[str, Path] = {}
    for name in ("a", "b", "context"):
        trees[name] = tmp_path / "trees" / name
        trees[name].mkdir(parents=True)
        (trees[name] / "f").write_text(f"tree {name}")
    options = [{"contextkey": "a"}, {"contextkey": "b"}, {}]
    options += [{"context": f"http://buildkit-session/{name}"} for name in ("one", "two", "one")]
    all_there = asyncio.Barrier(len(options))

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        await all_there.wait()
        async with client.tree("context") as tree:
            (file,) = tree.path.iterdir()
            progress.log("sha256:1", 1, file.read_bytes())
        return Result()

    async def main() -> None:
        made = Set(tmp_path, body)
        uploads = {"one": b"archive one", "two": b"archive two"}
        async with made.channel() as channel, made.session(Holdings(trees, uploads=uploads)):
            outcomes = await asyncio.gather(*(build(channel, "s", each) for each in options))
        assert [outcome.output.decode() for outcome in outcomes] == [
            "tree a", "tree b", "tree context", "archive one", "archive two", "archive one",
        ]  # fmt: skip

    run(main)


def test_trees_of_one_key_by_other_names_are_kept_apart(tmp_path: Path) -> None:
    """Though their files have the same sizes and times."""
    trees = {name: tmp_path / name for name in ("a", "b")}
    for name, path in trees.items():
        path.mkdir()
        (path / "f").write_text(name)
        os.utime(path / "f", (1, 1))
    seen: list[str] = []

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        async with client.tree("context") as tree:
            seen.append((tree.path / "f").read_text())
        return Result()

    async def main() -> None:
        made = Set(tmp_path, body)
        for name in ("a", "b", "a"):
            holdings = Holdings(trees)
            await made.build(holdings, {"contextkey": name})
            assert holdings.transferred == (1 if len(seen) < 3 else 0)
        assert seen == ["a", "b", "a"]

    run(main)


@pytest.mark.parametrize(("name", "file"), [("dockerfile", "Dockerfile"), ("context", ".dockerignore")])
def test_what_says_how_to_build_is_sent_each_time(tmp_path: Path, name: str, file: str) -> None:
    """Though it may have the size and the time of what was there before."""
    tree = tmp_path / "tree"
    tree.mkdir()
    seen: list[str] = []

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        async with client.tree(name, only=[file]) as sent:
            seen.append((sent.path / file).read_text())
        return Result()

    async def main() -> None:
        made = Set(tmp_path, body)
        for text in ("one\n", "two\n"):
            (tree / file).write_text(text)
            os.utime(tree / file, (1, 1))
            await made.build(Holdings({name: tree}))

    run(main)
    assert seen == ["one\n", "two\n"]


def test_a_tree_that_breaks_off_is_not_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("x")

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        async with client.tree("context"):
            pass
        return Result()

    class Vanishing(dict[str, Path]):
        def __getitem__(self, name: str) -> Path:
            raise GrpcError(Code.UNKNOWN, "permission denied")

    async def main() -> None:
        made = Set(tmp_path, body)
        with pytest.raises(GrpcError, match="permission denied"):
            await made.build(Holdings(Vanishing({"context": source})))
        assert await made.contexts.entries() == []

    run(main)


def test_secrets_and_accounts(tmp_path: Path) -> None:
    async def body(request: Request, client: Client, progress: Progress) -> Result:
        assert await client.secret("one") == b"\x00secret"
        assert await client.secret("two") is None
        assert await client.credentials("example.com") == ("me", "pw")
        assert await client.credentials("https://index.docker.io/v1/") == ("hub", "token")
        assert await client.credentials("other") == ("", "")
        async with client.ssh_agent("default") as path:
            assert path is None
        return Result()

    async def main() -> None:
        holdings = Holdings(
            secrets={"one": b"\x00secret"},
            credentials={"example.com": ("me", "pw"), "registry-1.docker.io": ("hub", "token")},
        )
        await Set(tmp_path, body).build(holdings)

    run(main)


def test_an_ssh_agent(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)  # longer than a socket's name may be
    deep.mkdir()

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        async with client.ssh_agent("default") as path:
            assert path is not None
            assert path.parent.stat().st_mode & 0o777 == 0o700

            async def ask(text: bytes) -> bytes:
                fd = os.open(path.parent, os.O_PATH)
                reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{fd}/{path.name}")
                os.close(fd)
                writer.write(text)
                writer.write_eof()
                answer = await reader.read()
                writer.close()
                return answer

            assert await asyncio.gather(*(ask(b"%d" % n) for n in range(10))) == [b"<%d>" % n for n in range(10)]
        assert not path.exists()
        async with client.ssh_agent("other") as none:
            assert none is None
        return Result()

    async def main() -> None:
        await Set(deep, body).build(Holdings(agent=lambda data: b"<" + data + b">"))

    run(main)


def test_results_go_back(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "f").write_bytes(b"y" * 200_000)
    (source / "l").symlink_to("f")

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"z" * 100_000

        if request.outputs[0].kind == "tar":
            await client.receive_tar(0, chunks())
        else:
            await client.receive_tree(0, source)
        return Result()

    async def main() -> None:
        made = Set(tmp_path, body)
        await made.build(Holdings(received=target), exporters=[Exporter("local")])
        assert (target / "f").read_bytes() == b"y" * 200_000
        assert (target / "l").is_symlink()
        holdings = Holdings()
        await made.build(holdings, exporters=[Exporter("tar")])
        assert holdings.archive == b"z" * 1_000_000

    run(main)


def test_a_context_on_standard_input(tmp_path: Path) -> None:
    async def body(request: Request, client: Client, progress: Progress) -> Result:
        assert (request.context, request.dockerfile_in) == ("", "context")
        for _ in range(2):
            async with client.tree("context") as tree:
                assert (tree.path / "archive").read_bytes() == b"tar" * 10_000
        return Result()

    async def main() -> None:
        made = Set(tmp_path, body)
        await made.build(Holdings(uploads={"abc": b"tar" * 10_000}), {"context": "http://buildkit-session/abc"})

    run(main)
    assert not [*tmp_path.glob("unpacked*")]


def test_a_client_that_goes_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        failed: list[BaseException] = []
        began = asyncio.Event()

        async def body(request: Request, client: Client, progress: Progress) -> Result:
            async with client.ssh_agent("default") as path:
                assert path is not None
                reader, writer = await asyncio.open_unix_connection(path)
                began.set()
                assert await reader.read() == b""
                writer.close()
            try:
                await client.secret("x")
            except EngineError as error:
                failed.append(error)
            return Result()

        made = Set(tmp_path, body)
        async with made.channel() as channel, made.session(Holdings(agent=bytes)) as serving:
            solving = asyncio.create_task(
                channel.unary(SOLVE, SolveRequest(ref="r", session="s", frontend="dockerfile.v0"))
            )
            await began.wait()
            serving.cancel()
            await solving
        assert isinstance(failed[0], Unavailable)

    run(main)


@pytest.mark.parametrize("what", ["upload", "archive"])
def test_a_client_that_stops_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(patience, "STALL_S", 0.05)

    class Stopping(SessionServer):
        async def _pull(self, call: Call[BytesMessage, BytesMessage]) -> None:
            await call.send(BytesMessage(b"half"))
            await asyncio.Event().wait()

        async def _take_archive(self, call: Call[BytesMessage, BytesMessage]) -> None:
            await super()._take_archive(call)
            await asyncio.Event().wait()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"all"

    async def body(request: Request, client: Client, progress: Progress) -> Result:
        if what == "archive":
            await client.receive_tar(0, pieces())
        else:
            async with client.tree("context"):
                pass
        return Result()

    async def main() -> None:
        with pytest.raises(GrpcError, match="the client of the build does not answer"):
            await Set(tmp_path, body, Stopping).build(Holdings(), {"context": "http://buildkit-session/abc"})

    run(main)


def test_one_session_by_one_name(tmp_path: Path) -> None:
    async def main() -> None:
        made = Set(tmp_path, nothing)
        async with made.channel() as channel, made.session(Holdings()):
            await channel.unary(SOLVE, SolveRequest(ref="r", session="s", frontend="dockerfile.v0"))
            with pytest.raises(EngineError, match="session s already exists"):
                made.service.must_be_new("s")

    run(main)


def test_what_the_engine_is(tmp_path: Path) -> None:
    async def main() -> None:
        made = Set(tmp_path, nothing)
        async with made.channel() as channel:
            (worker,) = (await channel.unary(LIST_WORKERS, ListWorkersRequest())).record
            assert worker.id == "me"
            assert worker.labels == {"org.mobyproject.buildkit.worker.moby.host-gateway-ip": "10.0.0.1"}
            told = [(each.os, each.architecture, each.variant) for each in worker.platforms]
            assert told == [("linux", "amd64", ""), ("linux", "arm", "v7")]
            info = (await channel.unary(INFO, InfoRequest())).buildkit_version
            assert info is not None
            assert info.version == "v0.13.0+cove1"
            await channel.unary(EXPORT_TRACE, ExportTraceRequest())
            async with channel.open(LISTEN_BUILD_HISTORY) as call:
                await call.send(BuildHistoryRequest(early_exit=True), end=True)
                assert await call.receive() is None

    run(main)


def test_the_history_is_told_as_it_happens_and_afterwards(tmp_path: Path) -> None:
    async def main() -> None:
        may_fail = asyncio.Event()

        async def body(request: Request, client: Client, progress: Progress) -> Result:
            progress.vertex(Vertex("sha256:1", "one", started_ns=1))
            progress.log("sha256:1", 1, b"out")
            await may_fail.wait()
            progress.vertex(Vertex("sha256:1", "one", started_ns=1, completed_ns=2, error="bad"))
            raise BuildError("bad", location=Location(1, 1), filename="Dockerfile", text="FROM a\n")

        made = Set(tmp_path, body)
        async with made.channel() as channel, made.session(Holdings(), key="folder:0123"):
            async with channel.open(LISTEN_BUILD_HISTORY) as call:
                await call.send(BuildHistoryRequest(), end=True)
                building = asyncio.create_task(build(channel, "s", {"build-arg:A": "b"}))
                began = await call.receive()
                assert began is not None and began.record is not None
                ref = began.record.ref
                assert (began.type, began.record.frontend_attrs) == (HISTORY_STARTED, {"build-arg:A": "b"})
                while began.record.num_total_steps != 1:
                    began = await call.receive()
                    assert began is not None and began.record is not None and began.type == HISTORY_STARTED
                assert not await told(channel, BuildHistoryRequest(ref="other", early_exit=True))
                assert len(await told(channel, BuildHistoryRequest(active_only=True, early_exit=True))) == 1
                may_fail.set()
                with pytest.raises(GrpcError, match="bad"):
                    await building
                while (ended := await call.receive()) is not None and ended.type == HISTORY_STARTED:
                    pass
                assert ended is not None and ended.type == HISTORY_COMPLETE and ended.record is not None
                assert ended.record.num_completed_steps == 1
                await channel.unary(UPDATE_BUILD_HISTORY, UpdateBuildHistoryRequest(ref=ref, finalize=True))
                where = ended.record.external_error
                assert where is not None
                async with channel.open(CONTENT_READ) as reading:
                    await reading.send(ReadContentRequest(where.digest), end=True)
                    data = b"".join([each.data async for each in reading])
                assert len(data) == where.size
                info = (await channel.unary(CONTENT_INFO, ContentInfoRequest(where.digest))).info
                assert info is not None and info.size == len(data)
                with pytest.raises(GrpcError):
                    await channel.unary(CONTENT_INFO, ContentInfoRequest("sha256:none"))
                assert [log.msg for each in await follow(channel, ref) for log in each.logs] == [b"out"]
                assert not await told(channel, BuildHistoryRequest(active_only=True, early_exit=True))
                await channel.unary(UPDATE_BUILD_HISTORY, UpdateBuildHistoryRequest(ref=ref, delete=True))
                gone = await call.receive()
                assert gone is not None and gone.type == HISTORY_DELETED
            assert not await told(channel, BuildHistoryRequest(early_exit=True))

    run(main)


async def told(channel: Channel, request: BuildHistoryRequest) -> list[BuildHistoryEvent]:
    async with channel.open(LISTEN_BUILD_HISTORY) as call:
        await call.send(request, end=True)
        return [event async for event in call]


def test_the_cache(tmp_path: Path) -> None:
    async def main() -> None:
        made = Set(tmp_path, nothing)
        made.builder.entries_ = [
            entry("one"),
            entry("two", kind="exec.cachemount", in_use=True),
            entry("three", kind="source.local", description="local source for context"),
        ]
        async with made.channel() as channel:

            async def usage(*filters: str) -> list[str]:
                found = await channel.unary(DISK_USAGE, DiskUsageRequest([*filters]))
                return [each.id for each in found.record]

            async def prune(request: PruneRequest) -> list[str]:
                async with channel.open(PRUNE) as call:
                    await call.send(request, end=True)
                    return [each.id async for each in call]

            assert await usage("") == ["one", "two", "three"]
            assert await usage("type==regular") == ["one"]
            assert await usage("type!=regular") == ["two", "three"]
            assert await usage("inuse") == ["two"]
            assert await usage("type==regular", "id==two") == ["one", "two"]
            assert await usage("type==regular,id==two") == []
            assert await usage("description~=local") == ["three"]
            with pytest.raises(GrpcError, match="failed to parse"):
                await usage("a<b")
            assert await prune(PruneRequest(["type==regular"])) == ["one"]
            assert await prune(PruneRequest(["id==none"])) == []
            assert len(await prune(PruneRequest([""], True, 3_600_000_000_000, 5, 6, 7))) == 3
            with pytest.raises(GrpcError, match="failed to parse"):
                await prune(PruneRequest(["a<b"]))
            assert made.builder.pruned == [
                {"everything": False, "unused_for_s": 0, "keep": Keep()},
                {"everything": False, "unused_for_s": 0, "keep": Keep()},
                {"everything": True, "unused_for_s": 3600, "keep": Keep(reserved=5, max_used=6, min_free=7)},
            ]

    run(main)
