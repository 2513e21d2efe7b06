"""Clients that are slow, broken or malicious: each is answered or let go in bounded time, and nobody else notices."""

import contextlib
import json
import socket
import threading
import time
from typing import Any

import pytest
from coved.api import connection, http, json_body
from coved.api.http import Request, Response, json_response
from coved.errors import InvalidParameter
from open_descriptors import open_descriptors
from served import Served
from test_connection import ask, get, post, receive_all, receive_until


def settled(wanted: int) -> int:
    deadline = time.monotonic() + 60
    while (count := open_descriptors()) > wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return count


@pytest.fixture
def echo(served: Served) -> Served:
    async def show(engine: Any, request: Request) -> Response:
        return json_response(await request.json())

    served.router.add("POST", "/echo", show)
    return served


def post_echo(served: Served, body: bytes) -> tuple[int, Any]:
    head = f"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    status, _, answer = ask(served, head.encode() + body)
    return status, json.loads(answer)


# -- slow


@pytest.mark.parametrize("sent", [b"", b"GET /_pi", b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-A: b\r\n"])
def test_a_head_has_its_time(served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.3)
    with served.connect() as client:
        client.sendall(sent)
        started = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - started < 50


def test_a_head_in_drops_does_not_last_longer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    with served.connect() as client:
        client.sendall(b"GET /_ping HTTP/1.1\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(1000):  # which is the end of a test that fails
                client.sendall(b"X-A: b\r\n")
                time.sleep(0.05)


def test_a_body_in_drops_does_not_last_for_ever(echo: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_SECONDS", 0.5)
    with echo.connect() as client:
        client.sendall(
            b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                client.sendall(b" ")
                time.sleep(0.02)
        assert receive_until(client, b"in time").startswith(b"HTTP/1.1 408 Request Timeout")


def test_a_body_that_stops_is_answered(echo: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_STALL_SECONDS", 0.3)
    with echo.connect() as client:
        client.sendall(
            b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
        )
        assert receive_until(client, b"go on").startswith(b"HTTP/1.1 408")


def test_an_answer_that_nobody_reads_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(engine: Any, request: Request) -> Response:
        return Response(200, {}, bytes(32 << 20))

    served.router.add("GET", "/large", large)
    monkeypatch.setattr(connection, "BODY_STALL_SECONDS", 0.3)
    before = open_descriptors()
    with served.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: d\r\n\r\n")
        assert settled(before + 1) == before + 1  # the server's end is closed; ours is what is left


# -- broken


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-\0: b\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-A: \0\r\n\r\n",
        b"GET /_ping\0 HTTP/1.1\r\nHost: d\r\n\r\n",
        b"GET /_ping HTTP/9.9\r\nHost: d\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\n\0\xff\r\n\r\n",
        b"GET  /_ping  HTTP/1.1\r\nHost: d\r\n\r\n",
    ],
)
def test_what_is_not_http_is_answered_and_let_go(served: Served, request_bytes: bytes) -> None:
    status, headers, body = ask(served, request_bytes)
    assert status in (400, 501, 505)
    assert headers["connection"] == "close"
    assert json.loads(body)["message"].startswith("malformed request: ")
    assert get(served, "/_ping")[0] == 200


@pytest.mark.parametrize(
    "path", ["/%00", "/containers/%00/json", "/\ud800", "/%ff%fe", "/v%00/info", "/" + "a/" * 5000]
)
def test_odd_paths_are_unknown(served: Served, path: str) -> None:
    status, _, body = ask(served, f"GET {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode("utf-8", "replace"))
    assert (status, json.loads(body)["message"].partition(":")[0]) in (
        (404, "page not found"),
        (400, "malformed request"),
    )


def test_the_form_for_proxies(served: Served) -> None:
    assert get(served, "http://docker/_ping")[2] == b"OK"
    assert get(served, "http://docker")[0] == 404


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//_ping", "/_ping"),
        ("/v1.51//info?a=b", "/v1.51/info?a=b"),
        ("/a/../_ping", "/_ping"),
        ("/./_ping/", "/_ping/"),
        ("//evil.example/x%0d%0aY:z", "/evil.example/x%0D%0AY:z"),
    ],
)
def test_paths_are_sent_to_their_own_form(served: Served, path: str, location: str) -> None:
    status, headers, body = get(served, path)
    assert (status, headers["location"], body) == (301, location, b"")


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n", b"-1\r\nabc\r\n", b"fffffffffffffffffffff\r\n", b"5\r\nabc\r\n0\r\n\r\n", b"1;" + b"a" * 70000],
)
def test_chunked_garbage(echo: Served, chunks: bytes) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with echo.connect() as client:
        client.sendall(head + chunks)
        client.shutdown(socket.SHUT_WR)
        answer = receive_all(client)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert get(echo, "/_ping")[0] == 200


def test_a_client_that_resets_within_its_body_is_no_fault(echo: Served, caplog: pytest.LogCaptureFixture) -> None:
    before = open_descriptors()
    for _ in range(20):
        client = echo.connect()
        client.sendall(
            b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\n{"
        )
        client.close()
    assert settled(before) <= before
    assert not caplog.records


def test_pipelined_requests_after_a_broken_one_are_not_served(served: Served) -> None:
    with served.connect() as client:
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\nnonsense\r\n\r\nGET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        answers = receive_all(client)
    assert answers.count(b"HTTP/1.1 200") == 1 and answers.count(b"HTTP/1.1 400") == 1


def test_a_hundred_pipelined_requests(served: Served) -> None:
    with served.connect() as client:
        threading.Thread(target=client.sendall, args=(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n" * 100,)).start()
        answers = b""
        while answers.count(b"\r\n\r\nOK") < 100:
            chunk = client.recv(65536)
            assert chunk
            answers += chunk


# -- JSON


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "invalid JSON: unexpected EOF"),
        (b'{"a', "invalid JSON: unexpected EOF"),
        (b'{"a":', "invalid JSON: unexpected EOF"),
        (b"x", "invalid JSON: invalid character 'x' looking for beginning of value"),
        (b"{x", "invalid JSON: invalid character 'x' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid JSON: invalid character '1' after object key"),
        (b'{"a": "\n"}', r"invalid JSON: invalid character '\n' in string literal"),
        (b'{"a": NaN}', "invalid JSON: invalid character 'N' looking for beginning of value"),
        (b'{"a": -Infinity}', "invalid JSON: invalid character 'I' looking for beginning of value"),
        (b'{"a": ' + b"9" * 5000 + b"}", "invalid JSON: number out of range"),
        (b"[" * 100_000, "invalid JSON: exceeded max depth"),
        (b'{"a":' * 150 + b"1" + b"}" * 150, "invalid JSON: exceeded max depth"),
        (b"{}{}", "unexpected content after JSON"),
    ],
)
def test_json_that_is_none(echo: Served, body: bytes, message: str) -> None:
    assert post_echo(echo, body) == (400, {"message": message})


def test_strings_that_are_not_unicode_are_made_so(echo: Served) -> None:
    assert post_echo(echo, b'{"a": "\xff\xfe", "\\ud800": "x\\udc00y", "pair": "\\ud83d\\ude00"}') == (
        200,
        {"a": "\ufffd\ufffd", "\ufffd": "x\ufffdy", "pair": "\U0001f600"},
    )


def test_every_prefix_of_a_document_is_refused_in_words() -> None:
    document = b'{"a": [1, -2.5e3, true, null, "\\u00e9\\n"], "b": {"c": {}}}'
    for length in range(1, len(document)):
        with pytest.raises(InvalidParameter, match="invalid JSON: "):
            json_body.decode(document[:length])
    assert json_body.decode(document)["a"][1] == -2500.0


def test_a_header_without_a_media_type(served: Served) -> None:
    status, _, body = post(served, b"{}", "Content-Type:")
    assert (status, json.loads(body)["message"]) == (400, "malformed Content-Type header (): mime: no media type")


# -- many


def test_five_hundred_connections_at_once(served: Served) -> None:
    before = open_descriptors()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.connect()) for _ in range(500)]
        for client in clients:
            client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        for client in clients:
            assert receive_until(client, b"\r\n\r\nOK").startswith(b"HTTP/1.1 200")
    assert settled(before) <= before


def test_clients_that_vanish_within_an_answer_leave_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async def endless(engine: Any, request: Request) -> Response:
        async def chunks() -> Any:
            while True:
                yield bytes(65536)

        return Response(200, {}, chunks())

    served.router.add("GET", "/endless", endless)
    before = open_descriptors()
    for _ in range(50):
        with served.connect() as client:
            client.sendall(b"GET /endless HTTP/1.1\r\nHost: d\r\n\r\n")
            client.recv(1000)
    assert settled(before) <= before
    assert not caplog.records
    assert served.socket.exists()
