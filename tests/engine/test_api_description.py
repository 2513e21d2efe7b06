"""Every route that the engine serves, driven with real objects, and every answer held against the API's description."""

from __future__ import annotations

import io
import json
import re
import tarfile
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from coved.api.routes import create_router

from api_description import Description
from image_archives import docker_archive
from raw_client import Answer, ask, ask_json, hijack

pytestmark = [pytest.mark.root, pytest.mark.native]

HEADERS = ("api-version", "docker-experimental", "ostype", "server", "date")
NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
# Served, and with nothing to succeed at: what they answer is an error by design.
ONLY_ERRORS = re.compile(
    r"/(swarm|nodes|services|tasks|secrets|configs|session|auth|distribution|plugins/|build$|images/search)"
)


class Driver:
    """Asks, and checks every answer."""

    def __init__(self, socket: str, description: Description) -> None:
        self.socket = socket
        self.description = description
        self.served = {(route.method, _shape("/" + "/".join(route.segments))) for route in create_router()}
        self.succeeded: set[tuple[str, str]] = set()

    def serves(self, method: str, template: str) -> bool:
        return (method, _shape(template)) in self.served

    def __call__(
        self,
        method: str,
        template: str,
        *names: str,
        status: int = 200,
        body: Any = None,
        query: dict[str, Any] | None = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        limit: int = -1,
    ) -> Answer:
        target = self.target(template, *names, query=query)
        if data is not None:
            answer = ask(self.socket, method, target, data, headers, limit=limit)
        else:
            answer = ask_json(self.socket, method, target, body, limit=limit)
        self.check(method, template, answer, status, whole=limit < 0)
        return answer

    def target(self, template: str, *names: str, query: dict[str, Any] | None = None) -> str:
        path = template
        for name in names:
            path = re.sub(r"\{\w+\}", quote(name, safe="/:"), path, count=1)
        words = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in (query or {}).items()}
        return f"/v1.51{path}" + (f"?{urlencode(words, doseq=True)}" if words else "")

    def hijack(self, template: str, name: str, query: dict[str, Any] | None = None, body: Any = None) -> bytes:
        answer, client = hijack(self.socket, self.target(template, name, query=query), body)
        assert answer.status == 101, answer
        assert answer.content_type.startswith("application/vnd.docker."), answer
        self.description.seen.setdefault(("POST", template), set()).add(101)
        self.succeeded.add(("POST", template))
        data = b""
        with client:
            while chunk := client.recv(65536):
                data += chunk
        return data

    def check(self, method: str, template: str, answer: Answer, status: int, *, whole: bool = True) -> None:
        where = f"{method} {template}"
        assert answer.status == status, (where, answer)
        for name in HEADERS:
            assert answer.headers.get(name), (where, name, answer.headers)
        body = answer.body if whole else b""
        problems = self.description.check(method, template, answer.status, answer.content_type, body)
        assert not problems, (where, problems)
        if answer.status < 400:
            self.succeeded.add((method, template))


def _shape(template: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", template)


@pytest.fixture(scope="module")
def description() -> Description:
    return Description()


@pytest.fixture(scope="module")
def drive(engine: Any, description: Description) -> Driver:
    return Driver(str(engine.socket), description)


@pytest.fixture
def unique() -> str:
    return f"d-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def running(drive: Driver, unique: str) -> Iterator[str]:
    """A container with something in every field: a volume, a network, ports, labels."""
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", "echo out; echo err >&2; touch /made; exec sleep 600"],
        "Env": ["A=b"],
        "Labels": {"made-by": unique},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "HostConfig": {
            "Binds": [f"{unique}:/data"],
            "Mounts": [{"Type": "tmpfs", "Target": "/scratch"}],
            "PortBindings": {"80/tcp": [{"HostPort": ""}]},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1},
            "Annotations": {"note": unique},
        },
    }
    made = drive("POST", "/containers/create", status=201, body=body, query={"name": unique}).json()
    drive("POST", "/containers/{id}/start", made["Id"], status=204)
    yield made["Id"]
    ask(drive.socket, "DELETE", f"/containers/{made['Id']}?force=1")
    ask(drive.socket, "DELETE", f"/volumes/{unique}")


