"""The link without a port: the host comes to a socket, goes, comes again; nothing is lost, nothing waits without bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from coved.link.client import LinkClient
from coved.link.protocol import FrameDecoder, Hello, encode
from coved.link.unsent import MAX_UNSENT


class Host:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._decoder = FrameDecoder()
        self._waiting: list[dict[str, Any]] = []

    def send(self, message: Any) -> None:
        self.writer.write(encode(message.to_json()))

    async def receive(self, kind: str) -> dict[str, Any]:
        while True:
            for message in [*self._waiting]:
                self._waiting.remove(message)
                if message["type"] == kind:
                    return message
            data = await self._reader.read(1 << 16)
            assert data, "the guest has hung up"
            self._waiting += self._decoder.feed(data)

    async def hung_up(self) -> None:
        while await self._reader.read(1 << 16):
            pass


async def come(door: Path) -> Host:
    return Host(*await asyncio.open_unix_connection(str(door)))


def hello() -> Hello:
    return Hello(1, time.time_ns())


def linked(folder: Path, scenario: Callable[[LinkClient, Path], Awaitable[None]]) -> None:
    async def run() -> None:
        door = folder / "link.sock"
        client = LinkClient(folder / "no-port", "1.2.3", set_clock=False, boot_id="b" * 32, door=door)
        assert not client.has_port
        await client.start()
        client.announce_ready()
        try:
            async with asyncio.timeout(60):
                await scenario(client, door)
        finally:
            await client.close()

    asyncio.run(run())


def test_the_host_is_answered_and_may_come_again(tmp_path: Path) -> None:
    async def scenario(client: LinkClient, door: Path) -> None:
        for _ in range(2):
            host = await come(door)
            host.send(hello())
            assert (await host.receive("ready"))["boot_id"] == "b" * 32
            assert client.connected
            host.writer.close()
            while client.connected:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.005)

    linked(tmp_path, scenario)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_is_the_engines_alone(tmp_path: Path) -> None:
    modes: list[int] = []

    async def scenario(client: LinkClient, door: Path) -> None:
        modes.append(mode(door))

    linked(tmp_path, scenario)
    assert modes == [0o600]


def test_the_latest_host_counts(tmp_path: Path) -> None:
    async def scenario(client: LinkClient, door: Path) -> None:
        first = await come(door)
        first.send(hello())
        await first.receive("ready")
        second = await come(door)
        await first.hung_up()
        second.send(hello())
        assert await second.receive("ready")

    linked(tmp_path, scenario)


def test_who_speaks_nonsense_is_sent_away(tmp_path: Path) -> None:
    async def scenario(client: LinkClient, door: Path) -> None:
        host = await come(door)
        host.writer.write(b"\xff" * 100)
        await host.hung_up()
        again = await come(door)
        again.send(hello())
        assert await again.receive("ready")

    linked(tmp_path, scenario)


def test_much_arrives_whole_and_without_bound_nothing_waits(tmp_path: Path) -> None:
    async def scenario(client: LinkClient, door: Path) -> None:
        host = await come(door)
        host.send(hello())
        await host.receive("ready")
        count = 40
        for _ in range(count):
            client._port.write(encode({"type": "x", "pad": "a" * 60_000}))
        for _ in range(count):
            assert len((await host.receive("x"))["pad"]) == 60_000
        with pytest.raises(ConnectionError, match="does not read"):
            for _ in range(2 * MAX_UNSENT // 65536):
                client._port.write(b"a" * 65536)

    linked(tmp_path, scenario)


def test_without_a_host_nothing_is_kept_for_one(tmp_path: Path) -> None:
    async def scenario(client: LinkClient, door: Path) -> None:
        with pytest.raises(ConnectionError, match="not there"):
            client._port.write(b"x")

    linked(tmp_path, scenario)
