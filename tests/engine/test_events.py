"""What the engine tells of its containers, images, volumes and networks, and to whom."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import docker
import pytest

from life_support import PATIENCE_S, ask, eventually

pytestmark = [pytest.mark.root, pytest.mark.native]


class Stream:
    """All events from now on; the stream is there before anything happens."""

    def __init__(self, url: str, **options: Any) -> None:
        self._client = docker.DockerClient(url, timeout=60)
        self._events = self._client.events(decode=True, **options)
        self.seen: list[dict[str, Any]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for event in self._events:
            with self._news:
                self.seen.append(event)
                self._news.notify_all()

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Everything up to the first event that `holds` is true of."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while not any(map(holds, self.seen)):
                assert self._news.wait(deadline - time.monotonic()), [one["Action"] for one in self.seen]
            return [*self.seen]

    def close(self) -> None:
        self._events.close()
        self._client.close()


@contextmanager
def stream(engine: Any, **options: Any) -> Iterator[Stream]:
    made = Stream(engine.url, **options)
    try:
        yield made
    finally:
        made.close()


def named(events: list[dict[str, Any]], name: str) -> list[tuple[str, str]]:
    """Type and action of the events that have to do with `name`, in order."""
    return [
        (one["Type"], one["Action"])
        for one in events
        if name in (one["Actor"]["Attributes"].get("name"), one["Actor"]["ID"])
    ]


def is_event(action: str, id: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["Action"] == action and event["Actor"]["ID"] == id


def attributes(events: list[dict[str, Any]], action: str, count: int = 1) -> dict[str, str]:
    """The attributes of the last event `action`; there are `count` of them."""
    found = [one["Actor"]["Attributes"] for one in events if one["Action"] == action]
    assert len(found) == count, found
    return dict(found[-1])


def past(engine: Any, **query: Any) -> list[dict[str, Any]]:
    """What has happened, by the API: `until` is now."""
    client = docker.DockerClient(engine.url, timeout=60)
    events = [*client.events(decode=True, until=f"{engine.now():.6f}", **query)]
    client.close()
    return events


def test_a_life_is_told_with_dockers_attributes(engine: Any, docker_client: Any, name: str) -> None:
    volume = f"{name}-v"
    with stream(engine) as events:
        made = docker_client.containers.create(
            "busybox", ["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"], name=name, labels={"a": "b"},
            volumes={volume: {"bind": "/data", "mode": "ro"}},
        )  # fmt: skip
        made.start()
        made.pause()
        made.unpause()
        made.kill("USR1")
        made.resize(10, 20)
        made.top()
        made.update(cpu_shares=512)
        made.rename(f"{name}-2")
        made.rename(name)
        made.stop()
        made.remove()
        seen = events.until(is_event("destroy", made.id))
    docker_client.volumes.get(volume).remove()
    own = [one for one in seen if one["Actor"]["ID"] == made.id]
    assert [one["Action"] for one in own] == [
        *("create", "start", "pause", "unpause", "kill", "resize", "top", "update", "rename", "rename"),
        *("kill", "die", "stop", "destroy"),
    ]
    usual = {"a": "b", "image": "busybox", "name": name}
    assert attributes(own, "create") == attributes(own, "start") == attributes(own, "destroy") == usual
    assert attributes(own, "resize") == usual | {"height": "10", "width": "20"}
    assert [one["Actor"]["Attributes"]["signal"] for one in own if one["Action"] == "kill"] == ["10", "15"]
    assert attributes(own, "rename", 2) == usual | {"oldName": f"/{name}-2"}
    assert attributes(own, "die") == usual | {"exitCode": "5", "execDuration": attributes(own, "die")["execDuration"]}
    assert 0 <= int(attributes(own, "die")["execDuration"]) <= PATIENCE_S
    for one in own:
        assert (one["Type"], one["scope"], one["status"], one["id"]) == ("container", "local", one["Action"], made.id)
        assert one["from"] == "busybox"
        assert one["time"] == one["timeNano"] // 10**9
    assert [one["timeNano"] for one in own] == sorted(one["timeNano"] for one in own)
    volumes = [one for one in seen if one["Type"] == "volume" and one["Actor"]["ID"] == volume]
    assert [one["Action"] for one in volumes] == ["create", "mount", "unmount"]
    assert attributes(volumes, "mount") == {
        "container": made.id, "destination": "/data", "driver": "local", "propagation": "", "read/write": "false",
    }  # fmt: skip
    assert attributes(volumes, "unmount") == {"container": made.id, "driver": "local"}
    networks = [
        one for one in seen if one["Actor"]["Attributes"].get("container") == made.id and one["Type"] == "network"
    ]
    assert [one["Action"] for one in networks] == ["connect", "disconnect"]
    assert attributes(networks, "connect") == {"container": made.id, "name": "bridge", "type": "bridge"}
    order = [(one["Type"], one["Action"]) for one in seen]
    first = [("network", "connect"), ("volume", "mount"), ("container", "start")]
    last = [("network", "disconnect"), ("volume", "unmount"), ("container", "die")]
    assert [one for one in order if one in first] == first
    assert [one for one in order if one in last] == last


def test_execs_are_told(engine: Any, docker_client: Any, name: str) -> None:
    made = docker_client.containers.run("busybox", "sleep 600", name=name, detach=True)
    with stream(engine, filters={"container": made.id}) as events:
        assert made.exec_run(["sh", "-c", "exit 3"]).exit_code == 3
        seen = events.until(is_event("exec_die", made.id))
        assert [one["Action"] for one in seen] == ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die"]
        ids = {one["Actor"]["Attributes"]["execID"] for one in seen}
        assert len(ids) == 1
        assert attributes(seen, "exec_die") == {"execID": ids.pop(), "exitCode": "3", "image": "busybox", "name": name}
        with pytest.raises(docker.errors.APIError):
            docker_client.api.exec_start(docker_client.api.exec_create(made.id, "nosuch")["Id"], detach=True)
        made.kill()
        seen = events.until(is_event("die", made.id))
    assert [one["Action"] for one in seen][3:] == ["exec_create: nosuch ", "exec_start: nosuch ", "kill", "die"]
    assert attributes(seen, "die")["exitCode"] == "137"


def test_clients_that_come_and_leave_are_told(engine: Any, docker_client: Any, name: str) -> None:
    made = docker_client.containers.create("busybox", "cat", name=name, tty=True, stdin_open=True)
    with stream(engine, filters={"container": made.id}) as events:
        made.start()
        attached = docker_client.api.attach_socket(made.id, params={"stdin": 1, "stdout": 1, "stream": 1})
        events.until(is_event("attach", made.id))
        attached._sock.sendall(b"\x10\x11")
        assert attributes(events.until(is_event("detach", made.id)), "detach") == {"image": "busybox", "name": name}
        attached.close()
        one = docker_client.api.exec_create(made.id, "cat", tty=True, stdin=True)["Id"]
        attached = docker_client.api.exec_start(one, tty=True, socket=True)
        events.until(is_event("exec_start: cat ", made.id))
        attached._sock.sendall(b"\x10\x11")
        told = attributes(events.until(is_event("exec_detach", made.id)), "exec_detach")
        assert told == {"execID": one, "image": "busybox", "name": name}
        attached.close()


def test_a_start_that_fails_is_no_death(engine: Any, docker_client: Any, name: str) -> None:
    with stream(engine, filters={"type": "container"}) as events:
        made = docker_client.containers.create("busybox", "nosuch", name=name)
        with pytest.raises(docker.errors.APIError):
            made.start()
        made.remove()
        seen = events.until(is_event("destroy", made.id))
    assert named(seen, name) == [("container", "create"), ("container", "destroy")]


def test_prunes_are_told(engine: Any, docker_client: Any, name: str) -> None:
    with stream(engine) as events:
        docker_client.containers.prune(filters={"label": "nosuch"})
        docker_client.networks.prune(filters={"label": "nosuch"})
        docker_client.volumes.prune(filters={"label": "nosuch"})
        docker_client.images.prune(filters={"label": "nosuch"})
        seen = events.until(lambda one: one["Type"] == "image" and one["Action"] == "prune")
    told = {one["Type"]: one for one in seen if one["Action"] == "prune"}
    assert set(told) == {"container", "network", "volume", "image"}
    for one in told.values():
        assert one["Actor"] == {"ID": "", "Attributes": {"reclaimed": "0"}}
    assert told["container"]["status"] == "prune"
    assert "id" not in told["container"]
    assert "status" not in told["network"]


@pytest.fixture(scope="module")
def history(engine: Any) -> Iterator[dict[str, Any]]:
    """Two containers of two images, a network and a volume have come and gone between `since` and `until`."""
    client = docker.DockerClient(engine.url, timeout=60)
    prefix = f"t{uuid.uuid4().hex[:8]}"
    since = f"{engine.now():.6f}"
    image = client.images.get("busybox")
    image.tag(f"{prefix}/own", "1")
    network = client.networks.create(f"{prefix}-net")
    volume = client.volumes.create(f"{prefix}-vol")
    web = client.containers.run(
        "busybox", "true", name=f"{prefix}-web", labels={"tier": "front", "blue": ""}, detach=True, network=network.name
    )
    own = client.containers.run(f"{prefix}/own:1", "true", name=f"{prefix}-own", labels={"tier": "back"}, detach=True)
    for one in (web, own):
        one.wait()
        one.remove()
    network.remove()
    volume.remove()
    client.images.remove(f"{prefix}/own:1")
    yield {
        "prefix": prefix, "since": since, "until": f"{engine.now():.6f}", "web": web.id, "own": own.id,
        "image": image.id, "network": network.id,
    }  # fmt: skip
    client.close()


FILTERED: list[tuple[dict[str, list[str]], set[str]]] = [
    ({"container": ["{prefix}-web"]}, {"web"}),
    ({"container": ["{web}"]}, {"web"}),
    ({"container": ["{web:.12}"]}, {"web"}),
    ({"container": ["{prefix}-"]}, {"web", "own"}),
    ({"container": ["{prefix}-web", "{own}"]}, {"web", "own"}),
    ({"container": ["{prefix}-nosuch"]}, set()),
    ({"label": ["tier"]}, {"web", "own"}),
    ({"label": ["tier=front"]}, {"web"}),
    ({"label": ["tier=front", "blue"]}, {"web"}),
    ({"label": ["tier=front", "red"]}, set()),
    ({"image": ["{prefix}/own"]}, {"own", "image"}),
    ({"image": ["{prefix}/own:1"]}, {"own", "image"}),
    ({"image": ["{image}"]}, {"image"}),
    ({"network": ["{prefix}-net"]}, {"network"}),
    ({"network": ["{network}"]}, {"network"}),
    ({"volume": ["{prefix}-vol"]}, {"volume"}),
    ({"type": ["volume"]}, {"volume"}),
    ({"type": ["network", "volume"], "scope": ["local"]}, {"network", "volume", "bridge"}),
    ({"scope": ["swarm"]}, set()),
    ({"daemon": ["nosuch"]}, set()),
    ({"event": ["die"]}, {"web", "own"}),
    ({"event": ["die", "untag"]}, {"web", "own", "image"}),
    ({"event": ["di"]}, set()),
    ({"type": ["container"], "event": ["untag"]}, set()),
    ({"plugin": ["x"]}, set()),
    ({"service": ["x"]}, set()),
    ({"node": ["x"]}, set()),
    ({"secret": ["x"]}, set()),
    ({"config": ["x"]}, set()),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERED)
def test_filters_let_through_what_they_name(
    engine: Any, history: dict[str, Any], filters: dict[str, list[str]], expected: set[str]
) -> None:
    wanted = {key: [value.format(**history) for value in values] for key, values in filters.items()}
    client = docker.DockerClient(engine.url, timeout=60)
    events = [*client.events(decode=True, since=history["since"], until=history["until"], filters=wanted)]
    client.close()
    kinds = {history["web"]: "web", history["own"]: "own", history["image"]: "image", history["network"]: "network"}
    kinds[f"{history['prefix']}-vol"] = "volume"
    assert {kinds.get(one["Actor"]["ID"], one["Actor"]["Attributes"].get("name")) for one in events} == expected


def test_the_past_comes_in_order_and_the_present_follows(engine: Any, docker_client: Any, name: str) -> None:
    since = f"{engine.now():.6f}"
    made = docker_client.containers.create("busybox", "true", name=name)
    with stream(engine, since=since, filters={"container": made.id}) as events:
        events.until(is_event("create", made.id))
        made.start()
        events.until(is_event("die", made.id))
        made.remove()
        seen = events.until(is_event("destroy", made.id))
    assert [one["Action"] for one in seen] == ["create", "start", "die", "destroy"]


def test_until_alone_tells_all_that_is_remembered(engine: Any, history: dict[str, Any]) -> None:
    actions = [one["Action"] for one in past(engine, filters={"container": history["web"]})]
    assert actions == ["create", "start", "die", "destroy"]


def test_until_in_the_future_ends_the_stream_then(engine: Any, docker_client: Any, name: str) -> None:
    started = time.monotonic()
    with stream(engine, until=f"{engine.now() + 600:.6f}", filters={"container": name}) as events:
        made = docker_client.containers.create("busybox", "true", name=name)
        events.until(is_event("create", made.id))
        ends = [*docker_client.events(decode=True, since=f"{engine.now():.6f}", until=f"{engine.now() + 0.5:.6f}")]
    assert 0.4 < time.monotonic() - started < 50
    assert ends == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("since=10&until=5", "`since` time (10) cannot be after `until` time (5)"),
        ("filters=x", "invalid filter"),
        ("filters=" + quote('{"colour":["red"]}'), "invalid filter 'colour'"),
    ],
)
def test_what_cannot_be_meant_is_refused(engine: Any, query: str, message: str) -> None:
    assert ask(engine, "GET", f"/events?{query}") == (400, {"message": message})


def test_the_head_comes_before_the_first_event(engine: Any) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(engine.socket))
        client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        head = client.recv(4096)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: application/json\r\n" in head


def test_followers_that_leave_are_forgotten(engine: Any, docker_client: Any) -> None:
    def sockets() -> int:
        return engine.sh(f"ls -l /proc/{engine.pid}/fd 2>&1 || :").count("socket:")

    before = sockets()
    streams = [Stream(engine.url) for _ in range(20)]
    assert sockets() >= before + 20
    for one in streams:
        one.close()
    eventually(lambda: sockets() <= before)


def test_dockers_client_shows_them(engine: Any, name: str) -> None:
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    since = f"{engine.now():.6f}"
    run = ["docker", "run", "--rm", "--name", name, "busybox", "true"]
    subprocess.run(run, env=environment, check=True, timeout=30)
    words = ["events", "--since", since, "--until", f"{engine.now():.6f}", "--filter", f"container={name}"]
    shown = subprocess.run(
        ["docker", *words, "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}"],
        env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    actions = ["create", "attach", "start", "die", "destroy"]
    assert shown.stdout.splitlines() == [f"container {action} {name}" for action in actions]
