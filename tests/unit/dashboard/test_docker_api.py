"""Docker's API through the dashboard, with an engine that is a stand-in: streams, their ends, and machines that do not run."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from cove.machine.paths import MachinePaths

BOUND_S = 30.0
Engine = Callable[[Callable[[socket.socket], None]], None]


class Standing:
    """An engine that says `head` and then what it is given, and notes what it is asked and when the client has gone."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.asked = b""
        self.came, self.gone = threading.Event(), threading.Event()
        self.client: socket.socket

    def __call__(self, client: socket.socket) -> None:
        self.client = client
        while b"\r\n\r\n" not in self.asked:
            self.asked += client.recv(1 << 16)
        client.sendall(self._head)
        self.came.set()
        try:
            while client.recv(1 << 16):
                pass
        except OSError:
            pass
        self.gone.set()


def stream(engine: Engine) -> Standing:
    """An engine whose answer has no end of itself."""
    made = Standing(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    engine(made)
    return made


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("state", ["stopped", "suspended", "starting"])
def test_to_look_at_a_machine_does_not_start_it(
    request: pytest.FixtureRequest, dashboard: Any, paths: MachinePaths, state: str
) -> None:
    came = threading.Event()
    if state == "starting":
        request.getfixturevalue("engine")(lambda _: came.set())
        paths.down.touch()
    elif state == "suspended":
        paths.suspended_run.touch()
    answer = dashboard.browse("GET", "docker/containers/json")
    assert answer.status == 503
    assert answer.json["machine"] == state
    assert f"the machine default is {state}" in answer.json["message"]
    assert answer.json["hint"]
    assert not came.is_set()


def test_an_engine_that_cannot_be_reached_is_told(dashboard: Any, engine: Engine) -> None:
    answer = dashboard.browse("GET", "docker/_ping")
    assert (answer.status, answer.json["machine"]) == (503, "running")
    engine(lambda client: client.close())
    assert dashboard.browse("GET", "docker/_ping").status == 502


def test_the_engine_gets_no_more_than_it_needs(dashboard: Any, engine: Engine) -> None:
    standing = Standing(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    engine(standing)
    headers = {
        "X-Registry-Auth": "abc",
        "Content-Type": "application/json",
        "TE": "x",
        "Referer": "x",
        "Accept-Language": "ja",
    }
    assert dashboard.browse("POST", "docker/v1.47/images/create?fromImage=a%2Fb", b"{}", **headers).status == 200
    line, *told = standing.asked.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert line == b"POST /v1.47/images/create?fromImage=a%2Fb HTTP/1.1"
    assert {one.partition(b":")[0].lower() for one in told} == {
        b"host",
        b"content-type",
        b"content-length",
        b"x-registry-auth",
    }


@pytest.mark.parametrize(
    ("target", "image"),
    [
        ("images/create?fromImage=r.example%2Fa&tag=1", b"r.example/a"),
        ("v1.47/images/r.example%2Fa%2Fb/push?tag=1", b"r.example/a/b"),
        ("images/r.example/a/b/push", b"r.example/a/b"),
    ],
)
def test_what_the_user_has_logged_in_with_is_used(dashboard: Any, engine: Engine, target: str, image: bytes) -> None:
    standing = Standing(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    engine(standing)
    assert dashboard.browse("POST", f"docker/{target}").status == 200
    assert b"\r\nx-registry-auth: login for " + image + b"\r\n" in standing.asked.lower()
    standing.asked = b""
    assert dashboard.browse("POST", f"docker/{target}", X_Registry_Auth="own").status == 200
    assert b"login for" not in standing.asked


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "images/create?fromSrc=-"), ("GET", "images/create?fromImage=a"), ("POST", "containers/create?fromImage=a"),
        ("POST", "images/a/tag"),
    ],
)  # fmt: skip
def test_nothing_else_has_it(dashboard: Any, engine: Engine, method: str, target: str) -> None:
    standing = Standing(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    engine(standing)
    assert dashboard.browse(method, f"docker/{target}").status == 200
    assert b"x-registry-auth" not in standing.asked.lower()


def test_no_registry_gets_the_login_of_another(dashboard: Any, engine: Engine) -> None:
    """The engine takes the first of two arguments, others the last."""
    standing = Standing(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    engine(standing)
    answer = dashboard.browse("POST", "docker/images/create?fromImage=evil.example%2Fa&fromImage=r.example%2Fa")
    assert answer.status == 400
    assert "fromImage is there 2 times" in answer.json["message"]
    assert standing.asked == b""


def test_of_two_lengths_of_a_body_the_engine_gets_one(dashboard: Any, engine: Engine) -> None:
    standing = Standing(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n"
    )
    engine(standing)
    head = dashboard.head("POST", "docker/a", "Content-Length: 1", "Transfer-Encoding: chunked", "Connection: close")
    with dashboard.raw(head + b"2\r\n{}\r\n0\r\n\r\n") as page:
        answer = b"".join(iter(lambda: page.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"2\r\nOK\r\n0\r\n\r\n"), "and neither does the page get two"
    asked = standing.asked.partition(b"\r\n\r\n")[0].lower()
    assert b"transfer-encoding: chunked" in asked
    assert b"content-length" not in asked


def test_a_stream_comes_as_the_engine_says_it(dashboard: Any, engine: Engine) -> None:
    standing = stream(engine)
    with dashboard.raw(dashboard.head("GET", "docker/events")) as page:
        lines = page.makefile("rb")
        assert lines.readline().startswith(b"HTTP/1.1 200")
        while lines.readline() != b"\r\n":
            pass
        for said in (b'{"n": 1}\n', b'{"n": 2}\n'):
            standing.client.sendall(chunk(said))
            assert lines.readline() == b"%x\r\n" % len(said)
            assert lines.readline() == said
            lines.readline()
        assert not standing.gone.is_set()


def test_a_page_that_is_gone_ends_the_engines_side(dashboard: Any, engine: Engine) -> None:
    standing = stream(engine)
    page = dashboard.raw(dashboard.head("GET", "docker/events"))
    assert page.recv(100).startswith(b"HTTP/1.1 200")
    page.close()
    assert standing.gone.wait(BOUND_S)


def test_so_does_one_that_leaves_before_the_engine_has_answered(dashboard: Any, engine: Engine) -> None:
    standing = Standing(b"")
    engine(standing)
    page = dashboard.raw(dashboard.head("GET", "docker/events"))
    assert standing.came.wait(BOUND_S)
    page.close()
    assert standing.gone.wait(BOUND_S)


def test_an_engine_that_is_gone_cuts_the_answer_short(dashboard: Any, engine: Engine) -> None:
    standing = stream(engine)
    with dashboard.raw(dashboard.head("GET", "docker/events")) as page:
        assert page.recv(100).startswith(b"HTTP/1.1 200")
        standing.client.shutdown(socket.SHUT_RDWR)
        rest = b"".join(iter(lambda: page.recv(1 << 16), b""))
    assert not rest.endswith(b"0\r\n\r\n")


def test_a_body_goes_up_as_it_comes(dashboard: Any, engine: Engine) -> None:
    """Of any length: an image, an archive of files."""
    parts: list[int] = []
    first = threading.Event()

    def count(client: socket.socket) -> None:
        seen = client.recv(1 << 16)
        while b"\r\n\r\n" not in seen:
            seen += client.recv(1 << 16)
        size = len(seen.partition(b"\r\n\r\n")[2])
        while size < 8 << 20:
            size += len(client.recv(1 << 16))
            first.set()
        parts.append(size)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

    engine(count)
    with dashboard.raw(dashboard.head("POST", "docker/images/load", f"Content-Length: {8 << 20}")) as page:
        page.sendall(bytes(1 << 20))
        assert first.wait(BOUND_S), "it waits for the whole"
        page.sendall(bytes(7 << 20))
        assert page.recv(100).startswith(b"HTTP/1.1 200")
    assert parts == [8 << 20]


def test_an_engine_may_refuse_a_body_before_it_has_come(dashboard: Any, engine: Engine) -> None:
    """And end the connection."""
    refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    ended = threading.Event()

    def refuse(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(refusal)
        client.close()
        ended.set()

    engine(refuse)
    with dashboard.raw(dashboard.head("PUT", "docker/containers/a/archive", "Content-Length: 99999999")) as page:
        assert ended.wait(BOUND_S)
        page.sendall(bytes(1 << 16))
        answer = page.recv(1 << 16)
        while not answer.endswith(b"no"):
            answer += page.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 404")


def test_a_page_that_reads_slowly_is_waited_for(dashboard: Any, engine: Engine) -> None:
    """And the engine with it: nothing is gathered."""
    standing = stream(engine)
    with dashboard.raw(dashboard.head("GET", "docker/containers/a/logs?follow=1")) as page:
        assert page.recv(100).startswith(b"HTTP/1.1 200")
        standing.client.setblocking(False)
        piece, sent = chunk(bytes(1 << 16)), 0
        try:
            while sent < 256 << 20:
                sent += standing.client.send(piece)
        except BlockingIOError:
            pass
        assert sent < 256 << 20


def test_a_stream_can_be_had_in_a_websocket(dashboard: Any, engine: Engine) -> None:
    standing = stream(engine)
    page = dashboard.socket("docker/events?since=1")
    assert json.loads(page.recv()) == {
        "status": 200,
        "headers": {"content-type": "application/json", "content-security-policy": "default-src 'none'; sandbox"},
    }
    assert standing.asked.startswith(b"GET /events?since=1 HTTP/1.1\r\n")
    for said in (b'{"n": 1}\n', b'{"n": 2}\n'):
        standing.client.sendall(chunk(said))
        assert page.recv() == said
    standing.client.sendall(b"0\r\n\r\n")
    assert page.recv_data() == (8, (1000).to_bytes(2, "big"))
    page.close()


def more_than_fits(standing: Standing) -> None:
    """Say pieces of a stream until the engine has to wait."""
    standing.client.setblocking(False)
    piece, sent = chunk(bytes(1 << 16)), 0
    with contextlib.suppress(BlockingIOError):
        while sent < 256 << 20:
            sent += standing.client.send(piece)
    assert sent < 256 << 20


def test_a_page_that_has_enough_for_now_has_the_engine_wait(dashboard: Any, engine: Engine) -> None:
    """It says so: its browser would take everything."""
    standing = stream(engine)
    page = dashboard.socket("docker/containers/a/logs?follow=1")
    assert json.loads(page.recv())["status"] == 200
    page.send('{"hold": true}')
    page.ping()
    assert page.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_PONG, "it has heard of it"
    standing.client.sendall(chunk(b"first"))
    page.settimeout(0.5)
    with pytest.raises(websocket.WebSocketTimeoutException):
        page.recv()
    page.settimeout(BOUND_S)
    more_than_fits(standing)
    page.send('{"hold": false}')
    assert page.recv() == b"first"
    page.send('{"hold": true}')
    page.close()
    assert standing.gone.wait(BOUND_S)


def test_so_has_that_of_a_terminal(dashboard: Any, engine: Engine) -> None:
    terminal = Terminal()
    engine(terminal)
    page = dashboard.socket(f"api/exec/{EXEC}/ws")
    assert page.recv() == b"$ "
    page.send('{"hold": true}')
    page.send_binary(b"x")
    page.settimeout(0.5)
    with pytest.raises(websocket.WebSocketTimeoutException):
        page.recv()
    page.settimeout(BOUND_S)
    page.send('{"hold": false}')
    assert page.recv() == b"X"
    page.close()


def test_a_websocket_that_is_closed_ends_the_engines_side(dashboard: Any, engine: Engine) -> None:
    standing = stream(engine)
    page = dashboard.socket("docker/events")
    page.recv()
    page.close()
    assert standing.gone.wait(BOUND_S)


def test_a_websocket_is_told_of_errors_as_of_answers(dashboard: Any) -> None:
    page = dashboard.socket("docker/events")
    assert json.loads(page.recv())["status"] == 503
    assert json.loads(page.recv())["machine"] == "stopped"
    page.close()


def test_hundreds_of_streams_are_no_hindrance(dashboard: Any, engine: Engine) -> None:
    here = threading.Semaphore(0)

    def behave(client: socket.socket) -> None:
        client.recv(1 << 16)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.recv(1)
        here.release()

    engine(behave)
    pages = [dashboard.socket(f"docker/containers/{number}/stats") for number in range(100)]
    for page in pages:
        assert json.loads(page.recv())["status"] == 200
    assert dashboard.browse("GET", "").status == 200
    for page in pages:
        page.close()
    for _ in pages:
        assert here.acquire(timeout=BOUND_S)


EXEC = "a" * 64


class Terminal:
    """An engine with an exec: it echoes, and notes sizes."""

    def __init__(self) -> None:
        self.sizes: list[str] = []
        self.resized = threading.Event()
        self.started: dict[str, Any] = {}
        self.gone = threading.Event()
        self.client: socket.socket

    def __call__(self, client: socket.socket) -> None:
        asked = client.recv(1 << 16)
        line = asked.split(b"\r\n")[0].decode()
        if "/resize" in line:
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            self.sizes.append(line.split(" ")[1].partition("?")[2])
            self.resized.set()
            return
        assert line == f"POST /exec/{EXEC}/start HTTP/1.1"
        self.client = client
        while not asked.endswith(b"}"):
            asked += client.recv(1 << 16)
        self.started = json.loads(asked.partition(b"\r\n\r\n")[2])
        client.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n$ ")
        while (data := client.recv(1 << 16)) and b"\x04" not in data:
            client.sendall(data.upper())
        self.gone.set()


def test_a_terminal_is_an_exec_behind_a_websocket(dashboard: Any, engine: Engine) -> None:
    terminal = Terminal()
    engine(terminal)
    page = dashboard.socket(f"api/exec/{EXEC}/ws?cols=80&rows=24")
    assert page.recv() == b"$ "
    assert terminal.started == {"Detach": False, "Tty": True, "ConsoleSize": [24, 80]}
    page.send_binary("ls -lé\r".encode())
    assert page.recv() == "ls -lé\r".encode().upper()
    page.send('{"resize": [132, 43]}')
    assert terminal.resized.wait(BOUND_S)
    assert terminal.sizes == ["w=132&h=43"]
    page.send_binary(b"x")
    assert page.recv() == b"X"
    page.close()
    assert terminal.gone.wait(BOUND_S)


def test_typing_waits_for_no_new_size(dashboard: Any, engine: Engine) -> None:
    terminal = Terminal()
    over = threading.Event()

    def behave(client: socket.socket) -> None:
        if b"/resize" in client.recv(1 << 16, socket.MSG_PEEK):
            over.wait(BOUND_S * 4)  # no answer
        else:
            terminal(client)

    engine(behave)
    page = dashboard.socket(f"api/exec/{EXEC}/ws")
    assert page.recv() == b"$ "
    page.send('{"resize": [132, 43]}')
    page.send_binary(b"x")
    assert page.recv() == b"X"
    page.close()
    over.set()


@pytest.mark.parametrize(
    "said", ["", "{", "[]", '{"resize": []}', '{"resize": [0, 1]}', '{"resize": [1e9, 1]}', '{"resize": ["a", {}]}']
)
def test_sizes_that_no_terminal_has_are_passed_over(dashboard: Any, engine: Engine, said: str) -> None:
    terminal = Terminal()
    engine(terminal)
    page = dashboard.socket(f"api/exec/{EXEC}/ws?cols=-1&rows=x")
    assert page.recv() == b"$ "
    page.send(said)
    page.send_binary(b"x")
    assert page.recv() == b"X"
    assert terminal.sizes == []
    page.close()


def test_an_exec_that_ends_ends_the_websocket(dashboard: Any, engine: Engine) -> None:
    terminal = Terminal()
    engine(terminal)
    page = dashboard.socket(f"api/exec/{EXEC}/ws")
    assert page.recv() == b"$ "
    terminal.client.shutdown(socket.SHUT_RDWR)
    assert page.recv_data()[0] == 8
    page.close()


def test_an_exec_that_cannot_be_started_is_told(dashboard: Any, engine: Engine) -> None:
    refusal = b'HTTP/1.1 409 Conflict\r\nContent-Length: 17\r\n\r\n{"message":"ran"}'

    def refuse(client: socket.socket) -> None:
        asked = b""
        while not asked.endswith(b"}"):
            asked += client.recv(1 << 16)
        client.sendall(refusal)

    engine(refuse)
    for name, error in ((EXEC, "ran"), ("..", "there is no such exec"), (f"{EXEC}%2f", "there is no such exec")):
        page = dashboard.socket(f"api/exec/{name}/ws")
        assert json.loads(page.recv())["error"] == error
        assert page.recv_data()[0] == 8
        page.close()
