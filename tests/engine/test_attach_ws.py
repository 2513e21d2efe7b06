"""Attaching by WebSocket, with the `websocket-client` that the Docker SDK uses. Held against dockerd 26.1."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest
import websocket

from life_support import eventually
from raw_client import ask, connect

pytestmark = [pytest.mark.root, pytest.mark.native]

ALL = "stream=1&stdin=1&stdout=1&stderr=1"


def attach(engine: Any, container: Any, query: str = ALL, version: str = "v1.51") -> Any:
    return websocket.create_connection(
        f"ws://docker/{version}/containers/{container.id}/attach/ws?{query}",
        socket=connect(str(engine.socket)),
        timeout=20,
    )


def rest(client: Any) -> tuple[bytes, int]:
    """All that comes, and the code that it is closed with, which is not answered: an engine that ends is gone by then."""
    data = b""
    while True:
        frame = client.recv_frame()
        if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
            client.shutdown()
            return data, int.from_bytes(frame.data[:2], "big")
        data += frame.data


def text(client: Any, size: int) -> bytes:
    """So many bytes of it, in however many messages."""
    data = b""
    while len(data) < size:
        opcode, payload = client.recv_data()
        assert opcode == websocket.ABNF.OPCODE_BINARY
        data += payload
    return data


def state(container: Any) -> str:
    container.reload()
    return str(container.status)


def test_output_from_the_first_byte_to_the_last(engine: Any, make: Any) -> None:
    container = make("sh", "-c", "echo out; echo err >&2; head -c 3000000 /dev/zero; echo end", start=False)
    client = attach(engine, container)
    container.start()
    data, code = rest(client)
    assert (sorted(data.replace(b"\0", b"").splitlines()), data.count(b"\0"), code) == (
        [b"end", b"err", b"out"],
        3_000_000,
        1000,
    )


@pytest.mark.parametrize(
    ("query", "version", "opcode", "output"),
    [
        ("stream=1&stdout=1", "v1.51", 2, b"out\n"),
        ("stream=1&stderr=1", "v1.42", 2, b"err\n"),
        ("stream=1", "v1.44", 8, b""),
        ("stream=1", "v1.41", 2, b"err\nout\n"),
        ("stream=1&stdout=1", "v1.28", 2, b"err\nout\n"),
        ("stream=1&stdout=1", "v1.27", 1, b"err\nout\n"),
        ("stdout=1", "v1.51", 8, b""),
    ],
)
def test_streams_and_frames_are_those_of_the_version(
    engine: Any, make: Any, query: str, version: str, opcode: int, output: bytes
) -> None:
    container = make("sh", "-c", "echo out; echo err >&2", start=False)
    client = attach(engine, container, query, version)
    container.start()
    first, data = client.recv_data(control_frame=True)
    assert first == opcode
    if opcode != 8:
        more, code = rest(client)
        assert (b"".join(sorted((data + more).splitlines(keepends=True))), code) == (output, 1000)


def test_the_past_comes_first(engine: Any, make: Any) -> None:
    container = make("sh", "-c", "echo early; echo bad >&2; read x; echo $x", start=False, stdin_open=True)
    container.start()
    eventually(lambda: container.logs() in (b"early\nbad\n", b"bad\nearly\n"))
    assert rest(attach(engine, container, "logs=1&stdout=1")) == (b"early\n", 1000)
    client = attach(engine, container, "logs=1&stream=1&stdin=1&stdout=1")
    client.send("late\n")
    assert rest(client) == (b"early\nlate\n", 1000)


def test_input_comes_as_text_or_binary_and_pings_are_answered(engine: Any, make: Any) -> None:
    container = make("cat", start=False, stdin_open=True, detach=True)  # the SDK's word for an input that stays open
    client = attach(engine, container)
    container.start()
    client.send("text é")
    assert text(client, 7) == "text é".encode()
    data = os.urandom(1000)
    client.send_binary(data)
    received = b""
    while len(received) < len(data):
        received += client.recv_data()[1]
    assert received == data
    client.ping("are you there")
    assert client.recv_data(control_frame=True) == (10, b"are you there")
    client.send_close(1000, b"bye")
    assert client.recv_data(control_frame=True) == (8, b"\x03\xe8bye")
    assert state(container) == "running"  # its input stays open for the next


def test_a_close_ends_input_that_is_to_end_with_its_client(engine: Any, make: Any, docker_client: Any) -> None:
    api = docker_client.api
    config = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", "wc -c; sleep 0.3; echo last"],
        "OpenStdin": True,
        "StdinOnce": True,
    }
    container = docker_client.containers.get(api.create_container_from_config(config)["Id"])
    try:
        client = attach(engine, container)
        container.start()
        size = 5_000_000
        client.send_binary(b"x" * size)
        client.send_close()
        assert rest(client) == (b"5000000\nlast\n", 1000)
        assert container.wait(timeout=20)["StatusCode"] == 0
    finally:
        container.remove(force=True)


def test_a_terminal_and_its_detach_keys(engine: Any, make: Any) -> None:
    container = make("sh", "-c", "stty -echo; echo ready; cat", start=False, stdin_open=True, tty=True)
    client = attach(engine, container, f"{ALL}&detachKeys=ctrl-a,b")
    container.start()
    assert text(client, 7) == b"ready\r\n"
    client.send("x\n")
    assert text(client, 3) == b"x\r\n"
    client.send("\x01b")
    assert rest(client) == (b"", 1000)
    assert state(container) == "running"


def test_a_client_that_goes_leaves_nothing_behind(engine: Any, make: Any) -> None:
    container = make("sleep", "600", start=False, stdin_open=True, detach=True)
    container.start()
    before = engine.descriptors()
    for ends in ("close", "shutdown"):
        for _ in range(5):
            client = attach(engine, container)
            if ends == "close":
                client.close()
            else:
                client.sock.close()
    eventually(lambda: engine.descriptors() <= before)
    assert state(container) == "running"


def test_a_killed_container_closes(engine: Any, make: Any) -> None:
    container = make("sleep", "600", start=False)
    container.start()
    client = attach(engine, container)
    container.kill()
    assert rest(client) == (b"", 1000)


def test_a_slow_client_makes_the_process_wait_and_costs_no_memory(engine: Any, make: Any) -> None:
    container = make("sh", "-c", "yes $(seq -s- 300) | head -c 60000000", start=False)
    client = attach(engine, container, "stream=1&stdout=1")
    before = engine.memory_kib()
    container.start()
    time.sleep(1)  # time in which an engine that collects would have collected much
    assert state(container) == "running"
    assert engine.memory_kib() - before < 20_000
    client.sock.close()
    assert container.wait(timeout=60)["StatusCode"] == 0


def request(path: str, **change: str | None) -> bytes:
    headers: dict[str, str | None] = {
        "Host": "docker",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    headers.update({name.replace("_", "-"): value for name, value in change.items()})
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("query", "change", "status", "words"),
    [
        ("", {"Upgrade": None, "Connection": None}, 400, "not websocket protocol"),
        ("", {"Upgrade": "tcp"}, 400, "not websocket protocol"),
        ("", {"Sec_WebSocket_Version": "8"}, 400, "missing or bad WebSocket Version"),
        ("", {"Sec_WebSocket_Key": None}, 400, "mismatch challenge/response"),
        ("&detachKeys=foo", {}, 400, "Invalid detach keys (foo) provided"),
    ],
)
def test_what_is_refused(
    engine: Any, make: Any, query: str, change: dict[str, str | None], status: int, words: str
) -> None:
    container = make("true", start=False)
    with connect(str(engine.socket)) as client:
        client.sendall(request(f"/containers/{container.id}/attach/ws?{ALL}{query}", **change))
        head, _, body = client.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert words in json.loads(body)["message"]
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")  # the connection still speaks HTTP
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_whom_there_is_not_or_is_paused(engine: Any, make: Any) -> None:
    assert ask(str(engine.socket), "GET", "/containers/none-such/attach/ws").status == 404
    container = make("sleep", "600", start=False)
    container.start()
    container.pause()
    with connect(str(engine.socket)) as client:
        client.sendall(request(f"/containers/{container.id}/attach/ws?{ALL}"))
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 409")
    assert f"container {container.id} is paused, unpause the container before attach".encode() in answer
    container.unpause()


def test_frames_in_the_handshakes_packet_count_and_garbage_ends_only_the_connection(engine: Any, make: Any) -> None:
    container = make("cat", start=False, stdin_open=True, detach=True)
    container.start()
    path = f"/containers/{container.id}/attach/ws?{ALL}"
    for frames, answer in (
        (b"\x82\x01a", b"\x03\xea"),
        (b"\xf2\x81\0\0\0\0a", b"\x03\xea"),
        (b"\x89\xfe\0\x80\0\0\0\0", b"\x03\xea"),
        (b"\x81\x81\0\0\0\0\xff", b"\x03\xef"),
        (b"\x7f" + os.urandom(4096), b"\x03\xea"),
    ):
        with connect(str(engine.socket)) as client:
            client.sendall(request(path) + frames)
            client.shutdown(socket.SHUT_WR)
            data = b""
            while chunk := client.recv(65536):
                data += chunk
            head, _, body = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101")
            assert answer in body
    with connect(str(engine.socket)) as client:
        client.sendall(request(path) + b"\x82\x82\0\0\0\0ab")
        data = b""
        while not data.endswith(b"\r\n\r\n\x82\x02ab"):
            data += client.recv(65536)
    assert state(container) == "running"


def test_the_sdk(engine: Any, make: Any, docker_client: Any) -> None:
    container = make("sh", "-c", "read x; echo got $x", start=False, stdin_open=True)
    with over_tcp(str(engine.socket)) as url:
        sdk = docker.APIClient(url, timeout=60)
        client = sdk.attach_socket(container.id, {"stdin": 1, "stdout": 1, "stream": 1}, ws=True)
        container.start()
        client.send("hello\n")
        assert rest(client) == (b"got hello\n", 1000)
        sdk.close()


@contextlib.contextmanager
def over_tcp(path: str) -> Iterator[str]:
    """A port that leads to the engine: the SDK's WebSockets know no unix sockets."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with connect(path) as engine:
                back = threading.Thread(target=_copy, args=(engine, self.request))
                back.start()
                _copy(self.request, engine)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forward) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_an_engine_that_ends_says_so(engine_with: Any) -> None:
    with engine_with() as engine:
        client = docker.DockerClient(engine.url, timeout=60)
        container = client.containers.run("busybox", ["sleep", "600"], detach=True, stop_signal="SIGKILL")
        attached = attach(engine, container, "stream=1&stdout=1")
        engine.process.terminate()
        assert rest(attached) in ((b"", 1000), (b"", 1001))  # it stops its containers first
        engine.process.wait(30)
        client.close()
