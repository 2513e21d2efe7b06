"""The sockets of a server, and forwarding, over this computer's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, ParamSpec

import pytest
from coved.names import forwarding, message
from coved.names import server as serving
from coved.names.message import Query
from coved.names.responder import Responder
from coved.names.server import Server

P = ParamSpec("P")


def in_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """A test that needs an event loop, in one of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


WEB = b"\x0a\0\0\x02"


class View:
    forwards = True
    dotless = True

    def addresses(self, name: str) -> Sequence[bytes] | None:
        return {"web": [WEB], "many": [bytes((10, 0, n // 256, n % 256)) for n in range(300)]}.get(name)

    def name_of(self, address: str) -> str:
        return ""


def query(name: str, id: int = 7) -> bytes:
    encoded = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"
    return struct.pack("!HHHHHH", id, 0x0100, 1, 0, 0, 0) + encoded + struct.pack("!HH", 1, 1)


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


class Client:
    """Sockets of one who asks, and the server that is asked."""

    def __init__(self, server: Server, udp: socket.socket, address: tuple[str, int]) -> None:
        self.server = server
        self.udp = udp
        self.address = address

    async def ask(self, name: str) -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.udp, query(name))
        async with asyncio.timeout(30):
            return await loop.sock_recv(self.udp, 65535)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)


Forward = Callable[[Query, bool], Awaitable[bytes]]


async def nobody(query: Query, by_tcp: bool) -> bytes:
    return message.failure(query, message.NO_DOMAIN)


@contextlib.asynccontextmanager
async def served(forward: Forward = nobody) -> AsyncIterator[Client]:
    udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
    for one in (udp, tcp):
        one.bind(("127.0.0.1", 0))
        one.setblocking(False)
    tcp.listen(64)
    client = socket.socket(type=socket.SOCK_DGRAM)
    client.setblocking(False)
    client.connect(udp.getsockname())
    address = tcp.getsockname()
    server = Server(udp, tcp, Responder(View()), forward)
    try:
        yield Client(server, client, address)
    finally:
        server.close()
        client.close()


async def reply(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(30):
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)


@in_a_loop
async def test_datagrams_and_streams_are_answered() -> None:
    async with served() as client:
        assert (await client.ask("web")).endswith(WEB)
        short = await client.ask("many")
        assert len(short) <= 512
        assert short[2] & 2
        reader, writer = await client.connect()
        writer.write(framed(query("many")) + framed(query("nosuch")) + framed(query("web"))[:5])
        assert len(await reply(reader)) > 300 * 16
        assert message.code(await reply(reader)) == message.NO_DOMAIN
        writer.write(framed(query("web"))[5:])
        assert (await reply(reader)).endswith(WEB)
        writer.close()


@in_a_loop
async def test_rubbish_is_refused_or_left_and_others_are_answered() -> None:
    async with served() as client:
        loop = asyncio.get_running_loop()
        for rubbish in (b"", b"x", b"\0" * 12, query("web")[:-1], b"\xff" * 4000):
            await loop.sock_sendall(client.udp, rubbish)
        codes = set()
        for _ in range(2):
            codes.add(message.code(await loop.sock_recv(client.udp, 100)))
        assert codes == {message.FORMAT_ERROR}
        assert (await client.ask("web")).endswith(WEB)
        for rubbish in (b"\xff\xff" + b"x" * 70000, b"\0\0", b"\0\1x", framed(query("web")[:1])):
            reader, writer = await client.connect()
            writer.write(rubbish)
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):  # of what it has not read
                said = await reader.read()
                assert said == b"" or message.code(said[2:]) == message.FORMAT_ERROR
            writer.close()


@in_a_loop
async def test_a_client_that_hangs_up_or_never_reads_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IDLE_S", 0.2)
    async with served() as client:
        reader, writer = await client.connect()
        assert await reader.read() == b""  # it has said nothing
        writer.close()
        _, writer = await client.connect()
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        try:
            async with asyncio.timeout(20):
                while True:
                    writer.write(framed(query("many")) * 100)
                    await writer.drain()
        except OSError as error:
            assert not isinstance(error, TimeoutError)


@in_a_loop
async def test_a_client_that_always_has_more_to_say_leaves_others_their_turn() -> None:
    async with served() as client:
        reader, writer = await client.connect()

        async def talk() -> None:
            while True:
                writer.write(framed(query("web")) * 1000)
                await writer.drain()

        async def listen() -> None:
            while await reader.read(1 << 20):
                pass

        talking = [asyncio.create_task(talk()), asyncio.create_task(listen())]
        for _ in range(20):
            assert (await client.ask("web")).endswith(WEB)
        assert not any(task.done() for task in talking)
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        writer.close()


@in_a_loop
async def test_as_many_connections_as_are_allowed_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS", 2)
    async with served() as client:
        made = [await client.connect() for _ in range(4)]
        for _, writer in made:
            writer.write(framed(query("web")))
        for reader, _ in made[:2]:
            assert (await reply(reader)).endswith(WEB)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made[2][0].read(1), 0.2)
        for _, writer in made[:2]:
            writer.close()
        for reader, _ in made[2:]:
            assert (await reader.readexactly(1)) == b"\0"


