"""Calls between our two sides, and with a peer that speaks plain HTTP/2 by h2 and does what it should not."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hyperframe.frame
import pytest
from coved.grpc import codec, connection, stream
from coved.grpc.call import Call
from coved.grpc.client import Channel
from coved.grpc.codec import Message
from coved.grpc.connection import STREAM_WINDOW
from coved.grpc.method import Method
from coved.grpc.server import Services
from coved.grpc.status import Code, Detail, GrpcError


@dataclass
class Bytes(Message):
    data: bytes = codec.raw(1)


ECHO = Method("/t.Test/Echo", Bytes, Bytes)
COUNT = Method("/t.Test/Count", Bytes, Bytes)
SUM = Method("/t.Test/Sum", Bytes, Bytes)
TALK = Method("/t.Test/Talk", Bytes, Bytes)
FAIL = Method("/t.Test/Fail", Bytes, Bytes)
WAIT = Method("/t.Test/Wait", Bytes, Bytes)
FLOOD = Method("/t.Test/Flood", Bytes, Bytes)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await body()

    asyncio.run(bounded())


async def pair() -> tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter], ...]:
    a, b = socket.socketpair()
    return await asyncio.open_connection(sock=a), await asyncio.open_connection(sock=b)


class Service:
    """What the tests call."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.waiting = asyncio.Event()
        self.sent = 0
        self.services = Services(lambda error: GrpcError(Code.UNKNOWN, str(error)) if str(error) == "known" else None)
        self.services.unary(ECHO, self.echo)
        self.services.stream(COUNT, self.count)
        self.services.stream(SUM, self.sum)
        self.services.stream(TALK, self.talk)
        self.services.unary(FAIL, self.fail)
        self.services.unary(WAIT, self.wait)
        self.services.stream(FLOOD, self.flood)

    async def echo(self, request: Bytes, call: Call[Bytes, Bytes]) -> Bytes:
        return Bytes(dict(call.metadata).get("x-extra", "").encode() + request.data)

    async def count(self, call: Call[Bytes, Bytes]) -> None:
        for n in range(int((await call.one()).data)):
            await call.send(Bytes(b"%d" % n))

    async def sum(self, call: Call[Bytes, Bytes]) -> None:
        total = 0
        async for message in call:
            total += len(message.data)
        await call.send(Bytes(b"%d" % total))

    async def talk(self, call: Call[Bytes, Bytes]) -> None:
        async for message in call:
            if message.data == b"bye":
                return
            await call.send(message)

    async def fail(self, request: Bytes, call: Call[Bytes, Bytes]) -> Bytes:
        if request.data == b"mistake":
            raise ValueError("nobody knows")
        if request.data == b"known":
            raise ValueError("known")
        raise GrpcError(Code.NOT_FOUND, "kein Käse\n100%", [Detail("x/y+json", b'{"a":1}')])

    async def wait(self, request: Bytes, call: Call[Bytes, Bytes]) -> Bytes:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return request

    async def flood(self, call: Call[Bytes, Bytes]) -> None:
        while True:
            await call.send(Bytes(bytes(100_000)))
            self.sent += 100_000


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Service, Channel]]:
    client, server = await pair()
    test = Service()
    task = asyncio.create_task(test.services.serve(*server, **options))
    channel = Channel(*client)
    try:
        yield test, channel
    finally:
        await channel.close()
        await task


def test_one_message_for_another() -> None:
    async def body() -> None:
        async with connected() as (_, channel):
            reply = await channel.unary(ECHO, Bytes(b"abc"), metadata=[("x-extra", "+")])
            assert reply.data == b"+abc"
            assert (await channel.unary(ECHO, Bytes())).data == b""

    run(body)


