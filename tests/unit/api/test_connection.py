"""The wire: what clients of all kinds may do to a connection, over a real socket."""

import asyncio
import contextlib
import json
import os
import queue
import socket
import stat
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from coved.api.http import Request, Response, json_response
from served import Served


def receive_all(client: socket.socket) -> bytes:
    data = b""
    while chunk := client.recv(65536):
        data += chunk
    return data


def receive_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        chunk = client.recv(65536)
        assert chunk, f"the connection ended before {end!r}: {data!r}"
        data += chunk
    return data


def ask(served: Served, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own; the answer's status, headers and body."""
    with served.connect() as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        head, _, body = receive_all(client).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


def get(served: Served, path: str) -> tuple[int, dict[str, str], bytes]:
    return ask(served, f"GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())


def test_socket_is_for_its_owner_alone(served: Served) -> None:
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600


def test_ping_tells_versions_in_headers(served: Served) -> None:
    status, headers, body = get(served, "/_ping")
    assert (status, body) == (200, b"OK")
    assert headers["api-version"] == "1.51"
    assert headers["ostype"] == "linux"
    assert headers["docker-experimental"] == "false"
    assert headers["builder-version"] == "2"
    assert headers["server"] == "Cove/0.1.0 (linux)"


def test_head_of_ping_has_its_headers_and_no_body(served: Served) -> None:
    status, headers, body = ask(served, b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
    assert (status, headers["content-length"], body) == (200, "0", b"")
    assert (headers["api-version"], headers["swarm"], headers["pragma"]) == ("1.51", "inactive", "no-cache")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1.51/nothing", 404, "page not found"),
        ("/nothing", 404, "page not found"),
        ("/v1.10/version", 400, "client version 1.10 is too old. Minimum supported API version is 1.24, "
         "please upgrade your client to a newer version"),
        ("/v1.99/version", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ("/images/prune", 404, "page not found"),
    ],
)  # fmt: skip
def test_refusals(served: Served, path: str, status: int, message: str) -> None:
    got, headers, body = get(served, path)
    assert (got, json.loads(body)) == (status, {"message": message})
    assert headers["api-version"] == "1.51"


def test_every_version_in_range_is_honoured(served: Served) -> None:
    async def show(engine: Any, request: Request) -> Response:
        return json_response(request.version)

    served.router.add("GET", "/show", show)
    assert json.loads(get(served, "/v1.24/show")[2]) == [1, 24]
    assert json.loads(get(served, "/v1.51/show")[2]) == [1, 51]
    assert json.loads(get(served, "/show")[2]) == [1, 51]


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    with served.connect() as client:
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n" * 3 + b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answers = receive_all(client)
    assert answers.count(b"HTTP/1.1 200") == 3
    assert answers.rindex(b"HTTP/1.1 200") < answers.index(b"HTTP/1.1 404")


def test_a_head_that_arrives_byte_by_byte(served: Served) -> None:
    with served.connect() as client:
        for byte in b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n":
            client.send(bytes([byte]))
        assert receive_until(client, b"\r\n\r\nOK").startswith(b"HTTP/1.1 200")


def test_large_registry_credentials_fit_into_the_head(served: Served) -> None:
    request = b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-Registry-Config: " + b"a" * 500_000 + b"\r\n\r\n"
    assert ask(served, request)[0] == 200


def test_a_head_without_end_is_refused(served: Served) -> None:
    with served.connect() as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(b"GET /_ping HTTP/1.1\r\nX: " + b"a" * 3_000_000)
        assert b"431" in client.recv(65536).split(b"\r\n")[0]


def test_garbage_is_answered_with_400(served: Served) -> None:
    status, _, body = ask(served, b"\x16\x03\x01 this is TLS\r\n\r\n")
    assert status == 400
    assert "malformed request" in json.loads(body)["message"]


def post(served: Served, body: bytes, *headers: str) -> tuple[int, dict[str, str], bytes]:
    head = "\r\n".join(["POST /volumes/create HTTP/1.1", "Host: d", f"Content-Length: {len(body)}", *headers])
    return ask(served, head.encode() + b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b" ", "application/json", "invalid JSON: got EOF while reading request body"),
        (b"{} {}", "application/json", "unexpected content after JSON"),
        (b"[]", "application/json", "invalid JSON: expected an object, got list"),
        (b"[" * 100_000, "application/json", None),
        (b"{,}", "application/json", None),
        (b"\xff\xfe{", "application/json", None),
    ],
)
def test_bad_json(served: Served, body: bytes, content_type: str, message: str | None) -> None:
    status, _, answer = post(served, body, f"Content-Type: {content_type}")
    assert status == 400
    text = json.loads(answer)["message"]
    assert text == message if message else text.startswith("invalid JSON: ")


def test_json_has_a_limit(served: Served) -> None:
    status, _, answer = post(served, b" " * (17 * 1024 * 1024), "Content-Type: application/json")
    assert status == 413
    assert "larger than" in json.loads(answer)["message"]


def test_expect_100_continue(served: Served) -> None:
    with served.connect() as client:
        client.sendall(
            b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            b"Content-Length: 15\r\nExpect: 100-continue\r\n\r\n"
        )
        assert receive_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        client.sendall(b'{"Name": "vol"}')
        assert receive_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 201")


