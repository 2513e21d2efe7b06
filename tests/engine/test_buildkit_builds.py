"""Builds as BuildKit's clients ask for them, by a client of our own (``tests/buildkit_client.py``)."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import tarfile
import threading
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from buildkit_client import Holdings, Outcome, SessionServer, build, hijacked
from coved.buildkit.messages import DISK_USAGE, PRUNE, DiskUsageRequest, Exporter, PruneRequest
from coved.grpc.client import Channel
from coved.grpc.status import GrpcError

from life_support import eventually

pytestmark = [pytest.mark.root, pytest.mark.native]

BOUND_S = 120


class Builds:
    """Builds of one engine; each has a connection and a session of its own."""

    def __init__(self, engine: Any, folder: Path) -> None:
        self._engine = engine
        self.folder = folder
        self.key = f"test:{uuid.uuid4().hex}"

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        async with hijacked("/grpc", [], self._engine.socket) as (streams, pending):
            channel = Channel(*streams, pending=pending)
            try:
                yield channel
            finally:
                await channel.close()

    @asynccontextmanager
    async def session(self, holdings: Holdings) -> AsyncIterator[str]:
        id = uuid.uuid4().hex
        headers = [
            ("X-Docker-Expose-Session-Uuid", id),
            ("X-Docker-Expose-Session-Name", "bk"),
            ("X-Docker-Expose-Session-Sharedkey", self.key),
            ("X-Docker-Expose-Session-Grpc-Method", "/moby.filesync.v1.FileSync/DiffCopy"),
            ("X-Docker-Expose-Session-Grpc-Method", "/moby.filesync.v1.Auth/Credentials"),
        ]
        async with AsyncExitStack() as stack:
            streams, pending = await stack.enter_async_context(hijacked("/v1.45/session", headers, self._engine.socket))
            serving = asyncio.create_task(SessionServer(holdings).services.serve(*streams, pending=pending))
            try:
                yield id
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    async def run(
        self, holdings: Holdings, attributes: dict[str, str], exporters: Sequence[Exporter] = (Exporter("moby"),)
    ) -> Outcome:
        async with asyncio.timeout(BOUND_S), self.channel() as channel, self.session(holdings) as session:
            return await build(channel, session, {"filename": "Dockerfile", **attributes}, exporters)

    def __call__(
        self, dockerfile: str, *, attributes: dict[str, str] | None = None, holdings: Holdings | None = None,
        exporters: Sequence[Exporter] = (Exporter("moby"),),
    ) -> Outcome:  # fmt: skip
        """Raises GrpcError."""
        holdings = holdings or Holdings()
        files = self.folder / "dockerfile"
        files.mkdir(exist_ok=True)
        (files / "Dockerfile").write_text(dockerfile)
        (self.folder / "context").mkdir(exist_ok=True)
        holdings.trees = {"context": self.folder / "context", "dockerfile": files, **holdings.trees}
        return asyncio.run(self.run(holdings, attributes or {}, exporters))


@pytest.fixture
def builds(engine: Any, tmp_path: Path) -> Builds:
    return Builds(engine, tmp_path)


@pytest.fixture
def context(builds: Builds) -> Path:
    path = builds.folder / "context"
    path.mkdir()
    return path


@pytest.fixture
def says(docker_client: Any) -> Any:
    def run(image: str, *command: str) -> str:
        return str(docker_client.containers.run(image, [*command], remove=True, network_mode="none").decode())

    return run


def image_of(outcome: Outcome) -> str:
    return outcome.response.exporter_response["containerimage.digest"]


def test_an_image(builds: Builds, context: Path, says: Any, docker_client: Any) -> None:
    (context / "file").write_text("from the client")
    (context / "left.o").write_text("ignored")
    (context / ".dockerignore").write_text("*.o\n")
    name = f"built-{uuid.uuid4().hex}"
    outcome = builds(
        "FROM busybox\nARG WHO\nCOPY . /all/\nRUN echo built for $WHO > /who\nLABEL a=b\n",
        attributes={"build-arg:WHO": "me", "label:c": "d"},
        exporters=[Exporter("moby", {"name": name})],
    )
    response = outcome.response.exporter_response
    assert response["image.name"] == f"docker.io/library/{name}:latest"
    assert response["containerimage.config.digest"] == response["containerimage.digest"]
    image = docker_client.images.get(name)
    assert image.id == response["containerimage.digest"]
    assert image.labels == {"a": "b", "c": "d"}
    assert says(name, "sh", "-c", "cat /all/file /who; ls -A /all; stat -c %u:%g /all/file").split("\n") == [
        "from the clientbuilt for me",
        ".dockerignore",
        "file",
        "0:0",
        "",
    ]
    assert [each for each in outcome.names if "internal" in each] == [
        "[internal] load build definition from Dockerfile",
        "[internal] load metadata for docker.io/library/busybox:latest",
        "[internal] load .dockerignore",
        "[internal] load build context",
    ]
    docker_client.images.remove(name)


def test_only_what_has_changed_is_sent(builds: Builds, context: Path) -> None:
    (context / "big").write_bytes(b"x" * 1_000_000)
    (context / "small").write_text(uuid.uuid4().hex)
    dockerfile = "FROM busybox\nCOPY . /all/\n"
    first, second, third = Holdings(), Holdings(), Holdings()
    image = image_of(builds(dockerfile, holdings=first))
    assert image_of(builds(dockerfile, holdings=second)) == image
    (context / "small").write_text("changed")
    (context / "new").symlink_to("big")
    assert image_of(builds(dockerfile, holdings=third)) != image
    assert first.transferred > 1_000_000
    assert second.transferred < 1000
    assert third.transferred < 1000


def test_a_restarted_engine_keeps_what_was_sent(engine_with: Any, tmp_path: Path) -> None:
    with engine_with() as engine:
        builds = Builds(engine, tmp_path)
        (tmp_path / "context").mkdir()
        (tmp_path / "context" / "big").write_bytes(b"x" * 1_000_000)
        first, second = Holdings(), Holdings()
        image = image_of(builds("FROM busybox\nCOPY . /all/\n", holdings=first))
        engine.kill()
        engine.start()
        assert image_of(builds("FROM busybox\nCOPY . /all/\n", holdings=second)) == image
        assert (first.transferred > 1_000_000, second.transferred < 1000) == (True, True)


def test_a_secret_leaves_no_trace(builds: Builds, says: Any) -> None:
    secret = uuid.uuid4().hex
    outcome = builds(
        "FROM busybox\nRUN --mount=type=secret,id=one [ $(wc -c < /run/secrets/one) = 32 ]\n"
        "RUN --mount=type=secret,id=two ls /run/secrets 2>&1 || true\n",
        holdings=Holdings(secrets={"one": secret.encode()}),
    )
    assert secret.encode() not in outcome.output
    assert says(image_of(outcome), "sh", "-c", f"grep -r {secret} /etc /run /tmp /root || echo none") == "none\n"
    with pytest.raises(GrpcError, match="secret two: not found"):
        builds("FROM busybox\nRUN --mount=type=secret,id=two,required=true true\n")


def test_an_ssh_agent(builds: Builds) -> None:
    asked: list[bytes] = []

    def agent(data: bytes) -> bytes:
        asked.append(data)
        return b"no keys here"

    dockerfile = (
        "FROM busybox\nRUN --mount=type=ssh echo -n list | timeout 10 nc local:$SSH_AUTH_SOCK > /said || true\n"
        "RUN --mount=type=ssh [ -S $SSH_AUTH_SOCK ]\n"
    )
    builds(dockerfile, holdings=Holdings(agent=agent))
    with pytest.raises(GrpcError, match="no SSH key 'default' forwarded from the client"):
        builds("FROM busybox\nRUN --mount=type=ssh,required=true true\n")


def test_what_fails_shows_where(builds: Builds) -> None:
    with pytest.raises(GrpcError) as caught:
        builds("FROM busybox\nRUN exit 3\n")
    assert caught.value.message == 'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3'
    details = {each.type_url.rpartition("/")[2]: json.loads(each.value) for each in caught.value.details}
    assert details["errdefs.Source+json"]["ranges"] == [{"start": {"line": 2}, "end": {"line": 2}}]
    with pytest.raises(GrpcError, match="unknown instruction: WRONG"):
        builds("FROM busybox\nWRONG x\n")
    with pytest.raises(GrpcError, match="failed to read dockerfile: open Nothing: no such file or directory"):
        builds("FROM busybox\n", attributes={"filename": "Nothing"})


def test_arguments_that_the_builder_itself_follows(builds: Builds, says: Any, docker_client: Any) -> None:
    epoch, hostname = "build-arg:SOURCE_DATE_EPOCH", "build-arg:BUILDKIT_SANDBOX_HOSTNAME"
    dockerfile = "FROM busybox\nRUN hostname > /host\nLABEL a=b\n"
    base = docker_client.images.get("busybox").history()
    image = image_of(builds(dockerfile, attributes={epoch: "1700000000", hostname: "elsewhere"}))
    assert docker_client.images.get(image).attrs["Created"] == "2023-11-14T22:13:20Z"
    assert [one["Created"] for one in docker_client.images.get(image).history()] == [
        1700000000, 1700000000, *(one["Created"] for one in base),
    ]  # fmt: skip
    assert says(image, "cat", "/host") == "elsewhere\n"
    assert says(image_of(builds(dockerfile)), "cat", "/host") == "buildkitsandbox\n"
    with pytest.raises(GrpcError, match="invalid SOURCE_DATE_EPOCH: yesterday"):
        builds("FROM scratch\n", attributes={epoch: "yesterday"})
    with pytest.raises(GrpcError, match="invalid hostname"):
        builds("FROM busybox\nRUN true\n", attributes={hostname: "a\n1.2.3.4 b"})


def test_mounts_count_by_what_is_in_them(builds: Builds, context: Path, says: Any) -> None:
    def run(of: str, *, anew: bool = False, more: str = "", **attributes: str) -> tuple[str, bool]:
        """What the command has left, and whether it ran."""
        (context / "seed").mkdir(exist_ok=True)
        (context / "seed" / "file").write_text(of)
        asked = {name.replace("_", "-"): value for name, value in attributes.items()}
        outcome = builds(
            f"FROM busybox AS made\nRUN mkdir /d /e && echo {of} >/d/file && head -c 20 /dev/urandom >/other\n"
            "FROM busybox\n"
            "RUN --mount=type=bind,from=made,source=/d,target=/a --mount=from=made,source=/e,target=/none "
            f"--mount=type=cache,id={context.parent.name},from=seeds,source=/seed,target=/c "
            f"ls /none; cat /a/file /c/file >/result; echo x >>/c/uses; wc -l </c/uses >>/result {more}\n",
            attributes={"context:seeds": "local:seeds", **({"no-cache": "made"} if anew else {}), **asked},
            holdings=Holdings(trees={"seeds": context}),
        )
        vertices = [one for message in outcome.status for one in message.vertexes if "cat /a/file" in one.name]
        return says(image_of(outcome), "cat", "/result"), not any(one.cached for one in vertices)

    assert run("1") == ("1\n11\n", True)
    assert run("1", anew=True) == ("1\n11\n", False)
    assert run("1", more="&& true") == ("1\n12\n", True)
    assert run("2") == ("2\n21\n", True)
    assert run("2", ulimit="nofile=100") == ("2\n22\n", True)
    assert run("2", shm_size="1048576") == ("2\n23\n", True)
    assert run("2", ulimit="nofile=100") == ("2\n22\n", False)


def test_there_are_no_devices(builds: Builds) -> None:
    with pytest.raises(GrpcError, match=r'required device "vendor.com/class=x" is not registered'):
        builds("FROM busybox\nRUN --device=vendor.com/class=x,required true\n")
    outcome = builds("FROM busybox\nRUN --device=vendor.com/class=x true\n")
    printed = b"".join(one.msg for message in outcome.status for one in message.logs)
    assert b'Optional device "vendor.com/class=x" is not registered\n' in printed


def test_files_instead_of_an_image(builds: Builds, context: Path) -> None:
    (context / "file").write_text("one")
    dockerfile = (
        "FROM busybox AS made\nRUN mkdir /out; echo two > /out/two; ln -s two /out/link\n"
        "FROM scratch\nCOPY file /\nCOPY --from=made /out /\n"
    )
    received = builds.folder / "received"
    received.mkdir()
    outcome = builds(dockerfile, holdings=Holdings(received=received), exporters=[Exporter("local")])
    assert outcome.response.exporter_response == {}
    assert sorted(path.name for path in received.iterdir()) == ["file", "link", "two"]
    assert (received / "link").readlink() == Path("two")
    assert (received / "two").read_text() == "two\n"
    holdings = Holdings()
    builds(dockerfile, holdings=holdings, exporters=[Exporter("tar")])
    with tarfile.open(fileobj=io.BytesIO(bytes(holdings.archive))) as archive:
        assert sorted(archive.getnames()) == ["file", "link", "two"]


def test_a_context_on_standard_input(builds: Builds, says: Any) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in (("Dockerfile", "FROM busybox\nCOPY a /\n"), ("a", "from the archive")):
            member = tarfile.TarInfo(name)
            member.size, member.uid = len(text), 1000
            archive.addfile(member, io.BytesIO(text.encode()))
    outcome = builds(
        "FROM unused\n",
        holdings=Holdings(uploads={"x": buffer.getvalue()}),
        attributes={"context": "http://buildkit-session/x"},
    )
    assert says(image_of(outcome), "sh", "-c", "cat /a; stat -c %u /a") == "from the archive0\n"


def test_named_contexts(builds: Builds, says: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "f").write_text("other")
    outcome = builds(
        "FROM base\nCOPY --from=other f /\n",
        holdings=Holdings(trees={"other": tmp_path / "other"}),
        attributes={"context:other": "local:other", "context:base": "docker-image://busybox"},
    )
    assert says(image_of(outcome), "cat", "/f") == "other"


@pytest.mark.parametrize("how", ["reset", "connection"])
def test_a_client_that_gives_up_stops_what_runs(builds: Builds, engine: Any, how: str) -> None:
    marker = f"6{uuid.uuid4().int % 10**8:08}"
    running = f"grep -l '[6]{marker[1:]}' /proc/[0-9]*/cmdline 2>/dev/null || true"

    async def main() -> None:
        (builds.folder / "context").mkdir()
        (builds.folder / "Dockerfile").write_text(f"FROM busybox\nRUN sleep {marker}\n")
        holdings = Holdings({"context": builds.folder / "context", "dockerfile": builds.folder})
        async with asyncio.timeout(BOUND_S), builds.channel() as channel, builds.session(holdings) as session:
            task = asyncio.create_task(build(channel, session, {"filename": "Dockerfile"}))
            await asyncio.to_thread(eventually, lambda: engine.sh(running))
            if how == "reset":
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            else:
                await channel.close()
                await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    eventually(lambda: not engine.sh(running))


def test_several_at_once(builds: Builds, context: Path) -> None:
    """Each has a copy of the context, which it is sent only once for all its steps."""
    (context / "f").write_text(uuid.uuid4().hex)
    dockerfile = "FROM busybox\nCOPY f /\nRUN cat /f\n"
    outcomes: list[Outcome] = []
    files = builds.folder / "dockerfile"
    files.mkdir()
    (files / "Dockerfile").write_text(dockerfile)

    def one() -> None:
        holdings = Holdings({"context": context, "dockerfile": files})
        outcomes.append(asyncio.run(builds.run(holdings, {})))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    # A step may be carried out by two of them at the same time; what it makes may then have two times.
    assert all((context / "f").read_bytes() in outcome.output or outcome.output == b"" for outcome in outcomes)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("target:other", "unsupported context source target for x"),
        ("nonsense://other", "unsupported context source nonsense for x"),
        ("input:other", "invalid input other for x"),
    ],
)
@pytest.mark.parametrize("dockerfile", ["FROM x\n", "FROM busybox\nCOPY --from=x . /\n"])
def test_contexts_that_only_the_client_could_lead_to_are_no_images(
    builds: Builds, dockerfile: str, place: str, message: str
) -> None:
    """``target:`` of ``cove build --build-context``, and of bake, whose client makes an input of it."""
    with pytest.raises(GrpcError, match=message):
        builds(dockerfile, attributes={"context:x": place})


def test_the_cache_is_told_of_and_pruned(builds: Builds, context: Path) -> None:
    (context / "f").write_text(uuid.uuid4().hex)
    builds("FROM busybox\nCOPY f /\nRUN true\n", exporters=[])

    async def main() -> None:
        async with asyncio.timeout(BOUND_S), builds.channel() as channel:
            usage = await channel.unary(DISK_USAGE, DiskUsageRequest([""]))
            kinds = {each.record_type for each in usage.record}
            assert {"regular", "source.local"} <= kinds
            described = "\n".join(each.description for each in usage.record)
            for part in ("COPY f /", "RUN true", "local source for context"):
                assert part in described
            async with channel.open(PRUNE) as call:
                await call.send(PruneRequest(all=True), end=True)
                gone = {each.id async for each in call}
            assert gone
            after = await channel.unary(DISK_USAGE, DiskUsageRequest())
            assert not gone & {each.id for each in after.record}

    asyncio.run(main())


def test_what_is_no_upgrade(engine: Any) -> None:
    client = docker.APIClient(engine.url)
    for path, headers, status, message in [
        ("/grpc", {}, 500, "no upgrade proto in request"),
        ("/session", {}, 400, "no upgrade proto in request"),
        ("/session", {"Upgrade": "h2c", "Connection": "Upgrade"}, 400, "session id must be set"),
        ("/grpc", {"Upgrade": "tcp", "Connection": "Upgrade"}, 400, "protocol tcp not supported"),
    ]:
        answer = client.post(f"{client.base_url}{path}", headers=headers, timeout=20)
        assert (answer.status_code, answer.json()["message"]) == (status, message)


def test_a_client_that_only_tries_the_connection(builds: Builds) -> None:
    """buildx looks whether there is a BuildKit: it asks for the connection, and closes it."""

    async def main() -> None:
        async with asyncio.timeout(20):
            for _ in range(5):
                async with builds.channel():
                    pass

    asyncio.run(main())


def test_clients_that_do_not_speak_http2(engine: Any, builds: Builds) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            for junk in (
                b"",
                b"GET / HTTP/1.1\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
                b"\0" * 10_000,
            ):
                async with hijacked("/grpc", [], engine.socket) as ((reader, writer), _):
                    writer.write(junk)
                    writer.write_eof()
                    await reader.read()
            async with hijacked("/session", [("X-Docker-Expose-Session-Uuid", uuid.uuid4().hex)], engine.socket) as (
                (reader, writer),
                _,
            ):
                writer.write(b"HTTP/1.1 400 no\r\n\r\n")
                writer.write_eof()
                assert (await reader.read()).startswith(b"PRI * HTTP/2.0")
            async with builds.channel() as channel:
                await channel.unary(DISK_USAGE, DiskUsageRequest())

    asyncio.run(main())


def test_an_engine_that_builds_nothing_loads_nothing_of_it() -> None:
    script = (
        "import sys\nfrom coved.api.routes import create_router\nfrom coved import engine, process\ncreate_router()\n"
        "print([name for name in sys.modules if name.startswith(('h2', 'hpack', 'coved.grpc', 'coved.buildkit', 'coved.build.'))])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    print(found.stdout)
    assert not [name for name in ("'h2", "'hpack", "coved.grpc", "coved.buildkit") if name in found.stdout]
