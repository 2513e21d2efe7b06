"""Clients that do not keep to the protocol of DiffCopy."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from coved.buildkit import diffcopy, patience
from coved.buildkit.departing import Departing
from coved.buildkit.messages import (
    FILE_SYNC,
    PACKET_DATA,
    PACKET_ERR,
    PACKET_FIN,
    PACKET_REQ,
    PACKET_STAT,
    Packet,
    Stat,
)
from coved.errors import EngineError, Unavailable
from coved.grpc.call import Call
from coved.grpc.client import Channel
from coved.grpc.connection import STREAM_WINDOW
from coved.grpc.server import Services
from coved.grpc.status import Code, GrpcError
from open_descriptors import open_descriptors

FILE = Packet(PACKET_STAT, stat=Stat("f", 0o644, size=1, mod_time=1))
END = Packet(PACKET_STAT)
Says = Callable[[Call[Packet, Packet]], Coroutine[Any, Any, None]]


def says(*packets: Packet) -> Says:
    async def handler(call: Call[Packet, Packet]) -> None:
        for packet in packets:
            await call.send(packet)
        async for _ in call:
            pass

    return handler


def ends(*packets: Packet) -> Says:
    async def handler(call: Call[Packet, Packet]) -> None:
        for packet in packets:
            await call.send(packet)

    return handler


def says_of_a_list(*packets: Packet) -> Says:
    """Once it knows it."""

    async def handler(call: Call[Packet, Packet]) -> None:
        while (await call.one()).stat is not None:
            pass
        await says(*packets)(call)

    return handler


async def with_peer(handler: Says, body: Callable[[Call[Packet, Packet]], Coroutine[Any, Any, None]]) -> None:
    ours, theirs = socket.socketpair()
    services = Services()
    services.stream(FILE_SYNC, handler)
    serving = asyncio.create_task(services.serve(*await asyncio.open_connection(sock=theirs)))
    channel = Channel(*await asyncio.open_connection(sock=ours))
    try:
        async with asyncio.timeout(20), channel.open(FILE_SYNC) as call:
            await body(call)
    finally:
        await channel.close()
        await serving


def receive(tmp_path: Path, handler: Says) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "spare").mkdir()
    before = open_descriptors()

    async def body(call: Call[Packet, Packet]) -> None:
        await diffcopy.receive(call, tmp_path / "tree", tmp_path / "spare", lambda _: None)

    try:
        asyncio.run(with_peer(handler, body))
    finally:
        assert open_descriptors() == before


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        pytest.param(says(Packet(PACKET_DATA, data=b"x")), "invalid file request 0", id="data before all"),
        pytest.param(says(FILE, END, Packet(PACKET_DATA, id=7)), "invalid file request 7", id="data of another"),
        pytest.param(says(FILE, END, Packet(PACKET_FIN)), "ended the transfer of its files early", id="early end"),
        pytest.param(says(END, FILE), "goes on after its end", id="list after its end"),
        pytest.param(says(END, END), "goes on after its end", id="two ends"),
        pytest.param(says(Packet(PACKET_REQ)), "unexpected packet 1", id="request"),
        pytest.param(says(Packet(99)), "unexpected packet 99", id="unknown packet"),
        pytest.param(says(Packet(-1)), "unexpected packet -1", id="negative packet"),
        pytest.param(says(FILE, Packet(PACKET_ERR, data=b"cannot read")), "error from sender: cannot read", id="error"),
        pytest.param(ends(), "ended the transfer of its files early", id="nothing"),
        pytest.param(ends(FILE), "early|the call has ended", id="half a list"),
        pytest.param(
            says(FILE, END, Packet(PACKET_DATA, data=b"x"), Packet(PACKET_DATA), Packet(PACKET_DATA, data=b"y")),
            "invalid file request 0",
            id="more of a file that has ended",
        ),
    ],
)
def test_what_does_not_belong_there(tmp_path: Path, handler: Says, message: str) -> None:
    with pytest.raises((EngineError, GrpcError), match=message):
        receive(tmp_path, handler)


def test_an_error_of_the_call(tmp_path: Path) -> None:
    async def handler(call: Call[Packet, Packet]) -> None:
        await call.send(FILE)
        raise GrpcError(Code.PERMISSION_DENIED, "no")

    with pytest.raises(GrpcError, match="no"):
        receive(tmp_path, handler)


def test_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STALL_S", 0.05)
    with pytest.raises(Unavailable, match="does not answer"):
        receive(tmp_path, says(FILE))


def test_a_file_is_in_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises((EngineError, GrpcError), match=r"early|the call has ended"):
        receive(tmp_path, ends(FILE, END, Packet(PACKET_DATA, data=b"x")))
    assert not [*(tmp_path / "tree").iterdir()]


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        pytest.param(says(Packet(PACKET_REQ, id=5)), "invalid file id 5", id="a file that is none"),
        pytest.param(says(*[Packet(PACKET_REQ)] * 2), "invalid file id 0", id="a file twice"),
        pytest.param(says(Packet(PACKET_ERR, data=b"full")), "error from receiver: full", id="error"),
        pytest.param(ends(), "early|the call has ended", id="nothing"),
    ],
)
def test_receivers_that_want_what_there_is_not(tmp_path: Path, handler: Says, message: str) -> None:
    with pytest.raises((EngineError, GrpcError), match=message):
        send(tmp_path, handler)


def send(folder: Path, handler: Says) -> None:
    (folder / "f").write_text("x")

    async def body(call: Call[Packet, Packet]) -> None:
        await diffcopy.send(call, Departing(folder))

    asyncio.run(with_peer(handler, body))


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(says(), id="nothing"),
        pytest.param(says_of_a_list(Packet(PACKET_REQ)), id="a file, and no end"),
    ],
)
def test_receivers_that_say_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: Says) -> None:
    monkeypatch.setattr(patience, "STALL_S", 0.05)
    with pytest.raises(Unavailable, match="does not answer"):
        send(tmp_path, handler)


def test_a_receiver_that_is_silent_while_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing to say while a large file comes, however long that takes."""
    monkeypatch.setattr(patience, "STALL_S", 3)

    async def handler(call: Call[Packet, Packet]) -> None:
        while (await call.one()).stat is not None:
            pass
        await call.send(Packet(PACKET_REQ))
        began, size = time.monotonic(), 0
        while data := (await call.one()).data:
            size += len(data)
            await asyncio.sleep(0.8 * len(data) / STREAM_WINDOW)  # a slow disk
        assert size == 5 * STREAM_WINDOW
        assert time.monotonic() - began > 3
        await call.send(Packet(PACKET_FIN))
        async for _ in call:
            pass

    (tmp_path / "a").write_bytes(bytes(5 * STREAM_WINDOW))
    send(tmp_path, handler)