@pytest.mark.parametrize("size", [16_384, STREAM_WINDOW, 5_000_000])
def test_a_message_of_any_size(size: int) -> None:
    async def body() -> None:
        async with connected() as (_, channel):
            data = bytes(range(256)) * (size // 256)
            assert (await channel.unary(ECHO, Bytes(data))).data == data

    run(body)


def test_a_server_streams() -> None:
    async def body() -> None:
        async with connected() as (_, channel), channel.open(COUNT) as call:
            await call.send(Bytes(b"3"), end=True)
            assert dict(await call.response())["content-type"] == "application/grpc"
            assert [each.data async for each in call] == [b"0", b"1", b"2"]

    run(body)


def test_a_client_streams() -> None:
    async def body() -> None:
        async with connected() as (_, channel), channel.open(SUM) as call:
            for _ in range(200):
                await call.send(Bytes(bytes(50_000)))
            await call.end()
            assert (await call.one()).data == b"10000000"

    run(body)


def test_both_stream() -> None:
    async def body() -> None:
        async with connected() as (_, channel), channel.open(TALK) as call:
            await call.send_all(Bytes(b"%d" % n) for n in range(100))
            assert [(await call.one()).data for _ in range(100)] == [b"%d" % n for n in range(100)]
            for n in range(100):
                await call.send(Bytes(b"%d" % n))
                assert (await call.one()).data == b"%d" % n
            await call.end()
            assert await call.receive() is None

    run(body)


def test_several_senders_of_one_call_do_not_mix_their_messages() -> None:
    async def body() -> None:
        async with connected() as (_, channel), channel.open(TALK) as call:
            sizes = [1, 300_000, 2_000_000, 70_000] * 3

            async def take() -> list[bytes]:
                found: list[bytes] = []
                while len(found) < len(sizes):
                    found += [each.data for each in await call.several()]
                return found

            taking = asyncio.create_task(take())
            await asyncio.gather(*(call.send(Bytes(bytes([n]) * size)) for n, size in enumerate(sizes)))
            assert sorted(await taking) == sorted(bytes([n]) * size for n, size in enumerate(sizes))
            await call.end()
            assert await call.several() == []

    run(body)


def test_a_server_that_ends_first() -> None:
    async def body() -> None:
        async with connected() as (_, channel), channel.open(TALK) as call:
            await call.send(Bytes(b"a"))
            await call.send(Bytes(b"bye"))
            assert [each.data async for each in call] == [b"a"]
            with pytest.raises(GrpcError, match="the call has ended"):
                await call.send(Bytes(b"b"))
            await call.end()

    run(body)


def test_many_at_once() -> None:
    async def body() -> None:
        async with connected() as (_, channel):
            replies = await asyncio.gather(*(channel.unary(ECHO, Bytes(b"%d" % n * 5000)) for n in range(600)))
            assert [each.data for each in replies] == [b"%d" % n * 5000 for n in range(600)]

    run(body)


def test_errors_come_with_their_details() -> None:
    async def body() -> None:
        async with connected() as (_, channel):
            with pytest.raises(GrpcError) as caught:
                await channel.unary(FAIL, Bytes())
            assert caught.value.code == Code.NOT_FOUND
            assert caught.value.message == "kein Käse\n100%"
            assert caught.value.details == (Detail("x/y+json", b'{"a":1}'),)
            with pytest.raises(GrpcError, match=r"^known$"):
                await channel.unary(FAIL, Bytes(b"known"))

    run(body)


def test_a_mistake_of_ours_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with connected() as (_, channel):
            with pytest.raises(GrpcError, match="internal error") as caught:
                await channel.unary(FAIL, Bytes(b"mistake"))
            assert caught.value.code == Code.UNKNOWN

    with caplog.at_level(logging.ERROR):
        run(body)
    assert "nobody knows" in caplog.text


def test_what_nobody_answers() -> None:
    async def body() -> None:
        async with connected() as (_, channel):
            for path, text in [
                ("/t.Test/No", "unknown method No for service t.Test"),
                ("/t.Other/No", "unknown service t.Other"),
            ]:
                with pytest.raises(GrpcError) as caught:
                    await channel.unary(Method(path, Bytes, Bytes), Bytes())
                assert (caught.value.code, caught.value.message) == (Code.UNIMPLEMENTED, text)

    run(body)


def test_a_call_takes_its_time_at_most() -> None:
    async def body() -> None:
        async with connected() as (test, channel):
            with pytest.raises(GrpcError) as caught:
                await channel.unary(WAIT, Bytes(), timeout=0.05)
            assert caught.value.code == Code.DEADLINE_EXCEEDED
            await test.cancelled.wait()

    run(body)


def test_a_call_that_is_left_is_cancelled_there() -> None:
    async def body() -> None:
        async with connected() as (test, channel):
            task = asyncio.create_task(channel.unary(WAIT, Bytes()))
            await test.waiting.wait()
            task.cancel()
            await test.cancelled.wait()
            assert (await channel.unary(ECHO, Bytes(b"on"))).data == b"on"

    run(body)


@pytest.mark.parametrize("who", ["client", "server"])
def test_when_the_connection_is_lost_all_waiting_ends(who: str) -> None:
    async def body() -> None:
        client, server = await pair()
        test = Service()
        serving = asyncio.create_task(test.services.serve(*server))
        channel = Channel(*client)
        calls = [asyncio.create_task(channel.unary(WAIT, Bytes())) for _ in range(5)]
        await test.waiting.wait()
        (client if who == "client" else server)[1].transport.abort()
        for call in calls:
            with pytest.raises(GrpcError) as caught:
                await call
            assert caught.value.code == Code.UNAVAILABLE
        await test.cancelled.wait()
        await serving
        await channel.wait_lost()
        with pytest.raises(GrpcError):
            await channel.unary(ECHO, Bytes())
        await channel.close()

    run(body)


def test_a_server_that_is_cancelled_ends_its_calls() -> None:
    async def body() -> None:
        client, server = await pair()
        test = Service()
        serving = asyncio.create_task(test.services.serve(*server))
        channel = Channel(*client)
        call = asyncio.create_task(channel.unary(WAIT, Bytes()))
        await test.waiting.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert test.cancelled.is_set()
        with pytest.raises(GrpcError):
            await call
        await channel.close()

    run(body)


def test_who_does_not_take_messages_is_not_sent_more_and_keeps_nobody_waiting() -> None:
    async def body() -> None:
        async with connected() as (test, channel), channel.open(FLOOD) as call:
            await call.send(Bytes(), end=True)
            await call.receive()
            for n in range(20):
                assert (await channel.unary(ECHO, Bytes(b"%d" % n * 100_000))).data == b"%d" % n * 100_000
            # No more than the window, one message that waits for room, and the one that was taken.
            assert test.sent <= STREAM_WINDOW + 2 * 100_000

    run(body)


def test_messages_beyond_the_limit_are_refused() -> None:
    async def body() -> None:
        async with connected(limit=1000) as (_, channel):
            assert len((await channel.unary(ECHO, Bytes(bytes(900)))).data) == 900
            with pytest.raises(GrpcError, match=r"received message larger than max \(1004 vs. 1000\)") as caught:
                await channel.unary(ECHO, Bytes(bytes(1001)))
            assert caught.value.code == Code.RESOURCE_EXHAUSTED

    run(body)


def test_a_message_that_is_none_is_refused() -> None:
    async def body() -> None:
        @dataclass
        class Number(Message):
            data: int = codec.int64(1)

        async with connected() as (_, channel):
            with pytest.raises(GrpcError, match="failed to unmarshal") as caught:
                await channel.unary(Method(ECHO.path, Number, Bytes), Number(5))
            assert caught.value.code == Code.INTERNAL

    run(body)


def test_a_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr(stream, "STALL_S", 0.05)
        async with connected() as (_, channel), channel.open(WAIT) as call:
            with pytest.raises(GrpcError, match="takes nothing") as caught:
                while True:
                    await call.send(Bytes(bytes(500_000)))
            assert caught.value.code == Code.UNAVAILABLE

    run(body)


@pytest.mark.parametrize("settings", [None, {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 0}])
def test_a_peer_that_takes_no_calls_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, settings: dict[int, int] | None
) -> None:
    """It says nothing of how many it takes, or that it takes none."""

    async def body() -> None:
        monkeypatch.setattr(connection, "STALL_S", 0.05)
        client, (_, writer) = await pair()
        channel = Channel(*client)
        frames = hyperframe.frame.PingFrame(0, b"12345678").serialize()
        if settings is not None:
            frames = hyperframe.frame.SettingsFrame(0, settings=settings).serialize() + frames
        writer.write(frames)
        with pytest.raises(GrpcError, match="the peer takes no calls"):
            async with channel.open(TALK):
                pass
        await channel.close()
        writer.close()

    run(body)


