"""`cove build` and `cove builder` from the command line to the wire, with an engine's BuildKit that says what a test wants."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.cli import main
from coved.buildkit import messages as m
from coved.grpc.call import Call
from coved.grpc.client import Channel
from coved.grpc.server import Services
from coved.grpc.status import Code, Detail, GrpcError
from engine_side import fetch, streams

T0 = 1_764_122_536 * 10**9
IMAGE = "sha256:" + "1" * 64


class Kit:
    """An engine with BuildKit and nothing else. What a build does is `work`, given its session, which it may use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.solves: list[m.SolveRequest] = []
        self.questions: list[m.FrontendSolveRequest] = []
        self.returned: list[m.ReturnRequest] = []
        self.methods: list[str] = []
        self.pruned: list[m.PruneRequest] = []
        self.records: list[m.UsageRecord] = []
        self.statuses: list[m.StatusResponse] = []
        self.metadata: dict[str, bytes] = {}
        self.response = {"containerimage.digest": IMAGE}
        self.failure: GrpcError | None = None
        self.canceled = False
        self.hangs = False
        """It does not tell the end of a build."""
        self.work: Callable[[Channel], Awaitable[None]] | None = None
        self.started = threading.Event()
        self.ended = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._listening = threading.Event()
        self._thread.start()
        assert self._listening.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._session: asyncio.Future[Channel] = self._loop.create_future()
        self._over = asyncio.Event()
        self._returned = asyncio.Event()
        self._services = Services()
        for method, answer in (
            (m.SOLVE, self._solve),
            (m.PING, self._ping),
            (m.FRONTEND_SOLVE, self._ask),
            (m.RETURN, self._return),
            (m.LIST_WORKERS, self._workers),
            (m.DISK_USAGE, self._usage),
        ):
            self._services.unary(method, answer)  # type: ignore[arg-type]
        self._services.stream(m.STATUS, self._status)
        self._services.stream(m.PRUNE, self._prune)
        self._tasks = []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        listener.setblocking(False)
        self._listening.set()
        while True:
            client, _ = await self._loop.sock_accept(listener)
            self._tasks.append(self._loop.create_task(self._connected(client)))

    async def _connected(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = await self._loop.sock_recv(client, 1)
            if not data:
                client.close()
                return
            head += data
        lines = head.decode().split("\r\n")
        client.setblocking(True)
        client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert "upgrade: h2c" in head.decode().lower()
        reader, writer = await streams(client)
        if lines[0].startswith("POST /session"):
            self.methods = [
                line.split(": ")[1] for line in lines if line.lower().startswith("x-docker-expose-session-grpc-m")
            ]
            self._session.set_result(Channel(reader, writer))
            return
        await self._services.serve(reader, writer)

    async def _solve(self, request: m.SolveRequest, call: object) -> m.SolveResponse:
        self.solves.append(request)
        try:
            await self._returned.wait()
            if self.failure is not None:
                raise self.failure
            return m.SolveResponse(self.response)
        except asyncio.CancelledError:
            self.canceled = True
            raise
        finally:
            self._over.set()
            self.ended.set()

    async def _ping(self, request: object, call: object) -> m.PongResponse:
        return m.PongResponse([m.APICap("return", True)])

    async def _ask(self, request: m.FrontendSolveRequest, call: Call[Any, Any]) -> m.FrontendSolveResponse:
        self.questions.append(request)
        assert dict(call.metadata)["buildkit-controlapi-buildid"] == self.solves[-1].ref
        self.started.set()
        if self.work is not None:
            await self.work(await self._session)
        if self.failure is not None:
            raise self.failure
        return m.FrontendSolveResponse(result=m.Result(ref=m.Ref("r"), metadata=self.metadata))

    async def _return(self, request: m.ReturnRequest, call: object) -> m.ReturnResponse:
        self.returned.append(request)
        self._returned.set()
        return m.ReturnResponse()

    async def _status(self, call: Call[Any, Any]) -> None:
        await call.one()
        for status in self.statuses:
            await call.send(status)
        await self._over.wait()
        if self.hangs:
            await asyncio.sleep(60)

    async def _workers(self, request: object, call: object) -> m.ListWorkersResponse:
        label = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
        return m.ListWorkersResponse([m.WorkerRecord("w", {label: "10.9.8.7"})])

    async def _usage(self, request: object, call: object) -> m.DiskUsageResponse:
        return m.DiskUsageResponse(self.records)

    async def _prune(self, call: Call[Any, Any]) -> None:
        self.pruned.append(await call.one())
        for record in self.records:
            await call.send(record)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    kit = Kit(tmp_path / "engine.sock")
    monkeypatch.setenv("COVE_HOST", f"unix://{kit.path}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("BUILDKIT_PROGRESS", "NO_COLOR", "DOCKER_DEFAULT_PLATFORM", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COVE_DEBUG", "")  # so that it is put back as it was, whatever a command makes of it
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "a.txt").write_text("a")
    monkeypatch.chdir(folder)
    yield kit