def test_system(drive: Driver) -> None:
    assert drive("GET", "/_ping").body == b"OK"
    ping = drive("HEAD", "/_ping")
    assert (ping.body, ping.headers["content-length"]) == (b"", "0")
    for name in ("builder-version", "cache-control", "pragma", "swarm"):
        assert name in ping.headers
    version = drive("GET", "/version").json()
    assert version["ApiVersion"] == "1.51"
    info = drive("GET", "/info").json()
    assert info["OSType"] == "linux" and info["FirewallBackend"]["Driver"] == "nftables"
    if drive.serves("POST", "/auth"):
        ask(drive.socket, "POST", "/auth")
        answer = ask_json(drive.socket, "POST", "/v1.51/auth")
        drive.check("POST", "/auth", answer, 400)


def test_disk_usage(drive: Driver, running: str) -> None:
    usage = drive("GET", "/system/df").json()
    assert running in [one["Id"] for one in usage["Containers"]]
    assert usage["LayersSize"] > 0
    part = drive("GET", "/system/df", query={"type": ["volume", "build-cache"]}).json()
    assert part["Volumes"] and part["BuildCache"] == [] and part["Images"] is None and part["LayersSize"] == 0
    assert drive("GET", "/system/df", status=400, query={"type": "x"}).message == "unknown object type: x"


def test_events(engine: Any, drive: Driver, running: str) -> None:
    past = drive("GET", "/events", query={"since": "1", "until": f"{engine.now():.3f}"})
    events = [json.loads(line) for line in past.body.splitlines()]
    assert {"create", "start"} <= {event["Action"] for event in events if event["Actor"]["ID"] == running}
    refused = drive("GET", "/events", status=400, query={"since": "5", "until": "1"})
    assert refused.message == "`since` time (5) cannot be after `until` time (1)"


def test_containers_as_they_are_shown(drive: Driver, running: str, unique: str) -> None:
    assert drive("GET", "/containers/{id}/json", running).json()["Name"] == f"/{unique}"
    sized = drive("GET", "/containers/{id}/json", running, query={"size": "1"}).json()
    assert sized["SizeRootFs"] >= sized["SizeRw"] >= 0
    (shown,) = drive("GET", "/containers/json", query={"filters": {"id": [running]}, "size": "1"}).json()
    assert shown["Names"] == [f"/{unique}"] and {port["PrivatePort"] for port in shown["Ports"]} == {80, 53}
    assert {mount["Type"] for mount in shown["Mounts"]} == {"volume", "tmpfs"}
    drive("GET", "/containers/{id}/json", "none-such", status=404)
    assert drive("GET", "/containers/json", status=400, query={"filters": {"x": ["1"]}}).message == "invalid filter 'x'"
    for template in ("top", "changes"):
        if drive.serves("GET", f"/containers/{{id}}/{template}"):
            drive("GET", f"/containers/{{id}}/{template}", running)
    if drive.serves("GET", "/containers/{id}/stats"):
        drive("GET", "/containers/{id}/stats", running, query={"stream": "0", "one-shot": "1"})


