"""WebSockets on a socket pair, with a client that writes its frames byte by byte."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import resource
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from coved.api import attach_ws, websocket
from coved.api.http import Hijacked
from coved.api.websocket import WebSocket

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, 1.3
HANDSHAKE = {
    "upgrade": "websocket",
    "connection": "keep-alive, Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": KEY,
}


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, says: int | None = None
) -> bytes:
    """A client's frame; ``says`` is a length that it does not have."""
    length = len(payload) if says is None else says
    first = bytes([(0x80 if fin else 0) | opcode])
    bit = 0x80 if masked else 0
    if length < 126:
        head = first + bytes([bit | length])
    elif length < 1 << 16:
        head = first + struct.pack(">BH", bit | 126, length)
    else:
        head = first + struct.pack(">BQ", bit | 127, length)
    mask = os.urandom(4)
    coded = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return head + (mask + coded if masked else payload)


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def serve(
    script: Callable[[WebSocket, socket.socket], Awaitable[Any]], pending: bytes = b"", text: bool = False
) -> Any:
    """Runs ``script`` with both ends of a connection."""

    async def run() -> Any:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(30)
        with theirs:
            async with asyncio.timeout(20):
                return await script(WebSocket(Hijacked(ours.detach(), pending), text=text), theirs)

    return asyncio.run(run())


async def received(server: WebSocket) -> list[bytes]:
    return [data async for data in server.receive()]


def test_the_handshake_of_the_rfc() -> None:
    assert websocket.refusal(HANDSHAKE) is None
    assert websocket.head(HANDSHAKE) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    one = websocket.head({**HANDSHAKE, "sec-websocket-protocol": "tty"})
    assert one.endswith(b"\r\nSec-WebSocket-Protocol: tty\r\n\r\n")
    assert b"Protocol:" not in websocket.head({**HANDSHAKE, "sec-websocket-protocol": "a, b"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"upgrade": "tcp"}, "not websocket protocol"),
        ({"connection": "keep-alive"}, "not websocket protocol"),
        ({"sec-websocket-version": "8"}, "missing or bad WebSocket Version"),
        ({"sec-websocket-version": ""}, "missing or bad WebSocket Version"),
        ({"sec-websocket-key": ""}, "mismatch challenge/response"),
        ({"sec-websocket-key": base64.b64encode(b"short").decode()}, "mismatch challenge/response"),
        ({"sec-websocket-key": "\xff" * 24}, "mismatch challenge/response"),
    ],
)
def test_what_is_no_handshake_is_refused(change: dict[str, str], words: str) -> None:
    answer = websocket.refusal({**HANDSHAKE, **change})
    assert answer is not None and isinstance(answer.body, bytes)
    assert answer.status == 400 and words in answer.body.decode()
    assert answer.headers.get("Sec-WebSocket-Version") == ("13" if "Version" in words else None)


def test_text_binary_and_fragments_are_bytes_and_pings_are_answered_between_them() -> None:
    async def script(server: WebSocket, client: socket.socket) -> None:
        # "é" is cut in two, with a ping between the halves.
        client.sendall(frame(TEXT, b"a\xc3", fin=False) + frame(PING, b"hi") + frame(0, b"\xa9") + frame(PONG, b"?"))
        client.sendall(frame(CLOSE, struct.pack(">H", 1000) + b"bye"))
        assert b"".join(await received(server)) == b"\xffpendinga\xc3\xa9"
        assert client.recv(100) == b"\x8a\x02hi"
        assert (server.open, server.there) == (False, True)
        closing = asyncio.ensure_future(server.close())
        await asyncio.sleep(0)
        assert await asyncio.to_thread(client.recv, 100) == b"\x88\x05\x03\xe8bye"
        client.close()
        await closing

    serve(script, pending=frame(BINARY, b"\xffpending"))


@pytest.mark.parametrize(("text", "opcode", "sent"), [(False, 0x82, b"\xc3\xa9\xff"), (True, 0x81, "é\ufffd".encode())])
def test_output_is_binary_or_valid_text(text: bool, opcode: int, sent: bytes) -> None:
    async def script(server: WebSocket, client: socket.socket) -> None:
        for part in (b"\xc3", b"\xa9\xff"):
            await server.send(part)
        data = client.recv(100)
        found = b""
        while data:
            assert data[0] == opcode
            found, data = found + data[2 : 2 + data[1]], data[2 + data[1] :]
        assert found == sent
        server.abandon()
        assert client.recv(100) == b"\x88\x02\x03\xe9"

    serve(script, text=text)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"a", masked=False), 1002),
        (frame(0x72, b"a"), 1002),
        (frame(3, b"a"), 1002),
        (frame(PING, b"a" * 126), 1002),
        (frame(PING, b"a", fin=False), 1002),
        (frame(BINARY, b"", says=(1 << 64) - 1), 1002),
        (frame(0, b"a"), 1002),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, struct.pack(">H", 1005)), 1002),
        (frame(CLOSE, struct.pack(">H", 1000) + b"\xff"), 1007),
    ],
)
def test_what_breaks_the_rules_ends_the_connection_with_its_code(data: bytes, code: int) -> None:
    async def script(server: WebSocket, client: socket.socket) -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        await received(server)
        assert (server.open, server.there) == (False, False)
        await server.close()
        answer = client.recv(200)
        assert (answer[0], struct.unpack(">H", answer[2:4])[0]) == (0x88, code)
        assert client.recv(1) == b""

    serve(script)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_without_end_takes_no_memory(opcode: int) -> None:
    size = 96 << 20

    async def script(server: WebSocket, client: socket.socket) -> int:
        def send() -> None:
            client.sendall(frame(opcode, b"", says=1 << 62)[:-4] + bytes(4))  # a mask that changes nothing
            chunk = b"\0" * (1 << 20)
            for _ in range(size >> 20):
                client.sendall(chunk)
            client.shutdown(socket.SHUT_WR)

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sending = asyncio.get_running_loop().run_in_executor(None, send)
        total = 0
        async for data in server.receive():
            total += len(data)
        await sending
        await server.close()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # KiB
        return total

    assert serve(script) == size