class Done(Exception):
    pass


@pytest.fixture
def cove(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the program: its status, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        def leave(status: int) -> None:
            raise Done(status)

        monkeypatch.setattr(main, "_exit", leave)
        with pytest.raises(Done) as done:
            main.main(words)
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = capfd.readouterr()
        return done.value.args[0], out, err

    return run


Cove = Callable[..., tuple[int, str, str]]


def test_a_build(kit: Kit, cove: Cove) -> None:
    got: dict[str, bytes] = {}

    async def work(session: Channel) -> None:
        _, dockerfile = await fetch(session, "dockerfile", metadata=[("followpaths", "Dockerfile")])
        _, context = await fetch(session, "context", metadata=[("exclude-patterns", "Dockerfile")])
        got.update({**dockerfile, **context})

    kit.work = work
    kit.statuses = [
        m.StatusResponse([m.Vertex("sha256:a", name="[1/1] FROM scratch", started=T0)]),
        m.StatusResponse([m.Vertex("sha256:a", name="[1/1] FROM scratch", started=T0, completed=T0, cached=True)]),
    ]
    status, out, err = cove("build", "-t", "a", "--tag=b:1", "--build-arg", "V=1", "--label", "l", ".")
    assert (status, out) == (0, "")
    assert err == '#0 building with "default" instance using docker driver\n\n#1 [1/1] FROM scratch\n#1 CACHED\n'
    assert got == {"Dockerfile": b"FROM scratch\n", "a.txt": b"a"}
    attributes = {
        "filename": "Dockerfile",
        "image-resolve-mode": "local",
        "build-arg:V": "1",
        "label:l": "",
    }
    (solve,), (question,), (returned,) = kit.solves, kit.questions, kit.returned
    assert solve.frontend == ""
    assert solve.frontend_attrs == attributes
    assert solve.exporters == [m.Exporter("moby", {"name": "a,b:1"})]
    assert (solve.exporter_deprecated, solve.exporter_attrs_deprecated) == ("moby", {"name": "a,b:1"})
    assert (question.frontend, question.frontend_opt) == ("dockerfile.v0", attributes)
    assert question.allow_result_return
    assert returned.error is None
    assert returned.result is not None
    assert returned.result.ref == m.Ref("r")
    assert "/moby.filesync.v1.FileSync/DiffCopy" in kit.methods
    assert "/moby.filesync.v1.FileSend/DiffCopy" not in kit.methods


def test_the_id_is_all_that_a_quiet_build_prints(kit: Kit, cove: Cove) -> None:
    kit.response |= {"containerimage.config.digest": "sha256:" + "2" * 64}
    assert cove("build", "-q", "--iidfile", "id", ".") == (0, "sha256:" + "2" * 64 + "\n", "")
    assert Path("id").read_text() == "sha256:" + "2" * 64


def test_metadata(kit: Kit, cove: Cove) -> None:
    kit.response |= {"image.name": "docker.io/library/a", "provenance": "eyJhIjogMX0="}
    assert cove("build", "--progress=none", "--metadata-file", "m.json", ".")[0] == 0
    found = json.loads(Path("m.json").read_text())
    assert found.pop("buildx.build.ref").startswith("default/default/")
    assert found == {"containerimage.digest": IMAGE, "image.name": "docker.io/library/a", "provenance": {"a": 1}}


FAILURE = GrpcError(
    Code.UNKNOWN,
    'process "/bin/sh -c make" did not complete successfully: exit code: 2',
    [
        Detail("github.com/moby/buildkit/errdefs.Vertex+json", b'{"digest":"sha256:a"}'),
        Detail(
            "github.com/moby/buildkit/errdefs.Source+json",
            json.dumps(
                {
                    "info": {"filename": "Dockerfile", "data": "RlJPTSBhClJVTiBtYWtlCg=="},
                    "ranges": [{"start": {"line": 2}, "end": {"line": 2}}],
                }
            ).encode(),
        ),
    ],
)


def test_a_build_that_fails(kit: Kit, cove: Cove) -> None:
    kit.failure = FAILURE
    status, out, err = cove("build", "--progress=none", ".")
    assert (status, out) == (1, "")
    assert err == (
        "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN make\n   3 |     \n--------------------\n"
        'ERROR: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2\n'
    )
    error = kit.returned[0].error
    assert error is not None
    assert (error.code, error.message, len(error.details)) == (2, FAILURE.message, 2)


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [(Code.CANCELLED, 130, "Canceled"), (Code.INTERNAL, 100, "Internal"), (Code.NOT_FOUND, 1, "NotFound"), (77, 1, "Code(77)")],
)  # fmt: skip
def test_codes_and_statuses(kit: Kit, cove: Cove, code: int, status: int, name: str) -> None:
    kit.failure = GrpcError(code, "no")
    assert cove("build", "-q", ".") == (status, "", f"ERROR: failed to solve: {name}: no\n")