def test_containers_through_their_lives(drive: Driver, running: str, unique: str) -> None:
    drive("POST", "/containers/{id}/start", running, status=304)
    drive("POST", "/containers/{id}/start", "none-such", status=404)
    drive("POST", "/containers/{id}/pause", running, status=204)
    drive("POST", "/containers/{id}/unpause", running, status=204)
    drive("POST", "/containers/{id}/rename", running, status=204, query={"name": f"{unique}-2"})
    drive("POST", "/containers/{id}/rename", running, status=400)
    drive("POST", "/containers/{id}/restart", running, status=204, query={"t": "0"})
    if drive.serves("POST", "/containers/{id}/update"):
        drive("POST", "/containers/{id}/update", running, body={"RestartPolicy": {"Name": "no"}})
    drive("POST", "/containers/{id}/kill", running, status=400, query={"signal": "none"})
    drive("POST", "/containers/{id}/kill", running, status=204)
    assert drive("POST", "/containers/{id}/wait", running).json()["StatusCode"] == 137
    drive("POST", "/containers/{id}/wait", running, status=400, query={"condition": "x"})
    drive("POST", "/containers/{id}/kill", running, status=409)
    drive("POST", "/containers/{id}/stop", running, status=304)
    drive("POST", "/containers/{id}/start", running, status=204)
    drive("POST", "/containers/{id}/stop", running, status=204, query={"t": "0", "signal": "KILL"})
    body = {"Image": "busybox", "HostConfig": {"Links": [f"{running}:al"]}}
    drive("POST", "/containers/create", status=201, body=body, query={"name": f"{unique}-linked"})
    assert drive("GET", "/containers/{id}/json", f"{unique}-linked").json()["HostConfig"]["Links"]
    drive("DELETE", "/containers/{id}", f"{unique}-linked", status=500, query={"link": "1"})
    drive("DELETE", "/containers/{id}", f"{unique}-linked/al", status=204, query={"link": "1"})
    drive("DELETE", "/containers/{id}", f"{unique}-linked", status=204)
    drive("DELETE", "/containers/{id}", running, status=204)
    drive("DELETE", "/containers/{id}", running, status=404)


def test_creating_and_pruning(drive: Driver, unique: str) -> None:
    made = drive("POST", "/containers/create", status=201, body={"Image": "busybox", "Labels": {unique: ""}}).json()
    other = {"Image": "busybox", "Labels": {unique: ""}}
    drive("POST", "/containers/create", status=201, body=other, query={"name": unique})
    assert (
        "already in use" in drive("POST", "/containers/create", status=409, body=other, query={"name": unique}).message
    )
    pruned = drive("POST", "/containers/prune", query={"filters": {"label": [unique]}}).json()
    assert made["Id"] in pruned["ContainersDeleted"] and len(pruned["ContainersDeleted"]) == 2
    for body, message in (
        (None, "invalid JSON: got EOF while reading request body"),
        ({}, "config cannot be empty in order to create a container"),
    ):
        assert drive("POST", "/containers/create", status=400, body=body).message == message
    assert (
        drive("POST", "/containers/create", status=404, body={"Image": unique}).message
        == f"No such image: {unique}:latest"
    )


