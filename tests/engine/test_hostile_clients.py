"""Clients that vanish, flood and stall, against a running engine: it keeps answering, and no descriptor stays open."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from raw_client import ask, ask_json, connect, descriptors, hijack, log_of, settled

pytestmark = pytest.mark.root

ROUNDS = 20


@pytest.fixture(scope="module")
def container(own_engine: Any) -> str:
    """A container that says something all the time."""
    path = str(own_engine.socket)
    words = ["sh", "-c", "while :; do echo something; echo else >&2; usleep 5000; done"]
    body = {"Image": "busybox", "Cmd": words, "OpenStdin": True, "StopSignal": "KILL"}
    made = ask_json(path, "POST", "/containers/create?name=loud", body)
    assert made.status == 201, made
    assert ask(path, "POST", "/containers/loud/start").status == 204
    return "loud"


@pytest.fixture
def unchanged(own_engine: Any, container: str) -> Iterator[str]:
    """The engine's socket; afterwards the engine has as many descriptors as before, and nothing went wrong in it."""
    path = str(own_engine.socket)
    ask(path, "GET", "/images/json")
    before = descriptors(own_engine)
    yield path
    assert settled(own_engine, len(before)) <= len(before), sorted(set(descriptors(own_engine)) - set(before))
    assert ask(path, "GET", "/_ping").body == b"OK"
    assert "Traceback" not in log_of(own_engine), log_of(own_engine)[-4000:]


def leave_within(path: str, request: str, body: bytes = b"", *, read: int = 200) -> None:
    """Sends a request, reads a little of what comes, and goes."""
    with connect(path, 10) as client:
        client.sendall(f"{request} HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n"
                       f"Content-Type: application/json\r\n\r\n".encode() + body)  # fmt: skip
        if read:
            client.recv(read)


@pytest.mark.parametrize("read", [0, 1, 200])
@pytest.mark.parametrize(
    "request_line",
    [
        "GET /containers/loud/logs?stdout=1&stderr=1&follow=1",
        "GET /containers/loud/stats",
        "GET /events",
        "GET /info",
        "GET /system/df",
        "POST /containers/loud/wait",
        "POST /containers/loud/attach?stream=1&stdout=1&stderr=1&stdin=1",
        "GET /containers/loud/export",
        "GET /images/busybox/get",
    ],
)
def test_leaving_within_an_answer(unchanged: str, request_line: str, read: int) -> None:
    for _ in range(ROUNDS):
        leave_within(unchanged, request_line, read=read)