def test_warnings_are_told_at_the_end(kit: Kit, cove: Cove) -> None:
    info = m.SourceInfo("Dockerfile", b"from a\n")
    lines = [m.Range(m.Position(1), m.Position(1))]
    warning = m.VertexWarning(
        "sha256:a", 1, b"Casing: 'from' (line 1)", [b"Use the same casing"], "https://x", info, lines
    )
    vertex = m.Vertex("sha256:a", name="[internal] load", started=T0)
    kit.statuses = [
        m.StatusResponse([vertex]),
        m.StatusResponse(warnings=[warning]),
        m.StatusResponse(warnings=[warning]),
    ]
    _, _, err = cove("build", ".")
    assert err.endswith("\n 1 warning found (use cove --debug to expand):\n - Casing: 'from' (line 1)\n")
    _, _, err = cove("--debug", "build", ".")
    assert err.endswith(
        "\n 1 warning found:\n - Casing: 'from' (line 1)\nUse the same casing\nMore info: https://x\n"
        "Dockerfile:1\n--------------------\n   1 | >>> from a\n   2 |     \n--------------------\n\n"
    )


def test_a_check(kit: Kit, cove: Cove) -> None:
    found = {
        "warnings": [
            {
                "ruleName": "Casing",
                "detail": "Use the same",
                "location": {"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]},
            }
        ],
        "sources": [{"filename": "Dockerfile", "data": "ZnJvbSBhCg=="}],
    }
    kit.metadata = {"result.json": json.dumps(found).encode(), "result.statuscode": b"1"}
    status, out, _ = cove("build", "--check", "--progress=none", ".")
    assert status == 1
    assert out == (
        "Check complete, 1 warning has been found!\n\nWARNING: Casing\nUse the same\n"
        "./Dockerfile:1\n--------------------\n   1 | >>> from a\n   2 |     \n--------------------\n"
    )
    (solve,), (question,) = kit.solves, kit.questions
    assert solve.internal
    assert not solve.exporters
    assert question.frontend_opt["requestid"] == "frontend.lint"
    assert question.frontend_opt["frontend.caps"] == "moby.buildkit.frontend.subrequests+forward"


def test_other_questions(kit: Kit, cove: Cove) -> None:
    kit.metadata = {"result.json": b'{"targets":[{"name":"a","default":true}]}', "result.statuscode": b"3"}
    assert cove("build", "--call=targets", "--progress=none", ".")[:2] == (3, "TARGET      DESCRIPTION\na (default) \n")


def test_a_question_as_json(kit: Kit, cove: Cove) -> None:
    kit.metadata = {"result.json": b'{"a":1}', "result.statuscode": b"3"}
    words = ("build", "--call=check,format=json,ignorestatus=true", "--progress=none", ".")
    assert cove(*words)[:2] == (0, '{"a":1}\n')


def test_flags_become_attributes(kit: Kit, cove: Cove, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROM_ENV", "e")
    (tmp_path / "docker").mkdir()
    proxies = {"proxies": {"default": {"httpProxy": "http://p", "noProxy": "local"}}}
    (tmp_path / "docker/config.json").write_text(json.dumps(proxies))
    (tmp_path / "extra").mkdir()
    words = [
        "--pull", "--no-cache-filter=a", "--no-cache-filter=b", "--target=t", "--platform=linux/arm64,linux/amd64",
        "--network=host", "--shm-size=64m", "--ulimit=nofile=10:20", "--cgroup-parent=/c", "--build-arg=FROM_ENV",
        "--build-arg=UNSET", "--build-arg=no_proxy=mine", "--add-host=h:1.2.3.4,g:host-gateway", "--add-host=six=[::1]",
        "--cache-from=u/a,u/b", "--cache-to=type=inline", "--allow=security.insecure",
        f"--build-context=extra={tmp_path / 'extra'}", "--build-context=img=docker-image://alpine",
    ]  # fmt: skip
    status, _, err = cove("build", "-q", *words, ".")
    assert (status, err) == (0, "")
    (solve,) = kit.solves
    assert solve.frontend_attrs == {
        "filename": "Dockerfile",
        "image-resolve-mode": "pull",
        "no-cache": "a,b",
        "target": "t",
        "platform": "linux/arm64,linux/amd64",
        "force-network-mode": "host",
        "shm-size": str(64 << 20),
        "ulimit": "nofile=10:20",
        "cgroup-parent": "/c",
        "build-arg:FROM_ENV": "e",
        "build-arg:no_proxy": "mine",
        "build-arg:HTTP_PROXY": "http://p",
        "build-arg:http_proxy": "http://p",
        "add-hosts": "h=1.2.3.4,g=10.9.8.7,six=::1",
        "cache-imports": '[{"Type":"registry","Attrs":{"ref":"u/a"}},{"Type":"registry","Attrs":{"ref":"u/b"}}]',
        "context:extra": "local:extra",
        "context:img": "docker-image://alpine",
        "frontend.caps": "moby.buildkit.frontend.contexts+forward",
    }
    assert solve.entitlements == ["security.insecure", "network.host"]
    assert solve.cache is not None
    assert solve.cache.exports == [m.CacheOptionsEntry("inline")]


@pytest.mark.parametrize(
    ("words", "exporters"),
    [
        ([], [m.Exporter("moby")]),
        (["--load"], [m.Exporter("moby")]),
        (["--output=type=image,name=x"], [m.Exporter("moby", {"name": "x"})]),
        (["--output=type=cacheonly"], []),
        (["--output=out"], [m.Exporter("local")]),
        (["--output=type=tar,dest=o.tar"], [m.Exporter("tar")]),
        (["--output=type=oci,dest=o.tar", "-t", "n"], [m.Exporter("oci", {"name": "n"})]),
        (["--output=type=docker,dest=o.tar", "--load"], [m.Exporter("docker")]),
        (["--annotation=a=b", "-t", "n"], [m.Exporter("moby", {"annotation.a": "b", "name": "n"})]),
    ],
)
def test_outputs(kit: Kit, cove: Cove, words: list[str], exporters: list[m.Exporter]) -> None:
    assert cove("build", "-q", *words, ".")[0] == 0
    assert kit.solves[0].exporters == exporters


def test_a_tree_comes_back(kit: Kit, cove: Cove) -> None:
    async def work(session: Channel) -> None:
        async with session.open(m.FILE_SEND_STREAM, metadata=[("buildkit-attachable-exporter-id", "0")]) as call:
            await call.send(m.BytesMessage(b"archive"))
            await call.end()
            assert await call.receive() is None

    kit.work = work
    kit.response = {}
    assert cove("build", "--progress=none", "-o", "-", ".") == (0, "archive", "")


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_dockerfile_on_stdin(kit: Kit, cove: Cove, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[dict[str, bytes]] = []

    async def work(session: Channel) -> None:
        got.append((await fetch(session, "dockerfile"))[1])
        got.append((await fetch(session, "context"))[1])

    kit.work = work
    stdin(monkeypatch, b"FROM mine\n")
    assert cove("build", "-q", "-")[0] == 0
    assert got == [{"Dockerfile": b"FROM mine\n"}, {}]
    assert kit.solves[0].frontend_attrs["dockerfilekey"] == "dockerfile"


def test_a_context_on_stdin(kit: Kit, cove: Cove, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add("a.txt")
    got = []

    async def work(session: Channel) -> None:
        url = kit.solves[0].frontend_attrs["context"]
        assert url.startswith("http://buildkit-session/")
        async with session.open(m.PULL, metadata=[("urlpath", "/" + url.rpartition("/")[2])]) as call:
            await call.end()
            got.append(b"".join([message.data async for message in call]))

    kit.work = work
    stdin(monkeypatch, archive.getvalue())
    assert cove("build", "-q", "-f", "sub/Dockerfile", "-")[0] == 0
    assert got == [archive.getvalue()]
    assert kit.solves[0].frontend_attrs["filename"] == "sub/Dockerfile"
    assert "/moby.filesync.v1.FileSync/DiffCopy" not in kit.methods


@pytest.mark.parametrize(
    "place", ["https://example.com/x.git#main", "git@github.com:a/b.git", "github.com/a/b", "ssh://git@host/x"]
)
def test_a_context_that_the_engine_fetches(kit: Kit, cove: Cove, place: str) -> None:
    assert cove("build", "-q", "-f", "build/Dockerfile", place)[0] == 0
    attributes = kit.solves[0].frontend_attrs
    assert (attributes["context"], attributes["filename"]) == (place, "build/Dockerfile")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], 'unable to prepare context: path "nope" not found'),
        (["-f", "nodir/x", "."], "resolve : lstat nodir: no such file or directory"),
        (["-", "-f", "-"], "invalid argument: can't use stdin for both build context and dockerfile"),
        (["--progress=foo", "."], "invalid progress mode foo"),
        (["--progress=tty", "."], "failed to get console: provided file is not a console"),
        (["-q", "--progress=plain", "."], "progress=plain and quiet cannot be used together"),
        (["--add-host=x", "."], "invalid host x"),
        (["--add-host=x:1.2.3", "."], "invalid host x:1.2.3"),
        (["--secret=foo", "."], "invalid field 'foo' must be a key=value pair"),
        (["--secret=foo=1", "."], "unexpected key 'foo' in 'foo=1'"),
        (["--secret=id=x,src=nope", "."], "failed to stat nope: stat nope: no such file or directory"),
        (["--output=type=local", "."], "dest is required for local exporter"),
        (["--output=type=local,dest=-", "."], "dest cannot be stdout for local exporter"),
        (["--output=type=local,dest=Dockerfile", "."], "destination directory Dockerfile is a file"),
        (["--output=type=tar,dest=.", "."], "destination file . is a directory"),
        (["--output=dest=x,a=b", "."], "type is required for output"),
        (["--iidfile=i", "--output=out", "."], "local and tar exporters are incompatible with image ID file"),
        (["--tag=FOO", "."], 'invalid tag "FOO": repository name must be lowercase'),
        (["--tag=a b", "."], 'invalid tag "a b": invalid reference format'),
        (["--push", "."], "tag is needed when pushing to registry"),
        (["--build-arg==x", "."], 'invalid key-value pair "=x": empty key'),
        (["--build-arg=BUILDKIT_SYNTAX=", "."], "empty BUILDKIT_SYNTAX build-arg is invalid, use --build-arg"),
        (["--build-context=x", "."], "invalid context value: x, expected key=value"),
        (["--build-context=x=nodir", "."], "failed to get build context x: stat nodir: no such file or directory"),
        (["--cache-from=a=b", "."], 'type required for "a=b"'),
        (["--no-cache", "--no-cache-filter=a", "."], "--no-cache and --no-cache-filter cannot currently be used together"),
        (["--network=foo", "."], 'network mode "foo" not supported by buildkit - you can define a custom'),
        (["--annotation=x", "."], 'invalid annotation "x", expected key=value'),
        (["--call=a,b", "."], "invalid print value: a,b"),
        (["--metadata-file=/nodir/x", "."], "open /nodir/"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for(kit: Kit, cove: Cove, words: list[str], message: str) -> None:
    status, out, err = cove("build", *words)
    assert (status, out) == (1, "")
    assert f"ERROR: {message}" in err


def test_attestations_are_refused_and_none_are_not(kit: Kit, cove: Cove) -> None:
    status, _, err = cove("build", "-q", "--provenance=true", ".")
    assert status == 1
    assert err.startswith("ERROR: Attestation is not supported for the docker driver.\n")
    assert cove("build", "-q", "--provenance=false", "--sbom=false", ".")[0] == 0


def test_flags_of_the_old_builder(kit: Kit, cove: Cove) -> None:
    status, _, err = cove("build", "-q", "--rm", "--force-rm", "-m", "1g", "-c", "2", "--compress", "--squash", ".")
    assert status == 0
    assert err.startswith("WARNING: experimental flag squash is removed with BuildKit.")
    assert "--squash" not in cove("build", "--help")[1]


def test_no_context(cove: Cove) -> None:
    status, _, err = cove("build")
    assert status == 1
    assert err.startswith("cove: 'cove build' requires 1 argument\n\nUsage:  cove build [OPTIONS] PATH | URL | -\n")


def test_the_same_build_by_other_names(kit: Kit, cove: Cove) -> None:
    assert cove("builder", "build", "-q", ".")[0] == 0
    assert "Aliases:\n  cove builder build, cove image build, cove build\n" in cove("build", "--help")[1]


def test_builders(kit: Kit, cove: Cove) -> None:
    assert cove("build", "-q", "--builder", "default", ".")[0] == 0
    for words in (["build", "."], ["builder", "du"], ["builder", "prune", "-f"]):
        assert cove(*words, "--builder", "other") == (1, "", 'ERROR: no builder "other" found\n')


def test_an_engine_without_buildkit(tmp_path: Path, cove: Cove, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer() -> None:
        for _ in range(2):
            client, _ = listener.accept()
            if client.recv(65536):
                client.sendall(
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 31\r\n\r\n" + b'{"message": "page not found"}\r\n'
                )
            client.close()

    threading.Thread(target=answer, daemon=True).start()
    monkeypatch.setenv("COVE_HOST", f"unix://{path}")
    status, _, err = cove("build", "-q", ".")
    assert (status, err) == (1, "ERROR: the engine does not offer BuildKit, which builds need\n")


def interrupted(kit: Kit, times: int) -> tuple[int, str]:
    """A build in a process of its own, which is sent so many INTs when it has begun: its status and errors. It waits for its engine
    longer than we do for it.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    patient = "from cove.build import solve; solve.QUIET_S = 100.0; from cove.cli.main import main; main()"
    words = [sys.executable, "-c", patient, "build", "."]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert kit.started.wait(30)
    process.send_signal(signal.SIGINT)
    for _ in range(times - 1):
        assert kit.ended.wait(30)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


def test_an_interrupt_cancels(kit: Kit) -> None:
    async def work(session: Channel) -> None:
        await asyncio.sleep(60)

    kit.work = work
    status, err = interrupted(kit, 1)
    assert status == 130
    assert err.endswith("ERROR: failed to solve: Canceled: context canceled\n")
    assert kit.canceled


def test_a_second_interrupt_does_not_wait_for_the_engine(kit: Kit) -> None:
    async def work(session: Channel) -> None:
        await asyncio.sleep(60)

    kit.work, kit.hangs = work, True
    status, err = interrupted(kit, 2)
    assert status == 130
    assert err.endswith("ERROR: failed to solve: Canceled: context canceled\n")


USED = m.UsageRecord(
    "abc", mutable=True, size=1500, created_at=T0, usage_count=2, description="a", record_type="regular"
)
SHARED = m.UsageRecord("def", size=10**6, created_at=T0 + 120, shared=True, parents=["abc"], in_use=True)


def test_what_is_kept(kit: Kit, cove: Cove) -> None:
    kit.records = [USED, SHARED]
    assert cove("builder", "du")[1] == (
        "ID        RECLAIMABLE   SIZE      LAST ACCESSED\n"
        "def       false         1MB*      \nabc*      true          1.5kB     \n"
        "Shared:\t\t1MB\nPrivate:\t1.5kB\nReclaimable:\t1.5kB\nTotal:\t\t1.002MB\n"
    )
    pretty = (
        "ID:           def\nParents:\n - abc\nCreated at:   2025-11-26 02:02:16.00000012 +0000 UTC\n"
        "Mutable:      false\nReclaimable:  false\nShared:       true\nSize:         1MB\nUsage count:  0\n\n"
        "ID:           abc\nCreated at:   2025-11-26 02:02:16 +0000 UTC\nMutable:      true\nReclaimable:  true\n"
        "Shared:       false\nSize:         1.5kB\nDescription:  a\nUsage count:  2\nType:         regular\n\n"
    )
    for words in (["--verbose"], ["--format", "pretty"]):
        assert cove("builder", "du", *words, "--filter", "id=a")[1] == pretty
        assert cove("builder", "du", *words)[1].startswith(f"{pretty}Shared:\t\t1MB\n")
    as_json = [
        '{"CreatedAt":"2025-11-26 02:02:16.00000012 +0000 UTC","Description":"","ID":"def","LastUsedAt":"","Mutable":false,'
        '"Parents":["abc"],"Reclaimable":false,"Shared":true,"Size":"1MB","Type":"","UsageCount":0}',
        '{"CreatedAt":"2025-11-26 02:02:16 +0000 UTC","Description":"a","ID":"abc","LastUsedAt":"","Mutable":true,'
        '"Parents":null,"Reclaimable":true,"Shared":false,"Size":"1.5kB","Type":"regular","UsageCount":2}',
    ]
    for form in ("json", "{{json .}}"):
        assert cove("builder", "du", "--format", form)[1].splitlines() == as_json
    assert cove("builder", "du", "--format", "table {{.ID}}\\t{{upper .Type}}")[1] == (
        "ID        TYPE\ndef       \nabc*      REGULAR\n"
    )
    assert cove("builder", "du", "--format", "{{.Nosuch}}")[2] == (
        'ERROR: template parsing error: template: :1:2: executing "" at <.Nosuch>: '
        "can't evaluate field Nosuch in type *commands.diskusageContext\n"
    )
    assert cove("builder", "du", "--format", "json", "--verbose") == (
        1, "", "ERROR: --format and --verbose cannot be used together\n",
    )  # fmt: skip


def test_what_is_removed(kit: Kit, cove: Cove, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.records = [USED]
    room = ("--max-used-space", "2g", "--min-free-space", "3g")
    words = ("-a", "-f", "--keep-storage", "1g", *room, "--filter", "until=24h", "--filter", "type=regular")
    assert cove("builder", "prune", *words)[1] == (
        f"ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n{'abc*':<40}\ttrue \t\t1.5kB     \t\nTotal:\t1.5kB\n"
    )
    assert kit.pruned == [m.PruneRequest(["type==regular"], True, 24 * 3600 * 10**9, 1 << 30, 2 << 30, 3 << 30)]
    stdin(monkeypatch, b"n\n")
    assert cove("builder", "prune")[1] == (
        "WARNING! This will remove all dangling build cache. Are you sure you want to continue? [y/N] "
    )
    stdin(monkeypatch, b"n\n")
    assert cove("builder", "prune", "--all")[1].startswith("WARNING! This will remove all build cache. Are you sure")
    assert len(kit.pruned) == 1


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (["until=x"], '"until" filter expects a duration (e.g., \'24h\'): time: invalid duration "x"'),
        (["until=1h", "until=2h"], '"until" filter expects only one value'),
        (["until=1h", "unused-for=2h"], 'conflicting filters "until" and "unused-for"'),
    ],
)
def test_filters_that_are_none(kit: Kit, cove: Cove, filters: list[str], message: str) -> None:
    words = [word for text in filters for word in ("--filter", text)]
    assert cove("builder", "du", *words) == (1, "", f"ERROR: {message}\n")
