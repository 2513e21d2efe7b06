"""The port on the event loop: nothing is lost or reordered, nothing waits without bound, the loop does not spin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from coved.link.port import EdgePort, read_boot_id
from coved.link.protocol import encode
from coved.link.unsent import MAX_UNSENT
from open_descriptors import open_descriptors
from virtio import HostEnd


def with_port(scenario: Callable[[HostEnd, EdgePort, list[bytes], asyncio.Event], Awaitable[None]]) -> None:
    async def run() -> None:
        host = HostEnd()
        heard: list[bytes] = []
        gone = asyncio.Event()
        port = EdgePort(host.path, heard.append, gone.set)
        port.open()
        try:
            async with asyncio.timeout(60):
                await scenario(host, port, heard, gone)
        finally:
            port.close()
            host.close()

    asyncio.run(run())


def descriptors() -> int:
    return open_descriptors()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.005)


def test_what_a_slow_host_does_not_take_at_once_arrives_whole_and_in_order() -> None:
    async def scenario(host: HostEnd, port: EdgePort, heard: list[bytes], gone: asyncio.Event) -> None:
        host.pause()
        for number in range(200):
            port.write(encode({"type": "x", "number": number, "pad": "a" * 1000}))
        host.listen()
        for number in range(200):
            assert (await host.receive("x"))["number"] == number

    with_port(scenario)


def test_a_host_that_never_reads_does_not_fill_the_memory() -> None:
    async def scenario(host: HostEnd, port: EdgePort, heard: list[bytes], gone: asyncio.Event) -> None:
        host.pause()
        with pytest.raises(ConnectionError, match="does not read"):
            for _ in range(2 * MAX_UNSENT // 65536):
                port.write(b"a" * 65536)

    with_port(scenario)


def test_everything_that_came_with_one_edge_is_read() -> None:
    async def scenario(host: HostEnd, port: EdgePort, heard: list[bytes], gone: asyncio.Event) -> None:
        for _ in range(50):
            await host.send_all(b"x" * 1000)
        await until(lambda: sum(map(len, heard)) == 50_000)

    with_port(scenario)


def test_an_end_is_told_once_and_the_loop_does_not_spin() -> None:
    async def scenario(host: HostEnd, port: EdgePort, heard: list[bytes], gone: asyncio.Event) -> None:
        host.send_bytes(b"hello")
        await until(lambda: heard == [b"hello"])
        host.close()
        await gone.wait()
        gone.clear()
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.1
        assert not gone.is_set()

    with_port(scenario)


def test_a_host_that_was_never_there_has_not_gone() -> None:
    async def scenario(host: HostEnd, port: EdgePort, heard: list[bytes], gone: asyncio.Event) -> None:
        host.close()
        await asyncio.sleep(0.05)
        assert not gone.is_set()

    with_port(scenario)


def test_a_closed_port_takes_nothing() -> None:
    async def scenario(host: HostEnd, port: EdgePort, heard: list[bytes], gone: asyncio.Event) -> None:
        before = descriptors()
        port.close()
        assert descriptors() == before - 2  # the port and its epoll instance
        with pytest.raises(ConnectionError, match="is closed"):
            port.write(b"x")
        port.open()
        port.write(b"")

    with_port(scenario)


def test_a_port_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(FileNotFoundError):
            EdgePort(tmp_path / "none", lambda _: None, lambda: None).open()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "boot_id"),
    [('{"boot_id": "abc"}', "abc"), ("not JSON", ""), ('{"boot_id": 5}', ""), ("[]", ""), (None, "")],
)
def test_the_boot_id_is_the_seeds(tmp_path: Path, text: str | None, boot_id: str) -> None:
    if text is not None:
        (tmp_path / "seed").write_text(text)
    assert read_boot_id(tmp_path / "seed") == boot_id