def test_streams(drive: Driver, running: str, unique: str) -> None:
    drive("GET", "/containers/{id}/logs", running, status=400)
    drive("POST", "/containers/{id}/attach", "none-such", status=404)
    attach = "/containers/{id}/attach/ws"
    drive("GET", attach, "none-such", status=404)
    drive("GET", attach, running, status=400)
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    upgraded = ask(drive.socket, "GET", drive.target(attach, running), None, handshake, limit=0)
    assert (upgraded.status, upgraded.headers["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert drive.description.check("GET", attach, 101, "", b"") == []
    drive.succeeded.add(("GET", attach))  # frames are tested where WebSockets are
    body = {"Image": "busybox", "Cmd": ["cat"], "Tty": True, "OpenStdin": True, "HostConfig": {"AutoRemove": True}}
    tty = drive("POST", "/containers/create", status=201, body=body).json()["Id"]
    drive("POST", "/containers/{id}/start", tty, status=204)
    drive("POST", "/containers/{id}/resize", tty, query={"h": "30", "w": "90"})
    drive("POST", "/containers/{id}/resize", tty, status=400)
    drive("POST", "/containers/{id}/kill", tty, status=204)
    body = {"Image": "busybox", "Cmd": ["echo", "hello"], "AttachStdout": True}
    made = drive("POST", "/containers/create", status=201, body=body).json()["Id"]
    drive("POST", "/containers/{id}/start", made, status=204)
    drive("POST", "/containers/{id}/wait", made)
    logs = drive("GET", "/containers/{id}/logs", made, query={"stdout": "1", "stderr": "1"})
    assert logs.content_type == "application/vnd.docker.multiplexed-stream" and b"hello\n" in logs.body
    past = drive.hijack("/containers/{id}/attach", made, {"logs": "1", "stdout": "1"})
    assert b"hello\n" in past
    drive("DELETE", "/containers/{id}", made, status=204)


def test_execs(drive: Driver, running: str) -> None:
    body = {"Cmd": ["echo", "hello"], "AttachStdout": True, "AttachStderr": True}
    made = drive("POST", "/containers/{id}/exec", running, status=201, body=body).json()
    assert drive("GET", "/exec/{id}/json", made["Id"]).json()["Running"] is False
    assert b"hello\n" in drive.hijack("/exec/{id}/start", made["Id"], body={})
    assert drive("GET", "/exec/{id}/json", made["Id"]).json()["ExitCode"] == 0
    background = drive(
        "POST", "/containers/{id}/exec", running, status=201, body={"Cmd": ["sleep", "600"], "Tty": True}
    )
    drive("POST", "/exec/{id}/start", background.json()["Id"], body={"Detach": True, "Tty": True})
    drive("POST", "/exec/{id}/resize", background.json()["Id"], query={"h": "30", "w": "90"})
    for method, template in (("GET", "/exec/{id}/json"), ("POST", "/exec/{id}/start")):
        drive(method, template, "none-such", status=404)
    drive("POST", "/exec/{id}/resize", "none-such", status=404, query={"h": "30", "w": "90"})
    assert (
        drive("POST", "/containers/{id}/exec", running, status=400, body={"Cmd": []}).message
        == "No exec command specified"
    )
    drive("POST", "/containers/{id}/exec", "none-such", status=404, body=body)


def test_files(drive: Driver, running: str) -> None:
    archive = "/containers/{id}/archive"
    if drive.serves("GET", archive):
        assert drive("HEAD", archive, running, query={"path": "/etc/passwd"}).headers["x-docker-container-path-stat"]
        assert drive("GET", archive, running, query={"path": "/etc/passwd"}).body
        drive("PUT", archive, running, query={"path": "/tmp"}, data=_archive("given", b"x"))
        drive("GET", archive, running, status=404, query={"path": "/none-such"})
    if drive.serves("GET", "/containers/{id}/export"):
        assert drive("GET", "/containers/{id}/export", running).body
    if drive.serves("POST", "/commit"):
        made = drive("POST", "/commit", status=201, body={}, query={"container": running, "repo": "committed"}).json()
        drive("DELETE", "/images/{name}", made["Id"], query={"force": "1"})


def test_images(drive: Driver, unique: str) -> None:
    created = drive("POST", "/images/create", query={"fromSrc": "-", "repo": unique}, data=_archive("a", b"a"))
    assert json.loads(created.body)["status"].startswith("sha256:")
    assert drive("GET", "/images/json", query={"filters": {"reference": [unique]}, "shared-size": "1"}).json()
    assert drive("GET", "/images/{name}/json", unique).json()["RepoTags"] == [f"{unique}:latest"]
    drive("GET", "/images/{name}/json", "none-such", status=404)
    drive("GET", "/images/{name}/history", unique)
    drive("POST", "/images/{name}/tag", unique, status=201, query={"repo": f"{unique}-2", "tag": "x"})
    drive("POST", "/images/{name}/tag", unique, status=400, query={"repo": "UPPER"})
    assert drive("DELETE", "/images/{name}", f"{unique}-2:x").json() == [{"Untagged": f"{unique}-2:x"}]
    if drive.serves("GET", "/images/{name}/get"):
        saved = drive("GET", "/images/{name}/get", unique).body
        drive("POST", "/images/load", data=saved)
        drive("GET", "/images/get", query={"names": unique})
    else:
        drive("POST", "/images/load", data=_image_archive(f"{unique}-3:latest"))
        drive("DELETE", "/images/{name}", f"{unique}-3")
    if drive.serves("POST", "/images/{name}/push"):
        drive("POST", "/images/{name}/push", "none-such", status=400)
        drive.succeeded.add(("POST", "/images/{name}/push"))  # registries are tested where they are
    if drive.serves("GET", "/images/search"):
        drive("GET", "/images/search", query={"term": "x", "limit": "101"}, status=400)
        drive.succeeded.add(("GET", "/images/search"))
    drive("DELETE", "/images/{name}", unique)
    drive("POST", "/images/create", query={"fromSrc": "-", "message": unique}, data=_archive("b", b"b"))
    assert drive("POST", "/images/prune", query={"filters": {"dangling": ["true"]}}).json()["ImagesDeleted"]


def test_the_builder(drive: Driver, unique: str) -> None:
    context = _archive("Dockerfile", f"FROM busybox\nLABEL of={unique}\nRUN echo {unique}\n".encode())
    tar = {"Content-Type": "application/x-tar"}
    built = drive("POST", "/build", query={"t": f"{unique}:built"}, data=context, headers=tar)
    assert f"Successfully tagged {unique}:built" in built.body.decode()
    drive("POST", "/build", status=400, data=_archive("Dockerfile", b"HURRY\n"), headers=tar)
    (kept,) = [
        one for one in drive("GET", "/system/df").json()["BuildCache"] if one["Description"] == f"RUN echo {unique}"
    ]
    drive("DELETE", "/images/{name}", f"{unique}:built")
    pruned = drive("POST", "/build/prune", query={"all": "true", "filters": {"id": [kept["ID"]]}}).json()
    assert pruned == {"CachesDeleted": [kept["ID"]], "SpaceReclaimed": 0}
    drive("POST", "/build/prune", status=400, query={"filters": {"nonsense": ["x"]}})
    assert drive("POST", "/session", status=400).message == "no upgrade proto in request"


def test_volumes(drive: Driver, unique: str) -> None:
    body = {"Name": unique, "Labels": {unique: ""}}
    assert drive("POST", "/volumes/create", status=201, body=body).json()["Name"] == unique
    anonymous = drive("POST", "/volumes/create", status=201, body={"Labels": {unique: ""}}).json()["Name"]
    assert drive("GET", "/volumes/{name}", unique).json()["Scope"] == "local"
    (listed,) = drive("GET", "/volumes", query={"filters": {"name": [unique]}}).json()["Volumes"]
    assert listed["Labels"] == {unique: ""}
    pruned = drive("POST", "/volumes/prune", query={"filters": {"label": [unique]}}).json()
    assert pruned["VolumesDeleted"] == [anonymous]
    drive("DELETE", "/volumes/{name}", unique, status=204)
    drive("DELETE", "/volumes/{name}", unique, status=404)
    drive("GET", "/volumes/{name}", unique, status=404)
    drive("PUT", "/volumes/{name}", unique, status=503, body={})
    drive.succeeded.add(("PUT", "/volumes/{name}"))  # for volumes of a swarm alone
    cluster = ask_json(drive.socket, "POST", "/v1.51/volumes/create", {"Name": unique, "ClusterVolumeSpec": {}})
    assert (cluster.status, cluster.message) == (503, NO_SWARM)


def test_networks(drive: Driver, running: str, unique: str) -> None:
    made = drive("POST", "/networks/create", status=201, body={"Name": unique, "Labels": {unique: ""}}).json()["Id"]
    drive("POST", "/networks/create", status=403, body={"Name": "bridge"})
    drive("POST", "/networks/create", status=400, body={})
    connection = {"Container": running, "EndpointConfig": {"Aliases": ["other"]}}
    drive("POST", "/networks/{id}/connect", unique, body=connection)
    assert running in drive("GET", "/networks/{id}", made).json()["Containers"]
    assert unique in drive("GET", "/containers/{id}/json", running).json()["NetworkSettings"]["Networks"]
    drive("GET", "/networks", query={"filters": {"name": [unique]}})
    drive("GET", "/networks/{id}", made, status=404, query={"scope": "swarm"})
    drive("POST", "/networks/{id}/disconnect", unique, body={"Container": running})
    drive("POST", "/networks/{id}/connect", "none-such", status=404, body=connection)
    drive("DELETE", "/networks/{id}", unique, status=204)
    drive("DELETE", "/networks/{id}", unique, status=404)
    drive("DELETE", "/networks/{id}", "bridge", status=403)
    drive("POST", "/networks/create", status=201, body={"Name": unique, "Labels": {unique: ""}})
    assert drive("POST", "/networks/prune", query={"filters": {"label": [unique]}}).json()["NetworksDeleted"] == [
        unique
    ]


def test_plugins(drive: Driver) -> None:
    assert drive("GET", "/plugins").json() == []
    assert drive("GET", "/plugins", status=400, query={"filters": {"x": ["1"]}}).message == "invalid filter 'x'"
    for method, template, query in (
        ("GET", "/plugins/{name}/json", {}),
        ("DELETE", "/plugins/{name}", {}),
        ("POST", "/plugins/{name}/enable", {"timeout": "0"}),
        ("POST", "/plugins/{name}/disable", {}),
        ("POST", "/plugins/{name}/upgrade", {"remote": "a/b"}),
        ("POST", "/plugins/{name}/push", {}),
        ("POST", "/plugins/{name}/set", {}),
    ):
        message = drive(method, template, "a/b", status=404, query=query).message
        assert message in ('plugin "a/b" not found', 'plugin "a/b:latest" not found')
    for method, template in (("GET", "/plugins/privileges"), ("POST", "/plugins/pull"), ("POST", "/plugins/create")):
        assert drive(method, template, status=400).message == "invalid reference format"


def test_an_engine_without_a_swarm(drive: Driver, description: Description) -> None:
    for method, template in description.operations:
        if not re.match(r"/(swarm|nodes|services|tasks|secrets|configs)(/|$)", template):
            continue
        status, message, query, body = 503, NO_SWARM, {"version": "1", "stdout": "1"}, {} if method == "POST" else None
        if template in ("/swarm/init", "/swarm/join"):
            status, message = 400, 'invalid ListenAddr "": invalid empty address'
        elif template == "/swarm/leave":
            message = "This node is not part of a swarm"
        answer = drive(method, template, "x", status=status, query=query, body=body)
        assert answer.message == message, (method, template)


def test_registries(drive: Driver) -> None:
    assert "lowercase" in drive("GET", "/distribution/{name}/json", "UPPER", status=400).message


def test_every_route_that_there_is_was_driven(
    drive: Driver, description: Description, capsys: pytest.CaptureFixture[str]
) -> None:
    """Comes last: what the tests above asked, against what the engine serves and what the description has."""
    served = [operation for operation in description.operations if drive.serves(*operation)]
    missing = [operation for operation in description.operations if not drive.serves(*operation)]
    undriven = [operation for operation in served if operation not in description.seen]
    failing = [
        operation for operation in served if operation not in drive.succeeded and not ONLY_ERRORS.match(operation[1])
    ]
    known = {(method, _shape(template)) for method, template in description.operations}
    extra = sorted(route for route in drive.served if route not in known)
    with capsys.disabled():
        print(f"\nAPI 1.51: {len(served)} of {len(description.operations)} endpoints are served; not:", end=" ")
        print(", ".join(f"{method} {template}" for method, template in missing) or "none")
        print(f"described, and in no answer: {', '.join(sorted(description.never_answered))}")
        print(f"beside the description: {', '.join(' '.join(route) for route in extra) or 'none'}")
    assert not undriven and not failing


def _archive(name: str, content: bytes) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def _image_archive(tag: str) -> bytes:
    return docker_archive([_archive("c", b"c")], [tag])