def test_chunked_body(served: Served) -> None:
    request = (
        b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"Name":\r\n7\r\n "vol"}\r\n0\r\n\r\n'
    )
    assert ask(served, request)[0] == 201


def test_a_malformed_chunk_is_answered_and_ends_the_connection(served: Served) -> None:
    head = b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    status, _, body = ask(served, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + b"GET /_ping HTTP/1.1\r\n\r\n")
    assert status == 400
    assert "malformed request body" in json.loads(body)["message"]


def test_a_body_that_nobody_read_does_not_become_a_request(served: Served) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: d\r\n\r\n"
    with served.connect() as client:
        head = b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: " + str(len(smuggled)).encode() + b"\r\n\r\n"
        client.sendall(head + smuggled + b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answers = receive_all(client)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert b"404" not in answers


def test_an_unexpected_error_says_nothing_of_its_insides(served: Served) -> None:
    async def fail(engine: Any, request: Request) -> Response:
        raise RuntimeError("secret detail")

    served.router.add("GET", "/fail", fail)
    status, _, body = get(served, "/fail")
    assert status == 500
    assert "secret" not in body.decode()
    assert get(served, "/_ping")[0] == 200


def test_a_waiting_get_is_cancelled_when_its_client_leaves(served: Served) -> None:
    entered, cancelled = threading.Event(), threading.Event()

    async def wait(engine: Any, request: Request) -> Response:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response()

    served.router.add("GET", "/wait", wait)
    with served.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: d\r\n\r\n")
        assert entered.wait(10)
    assert cancelled.wait(10)


def test_a_post_is_finished_for_a_client_that_has_left(served: Served) -> None:
    entered, finished = threading.Event(), threading.Event()
    go_on: list[asyncio.Event] = []

    async def stop(engine: Any, request: Request) -> Response:
        go_on.append(asyncio.Event())
        entered.set()
        await go_on[0].wait()
        finished.set()
        return Response(204)

    served.router.add("POST", "/stop", stop)
    with served.connect() as client:
        client.sendall(b"POST /stop HTTP/1.1\r\nHost: d\r\n\r\n")
        assert entered.wait(10)
    assert get(served, "/_ping")[0] == 200
    served.call(lambda: go_on[0].set())
    assert finished.wait(10)


def test_a_half_closed_client_still_gets_its_stream(served: Served) -> None:
    closed = threading.Event()

    async def stream(engine: Any, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                for number in range(3):
                    await asyncio.sleep(0)
                    yield f"chunk {number}\n".encode()
                await asyncio.Event().wait()
            finally:
                closed.set()

        return Response(200, {}, chunks())

    served.router.add("GET", "/stream", stream)
    with served.connect() as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: d\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        receive_until(client, b"chunk 2\n")
        assert not closed.is_set()
    assert closed.wait(10)


def test_a_slow_reader_holds_its_stream_back_and_nobody_else(served: Served) -> None:
    produced = 0

    async def flood(engine: Any, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            nonlocal produced
            while True:
                produced += 65536
                yield b"x" * 65536

        return Response(200, {}, chunks())

    served.router.add("GET", "/flood", flood)
    with served.connect() as client:
        client.sendall(b"GET /flood HTTP/1.1\r\nHost: d\r\n\r\n")
        receive_until(client, b"\r\n\r\n")
        for _ in range(20):
            assert get(served, "/_ping")[0] == 200
        assert produced < 8 * 1024 * 1024


@pytest.mark.parametrize(
    ("upgrade", "raw", "version", "head"),
    [
        (True, True, "1.51", b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"),
        (True, False, "1.51", b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"),
        (True, False, "1.41", b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"),
        (False, True, "1.51", b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n"),
    ],
)
def test_hijack(served: Served, upgrade: bool, raw: bool, version: str, head: bytes) -> None:
    async def attach(engine: Any, request: Request) -> None:
        await request.json()
        hijacked = await request.hijack(raw_stream=raw)

        def echo() -> None:
            with socket.socket(fileno=hijacked.fd) as stream:
                stream.setblocking(True)
                data = hijacked.pending
                while chunk := stream.recv(65536):
                    data += chunk
                stream.sendall(data.upper())

        threading.Thread(target=echo).start()

    served.router.add("POST", "/attach", attach)
    body = b'{"Tty": false}'
    fields = [f"POST /v{version}/attach HTTP/1.1", "Host: d", "Content-Type: application/json"]
    fields += [f"Content-Length: {len(body)}"] + (["Connection: Upgrade", "Upgrade: tcp"] if upgrade else [])
    with served.connect() as client:
        # The first input comes in the same packet as the request.
        client.sendall("\r\n".join(fields).encode() + b"\r\n\r\n" + body + b"early ")
        answer = receive_until(client, b"\r\n\r\n")
        assert answer.startswith(head)
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"EARLY LATE"


def test_the_server_forgets_hijacked_connections(served: Served) -> None:
    descriptors: queue.Queue[int] = queue.Queue()

    async def attach(engine: Any, request: Request) -> None:
        descriptors.put((await request.hijack(raw_stream=True)).fd)

    served.router.add("POST", "/attach", attach)
    with served.connect() as client:
        client.sendall(b"POST /attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        receive_until(client, b"\r\n\r\n")
        os.close(descriptors.get(timeout=10))
        assert client.recv(1) == b""
    assert get(served, "/_ping")[0] == 200
