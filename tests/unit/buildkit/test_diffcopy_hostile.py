"""Clients that do not keep to the protocol of DiffCopy."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from coved.buildkit import diffcopy
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
from coved.grpc.server import Services
from coved.grpc.status import Code, GrpcError

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
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    async def body(call: Call[Packet, Packet]) -> None:
        await diffcopy.receive(call, tmp_path / "tree", tmp_path / "spare", lambda _: None)

    try:
        asyncio.run(with_peer(handler, body))
    finally:
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


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
    monkeypatch.setattr(diffcopy, "STALL_S", 0.05)
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
        pytest.param(says(Packet(PACKET_ERR, data=b"full")), "error from receiver: full", id="error"),
        pytest.param(ends(), "early", id="nothing"),
    ],
)
def test_receivers_that_want_what_there_is_not(tmp_path: Path, handler: Says, message: str) -> None:
    (tmp_path / "f").write_text("x")

    async def body(call: Call[Packet, Packet]) -> None:
        await diffcopy.send(call, Departing(tmp_path))

    with pytest.raises((EngineError, GrpcError), match=message):
        asyncio.run(with_peer(handler, body))