class Peer:
    """The other side, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, client: bool) -> None:
        self.reader, self.writer = reader, writer
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.flush()
        self.events: list[h2.events.Event] = []

    def flush(self) -> None:
        self.writer.write(self.http.data_to_send())

    async def until(self, kind: type[h2.events.Event]) -> Any:
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind):
                    return event
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self.events += self.http.receive_data(data)
            self.flush()

    def request(self, path: str = ECHO.path, *, id: int = 1, **extra: str) -> None:
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
        headers.append(("content-type", "application/grpc"))
        self.http.send_headers(id, [*headers, *((name.replace("_", "-"), value) for name, value in extra.items())])

    def respond(self, id: int = 1, *, end: bool = False) -> None:
        self.http.send_headers(id, [(":status", "200"), ("content-type", "application/grpc")], end_stream=end)


def framed(data: bytes) -> bytes:
    message = Bytes(data).encode()
    return struct.pack(">BI", 0, len(message)) + message


@asynccontextmanager
async def served(pending: bytes = b"") -> AsyncIterator[tuple[Service, Peer]]:
    """A client by hand, before our server."""
    client, server = await pair()
    test = Service()
    task = asyncio.create_task(test.services.serve(*server, pending=pending))
    try:
        yield test, Peer(*client, client=True)
    finally:
        client[1].close()
        await task


@asynccontextmanager
async def calling() -> AsyncIterator[tuple[Channel, Peer]]:
    """A server by hand, for our client."""
    client, server = await pair()
    channel = Channel(*client)
    try:
        yield channel, Peer(*server, client=False)
    finally:
        server[1].close()
        await channel.close()


def test_trailers_and_then_a_reset_without_error_lose_nothing() -> None:
    async def body() -> None:
        async with calling() as (channel, peer), channel.open(TALK) as call:
            await call.send(Bytes(b"go"))
            await peer.until(h2.events.DataReceived)
            peer.respond()
            for n in range(10):
                peer.http.send_data(1, framed(b"%d" % n))
            peer.http.send_headers(1, [("grpc-status", "0")], end_stream=True)
            peer.http.reset_stream(1, h2.errors.ErrorCodes.NO_ERROR)
            peer.flush()
            assert [each.data async for each in call] == [b"%d" % n for n in range(10)]

    run(body)


def test_a_reset_in_the_middle_is_an_error() -> None:
    async def body() -> None:
        async with calling() as (channel, peer):
            call = asyncio.create_task(channel.unary(ECHO, Bytes()))
            await peer.until(h2.events.StreamEnded)
            peer.http.reset_stream(1, h2.errors.ErrorCodes.INTERNAL_ERROR)
            peer.flush()
            with pytest.raises(GrpcError, match="HTTP/2 error 2") as caught:
                await call
            assert caught.value.code == Code.INTERNAL

    run(body)


def test_a_goodbye_ends_what_is_waited_for() -> None:
    async def body() -> None:
        async with calling() as (channel, peer):
            call = asyncio.create_task(channel.unary(ECHO, Bytes()))
            await peer.until(h2.events.StreamEnded)
            peer.http.close_connection()
            peer.flush()
            with pytest.raises(GrpcError) as caught:
                await call
            assert caught.value.code == Code.UNAVAILABLE
            await channel.wait_lost()

    run(body)


@pytest.mark.parametrize(
    ("trailers", "code", "text"),
    [
        ([("grpc-status", "5"), ("grpc-message", "a%20b%zz")], 5, "a b%zz"),
        ([("grpc-status", "99")], 99, ""),
        ([("grpc-status", "-1")], Code.UNKNOWN, "malformed status"),
        ([("grpc-status", "3"), ("grpc-status-details-bin", "!!")], 3, ""),
        ([("x", "y")], Code.UNKNOWN, "without a status"),
        ([("grpc-status", "0")], Code.INTERNAL, "without a message"),
    ],
)
def test_ends_of_all_kinds(trailers: list[tuple[str, str]], code: int, text: str) -> None:
    async def body() -> None:
        async with calling() as (channel, peer):
            call = asyncio.create_task(channel.unary(ECHO, Bytes()))
            await peer.until(h2.events.StreamEnded)
            peer.respond()
            peer.http.send_headers(1, trailers, end_stream=True)
            peer.flush()
            with pytest.raises(GrpcError) as caught:
                await call
            assert caught.value.code == code
            assert text in caught.value.message

    run(body)


def test_a_server_that_is_no_grpc_server() -> None:
    async def body() -> None:
        async with calling() as (channel, peer):
            call = asyncio.create_task(channel.unary(ECHO, Bytes()))
            await peer.until(h2.events.StreamEnded)
            peer.http.send_headers(1, [(":status", "404"), ("content-type", "text/html")], end_stream=True)
            peer.flush()
            with pytest.raises(GrpcError) as caught:
                await call
            assert caught.value.code == Code.UNIMPLEMENTED

    run(body)


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 9])
def test_what_is_not_http2_ends_the_connection(junk: bytes) -> None:
    async def body() -> None:
        client, server = await pair()
        task = asyncio.create_task(Service().services.serve(*server))
        client[1].write(junk)
        await task
        client[1].close()

    run(body)


def test_bytes_that_were_read_before() -> None:
    async def body() -> None:
        client, server = await pair()
        test = Service()
        http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        http.initiate_connection()
        early = http.data_to_send()
        task = asyncio.create_task(test.services.serve(*server, pending=early))
        http.send_headers(
            1,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", ECHO.path),
                (":authority", "x"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
            ],
        )
        http.send_data(1, framed(b"hi"), end_stream=True)
        client[1].write(http.data_to_send())
        got = b""
        ended = False
        while not ended:
            for event in http.receive_data(await client[0].read(65536)):
                if isinstance(event, h2.events.DataReceived):
                    got += event.data or b""
                ended = ended or isinstance(event, h2.events.StreamEnded)
        assert got == framed(b"hi")
        client[1].close()
        await task

    run(body)


def test_a_request_that_is_cancelled_by_a_reset_after_its_end() -> None:
    async def body() -> None:
        async with served() as (test, peer):
            peer.request(WAIT.path)
            peer.http.send_data(1, framed(b""), end_stream=True)
            peer.flush()
            await test.waiting.wait()
            peer.http.reset_stream(1, h2.errors.ErrorCodes.CANCEL)
            peer.flush()
            await test.cancelled.wait()

    run(body)


def test_messages_in_pieces_of_one_byte() -> None:
    async def body() -> None:
        async with served() as (_, peer):
            peer.request()
            for byte in framed(b"abc"):
                peer.http.send_data(1, bytes([byte]))
                peer.flush()
            peer.http.end_stream(1)
            peer.flush()
            assert (await peer.until(h2.events.DataReceived)).data == framed(b"abc")
            trailers = await peer.until(h2.events.TrailersReceived)
            assert dict(trailers.headers)["grpc-status"] == "0"

    run(body)


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\x01\x00\x00\x00\x01a", "12"), (b"\x00\xff\xff\xff\xff", "8"), (b"\x00\x00\x00\x00\x05ab", "13"), (b"", "13")],
)
def test_messages_that_are_none(data: bytes, code: str) -> None:
    async def body() -> None:
        async with served() as (_, peer):
            peer.request()
            peer.http.send_data(1, data, end_stream=True)
            peer.flush()
            response = await peer.until(h2.events.ResponseReceived)
            assert dict(response.headers)["grpc-status"] == code

    run(body)


def test_a_server_that_needs_no_more_says_so() -> None:
    async def body() -> None:
        async with served() as (_, peer):
            peer.request(TALK.path)
            peer.http.send_data(1, framed(b"bye"))
            peer.flush()
            response = await peer.until(h2.events.ResponseReceived)
            assert dict(response.headers)["grpc-status"] == "0"
            assert (await peer.until(h2.events.StreamReset)).error_code == h2.errors.ErrorCodes.NO_ERROR

    run(body)


def test_deadlines_of_others_are_kept() -> None:
    async def body() -> None:
        async with served() as (test, peer):
            peer.request(WAIT.path, grpc_timeout="50000u")
            peer.http.send_data(1, framed(b""), end_stream=True)
            peer.flush()
            response = await peer.until(h2.events.ResponseReceived)
            assert dict(response.headers)["grpc-status"] == "4"
            assert test.cancelled.is_set()

    run(body)


def test_what_is_no_grpc_request() -> None:
    async def body() -> None:
        async with served() as (_, peer):
            peer.http.send_headers(
                1, [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")], end_stream=True
            )
            peer.flush()
            response = await peer.until(h2.events.ResponseReceived)
            assert dict(response.headers)["grpc-status"] == "13"

    run(body)


def spoiled(seed: int) -> bytes:
    """What a client would say, with some of it changed."""
    some = random.Random(seed)
    http = h2.connection.H2Connection(h2.config.H2Configuration())
    http.initiate_connection()
    data = bytearray(http.data_to_send())
    for id in range(1, 2 * some.randint(1, 6), 2):
        path = some.choice([ECHO.path, TALK.path, SUM.path, WAIT.path, "/x/y"])
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
        http.send_headers(id, [*headers, ("content-type", "application/grpc"), ("grpc-timeout", "100m")])
        for _ in range(some.randint(0, 4)):
            http.send_data(id, framed(bytes(some.randint(0, 2000))))
        if some.random() < 0.6:
            http.end_stream(id)
        elif some.random() < 0.5:
            http.reset_stream(id, some.randint(0, 13))
        data += http.data_to_send()
    for _ in range(some.randint(1, 8)):
        at = some.randrange(24, len(data))
        how = some.randrange(4)
        if how < 2:
            data[at] = some.randrange(256)
        elif how == 2:
            del data[at : at + some.randint(1, 50)]
        else:
            data[at:at] = some.randbytes(some.randint(1, 30))
    return bytes(data)


def test_whatever_a_client_says_its_connection_ends_with_it(caplog: pytest.LogCaptureFixture) -> None:
    async def one(seed: int) -> None:
        client, server = await pair()
        task = asyncio.create_task(Service().services.serve(*server))
        client[1].write(spoiled(seed))
        client[1].write_eof()
        while await client[0].read(65536):
            pass
        client[1].close()
        await task

    async def body() -> None:
        for first in range(0, 300, 20):
            await asyncio.gather(*(one(seed) for seed in range(first, first + 20)))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(body)
    assert not caplog.records


def test_pings_are_answered() -> None:
    async def body() -> None:
        async with served() as (_, peer):
            peer.http.ping(b"12345678")
            peer.flush()
            assert (await peer.until(h2.events.PingAckReceived)).ping_data == b"12345678"

    run(body)
