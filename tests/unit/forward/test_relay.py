"""Ports on IPv6 addresses, with real sockets on both ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cove.drivers.base import Forward
from cove.errors import DriverError, PortInUse
from cove.forward.ports import PortForwards, free_port
from coved.link.protocol import PortForward
from coved.link.relay import StreamRelay


class Near:
    """A driver whose VM is this computer: a forward is a listener of ours, which answers with what `serve` says."""

    def __init__(self, serve: Any = None) -> None:
        self.serve = serve
        self.bound: dict[Forward, Any] = {}

    async def forward(self, forward: Forward) -> None:
        if forward.proto == "udp":
            loop = asyncio.get_running_loop()
            self.bound[forward], _ = await loop.create_datagram_endpoint(
                Echo, local_addr=(forward.host_ip, forward.host_port)
            )
        else:
            self.bound[forward] = await asyncio.start_server(self.serve, forward.host_ip, forward.host_port)

    async def forwards(self) -> set[Forward]:
        return set(self.bound)

    async def unforward(self, forward: Forward) -> None:
        self.bound.pop(forward).close()


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


@contextlib.asynccontextmanager
async def published(serve: Any, proto: Any = "tcp") -> AsyncIterator[int]:
    driver: Any = Near(serve)
    ports = PortForwards(driver, "127.0.0.1")
    bound = await ports.publish(PortForward(proto, 49152, "::1"))
    assert bound.host_ip == "::1"
    assert [one.guest_port for one in driver.bound] == [49152]
    yield bound.host_port
    await ports.unpublish(bound)
    assert driver.bound == {}
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM) as free:
        free.bind(("::1", bound.host_port))


async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what it was sent, when the client has said that it was all."""
    data = await reader.read()
    writer.write(hashlib.sha256(data).hexdigest().encode())
    writer.close()


def test_bytes_pass_and_each_direction_ends_by_itself() -> None:
    async def scenario() -> None:
        async with published(digest) as port:
            data = os.urandom(5 << 20)
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write(data)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 20) == hashlib.sha256(data).hexdigest().encode()
            writer.close()

    asyncio.run(scenario())


def test_a_reset_of_one_side_becomes_one_of_the_other() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        writer.close()

    async def scenario() -> None:
        async with published(reset) as port:
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 20)
            writer.close()

    asyncio.run(scenario())


def test_a_slow_reader_holds_back_who_writes() -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
                written += 1 << 16

    async def scenario() -> None:
        async with published(flood) as port:
            with socket.create_connection(("::1", port)):
                before = -1
                while written != before:
                    before = written
                    await asyncio.sleep(0.3)
                assert 0 < written < 32 << 20  # what the kernel's buffers hold, and one of ours

    asyncio.run(scenario())


def test_datagrams_find_their_way_back_to_each_peer() -> None:
    def ask(port: int) -> None:
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) for _ in range(20)]
            for number, peer in enumerate(peers):
                peer.settimeout(10)
                peer.connect(("::1", port))
                peer.send(bytes([number]) * 100)
            for number, peer in enumerate(peers):
                assert peer.recv(65536) == bytes([number]) * 100
            for peer in peers:
                data = os.urandom(60_000)
                peer.send(data)
                assert peer.recv(65536) == data

    async def scenario() -> None:
        async with published(None, "udp") as port:
            await asyncio.to_thread(ask, port)

    asyncio.run(scenario())


def test_what_is_taken_or_nobodys_is_refused() -> None:
    driver: Any = Near(digest)

    async def scenario() -> None:
        ports = PortForwards(driver, "127.0.0.1")
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
            number = other.getsockname()[1]
            with pytest.raises(PortInUse, match=rf"\(process {os.getpid()}\) has it"):
                await ports.publish(PortForward("tcp", 49152, "::1", number))
        with pytest.raises(
            DriverError, match=r"listen tcp6 \[2001:db8::1\]:8080: bind: cannot assign requested address"
        ):
            await ports.publish(PortForward("tcp", 49152, "2001:db8::1", 8080))
        number = free_port("tcp", "::1")
        await ports.publish(PortForward("tcp", 49152, "::1", number))
        with pytest.raises(PortInUse, match="another container has it"):
            await ports.publish(PortForward("tcp", 49153, "::", number))
        await ports.sync([PortForward("tcp", 49152, "::1", number)])  # an engine's, that starts
        assert len(driver.bound) == 1
        with socket.create_connection(("::1", number)):
            pass
        await ports.sync([])
        assert driver.bound == {}

    asyncio.run(scenario())


def test_an_error_that_stays_does_not_keep_everything_else_from_being_done() -> None:
    async def scenario() -> None:
        relay = StreamRelay(socket.socket())  # which does not listen, so that accept fails with EINVAL
        relay.listener.setblocking(False)
        relay.serve("127.0.0.1", 9)
        for _ in range(100):
            await asyncio.sleep(0)
        relay.close()

    asyncio.run(scenario())