@in_a_loop
async def test_what_is_asked_elsewhere_is_bounded_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "FORWARDED", 2)
    gate = asyncio.Event()

    async def slow(query: Query, by_tcp: bool) -> bytes:
        await gate.wait()
        if query.name == "bad":
            raise RuntimeError("a mistake of ours")
        return message.failure(query, message.NO_DOMAIN)

    async with served(slow) as client:
        loop = asyncio.get_running_loop()
        for name in ("first", "bad"):
            await loop.sock_sendall(client.udp, query(name))
        assert message.code(await client.ask("third")) == message.REFUSED
        assert (await client.ask("web")).endswith(WEB)
        gate.set()
        codes = {message.code(await loop.sock_recv(client.udp, 100)) for _ in range(2)}
        assert codes == {message.NO_DOMAIN, message.SERVER_FAILURE}


# -- forwarding


class Upstream(asyncio.DatagramProtocol):
    """Answers as it is told: with what ``answer`` makes of a query, several datagrams maybe."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self.answer = answer
        self.asked: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, client: Any) -> None:
        self.asked.append(data)
        for one in self.answer(data):
            self.transport.sendto(one, client)


def said(data: bytes, code: int, id: int | None = None) -> bytes:
    """A reply with this code to the query."""
    return (data[:2] if id is None else id.to_bytes(2, "big")) + bytes((0x81, 0x80 | code)) + data[4:]


def _itself(upstream: Upstream) -> Upstream:
    return upstream


async def plain(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(family, kind)
    made.setblocking(False)
    return made


@contextlib.asynccontextmanager
async def upstreams(
    monkeypatch: pytest.MonkeyPatch, *answers: Callable[[bytes], list[bytes]]
) -> AsyncIterator[tuple[list[Upstream], list[forwarding.Server]]]:
    """Servers at 127.0.0.1, 127.0.0.2, ..., on one port."""
    made: list[Upstream] = []
    port = 0
    for number, answer in enumerate(answers, 1):
        upstream = Upstream(answer)
        await asyncio.get_running_loop().create_datagram_endpoint(
            functools.partial(_itself, upstream), local_addr=(f"127.0.0.{number}", port)
        )
        port = upstream.transport.get_extra_info("sockname")[1]
        made.append(upstream)
    monkeypatch.setattr(forwarding, "_PORT", port)
    yield made, [forwarding.Server(f"127.0.0.{number}", plain) for number in range(1, len(made) + 1)]
    for upstream in made:
        upstream.transport.close()


@in_a_loop
async def test_the_first_server_that_knows_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = message.parse(query("Example.com", id=1234))
    fails = [lambda data: [said(data, message.SERVER_FAILURE)], lambda data: [said(data, message.REFUSED)]]
    knows = lambda data: [said(data, message.NO_DOMAIN)]  # noqa: E731
    async with upstreams(monkeypatch, *fails, knows) as (made, servers):
        found = await forwarding.ask(asked, servers, by_tcp=False)
        assert (found[:2], message.code(found)) == ((1234).to_bytes(2, "big"), message.NO_DOMAIN)
        assert all(one.asked[0][12:] == asked.question for one in made)
        found = await forwarding.ask(asked, servers[:2], by_tcp=False)
        assert message.code(found) == message.REFUSED


@in_a_loop
async def test_what_does_not_belong_to_the_query_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = message.parse(query("example.com"))

    def spoofed(data: bytes) -> list[bytes]:
        other = said(data, 0, id=int.from_bytes(data[:2], "big") ^ 1)
        return [other, said(data.replace(b"example", b"exbmple"), 0), b"", b"x", data, said(data, message.NO_DOMAIN)]

    async with upstreams(monkeypatch, spoofed) as (_, servers):
        found = await forwarding.ask(asked, servers, by_tcp=False)
        assert message.code(found) == message.NO_DOMAIN


@in_a_loop
async def test_silence_is_a_server_failure_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "PATIENCE_S", 0.4)
    asked = message.parse(query("example.com"))
    async with upstreams(monkeypatch, lambda data: [], lambda data: []) as (made, servers):
        started = time.monotonic()
        found = await forwarding.ask(asked, servers, by_tcp=False)
        assert message.code(found) == message.SERVER_FAILURE
        assert time.monotonic() - started > 0.3
        assert [len(one.asked) for one in made] == [1, 1]
    monkeypatch.setattr(forwarding, "PATIENCE_S", 200.0)
    async with asyncio.timeout(60):
        found = await forwarding.ask(asked, servers, by_tcp=False)  # nobody is there: the kernel says so at once
    assert message.code(found) == message.SERVER_FAILURE
    assert message.code(await forwarding.ask(asked, [], by_tcp=False)) == message.SERVER_FAILURE


@in_a_loop
async def test_a_silent_server_has_a_head_start_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "HEAD_START_S", 0.1)
    monkeypatch.setattr(forwarding, "PATIENCE_S", 200.0)
    asked = message.parse(query("example.com"))
    async with upstreams(monkeypatch, lambda data: [], lambda data: [said(data, message.NO_DOMAIN)]) as (made, servers):
        started = time.monotonic()
        assert message.code(await forwarding.ask(asked, servers, by_tcp=False)) == message.NO_DOMAIN
        assert time.monotonic() - started >= 0.1
        assert [len(one.asked) for one in made] == [1, 1]
        monkeypatch.setattr(forwarding, "HEAD_START_S", 60.0)
        assert message.code(await forwarding.ask(asked, servers[::-1], by_tcp=False)) == message.NO_DOMAIN
        assert [len(one.asked) for one in made] == [1, 2]


@in_a_loop
async def test_streams_are_asked_by_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = message.parse(query("example.com"))
    large = b"\0" * 60000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reply(reader)
        writer.write(framed(said(data, 0) + large))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        monkeypatch.setattr(forwarding, "_PORT", server.sockets[0].getsockname()[1])
        found = await forwarding.ask(asked, [forwarding.Server("127.0.0.1", plain)], by_tcp=True)
        assert found.endswith(large)


def test_servers_that_can_be_asked() -> None:
    given = ["127.0.0.11", "10.0.0.1", "fe80::1%eth0", "nonsense", "", "127.0.0.53"]
    assert forwarding.usable(given) == ["10.0.0.1", "fe80::1%eth0", "127.0.0.53"]
    assert [one for one in forwarding.usable(given) if forwarding.is_loopback(one)] == ["127.0.0.53"]