def test_leaving_within_an_exec(unchanged: str) -> None:
    for _ in range(ROUNDS // 2):
        made = ask_json(
            unchanged, "POST", "/containers/loud/exec", {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True}
        )
        answer, client = hijack(unchanged, f"/exec/{made.json()['Id']}/start", {})
        assert answer.status == 101
        client.sendall(b"x")
        client.close()


def test_half_closed_hijacked_connections(unchanged: str) -> None:
    for _ in range(ROUNDS // 2):
        body = {"Cmd": ["sh", "-c", "cat; echo end"], "AttachStdin": True, "AttachStdout": True}
        made = ask_json(unchanged, "POST", "/containers/loud/exec", body)
        _, client = hijack(unchanged, f"/exec/{made.json()['Id']}/start", {})
        with client:
            client.sendall(b"sent\n")
            client.shutdown(socket.SHUT_WR)
            data = b""
            while chunk := client.recv(65536):
                data += chunk
        assert b"sent\n" in data and b"end\n" in data


def test_an_attachment_with_a_past_that_is_not_kept(unchanged: str) -> None:
    body = {"Image": "busybox", "HostConfig": {"LogConfig": {"Type": "none"}}}
    made = ask_json(unchanged, "POST", "/containers/create", body).json()["Id"]
    for _ in range(ROUNDS):
        answer, client = hijack(unchanged, f"/containers/{made}/attach?stream=1&stdout=1&logs=1")
        client.close()
        assert (answer.status, answer.message) == (501, "configured logging driver does not support reading")
    assert ask(unchanged, "DELETE", f"/containers/{made}").status == 204


def test_leaving_within_an_upload(unchanged: str) -> None:
    for target in ("/images/load", "/images/create?fromSrc=-&repo=half"):
        for _ in range(ROUNDS // 2):
            with connect(unchanged, 10) as client:
                client.sendall(
                    f"POST {target} HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n".encode()
                )
                client.sendall(bytes(1024))


def test_five_hundred_connections_at_once(unchanged: str) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(unchanged, 30)) for _ in range(500)]
        for number, client in enumerate(clients):
            target = ("/_ping", "/containers/json?all=1", "/info", "/images/json", "/none")[number % 5]
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        statuses = [int(client.recv(65536).split(b" ", 2)[1]) for client in clients]
    assert statuses.count(404) == 100 and statuses.count(200) == 400


def test_slow_clients_hold_nobody_up(unchanged: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(connect(unchanged, 10))
            client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-Slow: ")
        for _ in range(20):
            client = stack.enter_context(connect(unchanged, 10))
            client.sendall(b"GET /containers/loud/logs?stdout=1&stderr=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n")
        started = time.monotonic()
        for _ in range(50):
            assert ask(unchanged, "GET", "/containers/json").status == 200
        assert time.monotonic() - started < 60


def test_creations_at_once_under_one_name(unchanged: str) -> None:
    statuses: list[int] = []

    def create() -> None:
        statuses.append(ask_json(unchanged, "POST", "/containers/create?name=once", {"Image": "busybox"}).status)

    threads = [threading.Thread(target=create) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [201] + [409] * 29
    assert ask(unchanged, "DELETE", "/containers/once").status == 204


@pytest.mark.parametrize(
    "number", ["-1", "0", "99999999999", "9223372036854775807", "-9223372036854775808", "1e9", "0x10"]
)
@pytest.mark.parametrize(
    "target",
    [
        "/containers/json?limit={}",
        "/containers/loud/logs?stdout=1&tail={}",
        "/containers/loud/logs?stdout=1&tail=1&since={}",
        "/containers/loud/logs?stdout=1&tail=1&until={}",
        "/events?since=1&until={}",
    ],
)
def test_numbers_of_all_sizes(unchanged: str, target: str, number: str) -> None:
    with connect(unchanged, 5) as client:
        client.sendall(f"GET {target.format(number)} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        assert int(client.recv(4096).split(b" ", 2)[1]) in (200, 400)


@pytest.mark.parametrize("number", [-1, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), -(1 << 70), 1.5, True, "1", [], {}])
@pytest.mark.parametrize(
    "field",
    ["Memory", "NanoCpus", "PidsLimit", "ShmSize", "CpuShares", "OomScoreAdj", "MemorySwappiness", "BlkioWeight"],
)
def test_limits_of_all_sizes(unchanged: str, field: str, number: Any) -> None:
    made = ask_json(unchanged, "POST", "/containers/create", {"Image": "busybox", "HostConfig": {field: number}})
    assert made.status in (201, 400), made
    if made.status == 201:
        assert ask(unchanged, "GET", f"/containers/{made.json()['Id']}/json").status == 200
        ask(unchanged, "DELETE", f"/containers/{made.json()['Id']}")


@pytest.mark.parametrize("odd", ["\0", "a\0b", "\ud800", "a/../../b", "\n", "x" * 300, "\u202e"])
def test_names_of_all_kinds(unchanged: str, odd: str) -> None:
    document = json.dumps(odd)
    for target, body in (
        ("/volumes/create", f'{{"Name": {document}}}'),
        ("/containers/create", f'{{"Image": {document}}}'),
        ("/containers/create", f'{{"Image": "busybox", "WorkingDir": {document}}}'),
        ("/containers/create", f'{{"Image": "busybox", "HostConfig": {{"Binds": [{document}]}}}}'),
        ("/containers/loud/exec", f'{{"Cmd": [""], "WorkingDir": {document}, "User": 1}}'),
    ):
        answer = ask(unchanged, "POST", target, body.encode(), {"Content-Type": "application/json"})
        assert answer.status in (400, 404), (target, answer)
    # dockerd takes names of hosts as they come; they may be odd, and nothing else.
    made = ask_json(unchanged, "POST", "/containers/create", {"Image": "busybox", "Hostname": odd})
    assert made.status in (201, 400), made
    if made.status == 201:
        assert ask(unchanged, "GET", f"/containers/{made.json()['Id']}/json").status == 200
        ask(unchanged, "DELETE", f"/containers/{made.json()['Id']}")


def test_names_of_networks_are_names_alone(unchanged: str) -> None:
    for odd in ("a/../../b", "\ud800", "..", "%00"):
        made = ask(
            unchanged,
            "POST",
            "/networks/create",
            json.dumps({"Name": odd}).encode(),
            {"Content-Type": "application/json"},
        )
        assert made.status == 201, (odd, made)
        assert ask(unchanged, "DELETE", f"/networks/{made.json()['Id']}").status == 204
    for odd in ("\0", "\n", "", " ", "x" * 300):
        assert ask_json(unchanged, "POST", "/networks/create", {"Name": odd}).status == 400


def test_a_document_of_a_hundred_thousand_fields(unchanged: str) -> None:
    body = {"Image": "busybox", "Labels": {f"label-{number}": "x" for number in range(100_000)}}
    made = ask_json(unchanged, "POST", "/containers/create", body)
    assert made.status == 201
    assert len(ask(unchanged, "GET", f"/containers/{made.json()['Id']}/json").json()["Config"]["Labels"]) == 100_000
    assert ask(unchanged, "DELETE", f"/containers/{made.json()['Id']}").status == 204