def test_a_client_that_leaves_without_a_word_ends_it() -> None:
    async def script(server: WebSocket, client: socket.socket) -> None:
        client.sendall(frame(BINARY, b"last") + frame(BINARY, b"half")[:-2])
        client.close()
        assert b"".join(await received(server)) == b"lastha"
        assert (server.open, server.there) == (False, False)
        with pytest.raises(ConnectionError):
            for _ in range(2):
                await server.send(b"to nobody")
        await server.close()

    serve(script)


def test_closing_waits_for_a_client_that_does_not_answer_no_longer_than_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_S", 0.1)

    async def script(server: WebSocket, client: socket.socket) -> None:
        await server.close()
        assert client.recv(100) == b"\x88\x02\x03\xe8"
        assert client.recv(100) == b""

    serve(script)


def test_nothing_follows_a_frame_that_was_cut_short() -> None:
    async def script(server: WebSocket, client: socket.socket) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.send(b"x" * (8 << 20)), 0.2)  # which the client does not read
        with pytest.raises(ConnectionError):
            await server.send(b"more")
        server.abandon()
        client.settimeout(30)
        data = b""
        while chunk := client.recv(1 << 20):
            data += chunk
        assert data[:2] == b"\x82\x7f" and data[10:].strip(b"x") == b""

    serve(script)


def test_whatever_comes_ends_in_an_answer_or_in_an_end() -> None:
    chance = random.Random(1)
    heads = [bytes([0x80 * fin | rsv << 4 | opcode]) for fin in (0, 1) for rsv in (0, 0, 0, 4) for opcode in range(16)]

    def noise() -> bytes:
        parts = []
        for _ in range(chance.randrange(1, 12)):
            size = chance.choice([0, 1, 2, 125, 126, 127])
            longer = chance.randbytes({126: 2, 127: 8}.get(size, 0))
            parts.append(chance.choice(heads) + bytes([chance.choice([0x80, 0x80, 0x80, 0]) | size]) + longer)
            parts.append(chance.randbytes(4 + chance.choice([size, 0, 3])))
        return b"".join(parts)

    codes = set()
    for _ in range(400):

        async def script(server: WebSocket, client: socket.socket) -> None:
            client.sendall(noise())
            client.shutdown(socket.SHUT_WR)
            await received(server)
            await server.close()
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
            if (at := answer.rfind(b"\x88")) >= 0:
                codes.add(int.from_bytes(answer[at + 2 : at + 4], "big"))

        data = noise()
        cut = chance.randrange(len(data))
        serve(script, pending=data[:cut])
    assert {1000, 1002} <= codes


async def fill(client: socket.socket) -> None:
    """Sends until nobody takes any more."""
    client.setblocking(False)
    data = frame(BINARY, bytes(1 << 16))
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            while sent := client.send(data):
                data = data[sent:] or frame(BINARY, bytes(1 << 16))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("reads", [False, True])
def test_a_client_that_leaves_while_its_input_is_blocked_is_noticed(
    reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach_ws, "INPUT_LEFT_S", 60.0 if reads else 0.1)

    async def script(server: WebSocket, client: socket.socket) -> None:
        ours, process = socket.socketpair()
        ours.setblocking(False)
        process.setblocking(False)
        loop = asyncio.get_running_loop()
        with ours, process:
            bridge = loop.create_task(attach_ws._bridge(server, ours, True, last_words=False))
            await fill(client)
            await asyncio.wait([bridge], timeout=0.3)
            assert not bridge.done()  # as long as the client is there it waits for the process
            client.close()
            taken = 0
            while reads and not bridge.done():  # what was sent before it left still arrives
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        taken += len(await loop.sock_recv(process, 1 << 16))
            await asyncio.wait_for(bridge, 30)
            assert taken > 1 << 17 or not reads

    serve(script)
