"""Streams over a serial port: flow control, greetings, and a guest that says what it must not."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cove.errors import TransportError
from cove.local.sockets import connect, listen
from cove.transport.serial import SerialTransport
from coved.streams.frames import (
    CREDIT,
    DATA,
    HELLO,
    MAX_DATA,
    OPEN,
    OPENED,
    WINDOW,
    Frame,
    FrameDecoder,
    FrameError,
    frame,
)


def whole(stream: Any) -> bytes:
    parts = []
    while data := stream.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def test_frames_survive_any_cut() -> None:
    sent = [Frame(DATA, 7, os.urandom(MAX_DATA)), Frame(OPENED, 1 << 31, b""), Frame(HELLO, 0, b"x" * 16)]
    wire = b"".join(frame(*one) for one in sent)
    for step in (1, 7, 4096, len(wire)):
        decoder, got = FrameDecoder(), []
        for begin in range(0, len(wire), step):
            got += decoder.feed(wire[begin : begin + step])
        assert got == sent


@pytest.mark.parametrize("wire", [b"\x09\0\0\0\1\0\0", frame(DATA, 1)[:5] + b"\xff\xff"])
def test_what_is_no_frame_is_refused(wire: bytes) -> None:
    with pytest.raises(FrameError):
        FrameDecoder().feed(wire)


def test_a_stream_that_nobody_reads_holds_up_no_other(serial_way: Any) -> None:
    def flood_or_echo(client: socket.socket) -> None:
        if client.recv(1) == b"f":
            client.sendall(bytes(4 * WINDOW))
        while data := client.recv(1 << 16):
            client.sendall(data)

    serial_way.serve(flood_or_echo)
    transport = serial_way.transport()
    flooded, quick = transport.open_stream(serial_way.target), transport.open_stream(serial_way.target)
    flooded.sendall(b"f")
    quick.sendall(b"e")
    for number in range(20):
        quick.sendall(b"%02d" % number)
        assert quick.recv(2) == b"%02d" % number
    flooded.shutdown_write()
    assert len(whole(flooded)) == 4 * WINDOW
    transport.close()


def test_a_guest_that_takes_nothing_makes_the_sender_wait(serial_way: Any) -> None:
    taken = threading.Event()
    got: list[int] = []

    def slow(client: socket.socket) -> None:
        taken.wait(10)
        while data := client.recv(1 << 16):
            got.append(len(data))
        client.sendall(b"done")

    serial_way.serve(slow)
    transport = serial_way.transport()
    stream = transport.open_stream(serial_way.target)
    sent = threading.Event()

    def send() -> None:
        stream.sendall(bytes(8 * WINDOW))
        stream.shutdown_write()
        sent.set()

    threading.Thread(target=send, daemon=True).start()
    assert not sent.wait(0.3)
    taken.set()
    assert whole(stream) == b"done"
    assert sum(got) == 8 * WINDOW
    transport.close()


def test_what_was_said_before_a_close_still_arrives(serial_way: Any) -> None:
    got = b""
    ended = threading.Event()

    def listen_late(client: socket.socket) -> None:
        nonlocal got
        time.sleep(0.2)
        while data := client.recv(1 << 16):
            got += data
        ended.set()

    serial_way.serve(listen_late)
    transport = serial_way.transport()
    stream = transport.open_stream(serial_way.target)
    stream.sendall(b"x" * WINDOW)
    stream.close()
    assert ended.wait(10)
    assert len(got) == WINDOW
    transport.close()


@pytest.mark.parametrize("cut", [1, 6, 7, 20])
def test_a_guest_that_was_left_amid_a_frame_hears_the_next_greeting(
    cut: int, serial_way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cove.transport.serial.HELLO_TIMEOUT_S", 1.0)
    serial_way.serve(lambda client: client.sendall(client.recv(9)))
    serial_way.guest.hear(frame(DATA, 1, os.urandom(MAX_DATA))[:cut])  # of an agent that was killed
    transport = serial_way.transport()
    stream = transport.open_stream(serial_way.target)
    stream.sendall(b"hello")
    assert stream.recv(9) == b"hello"
    transport.close()


def test_a_farewell_leaves_no_frame_half_on_its_way(serial_way: Any) -> None:
    serial_way.serve(lambda client: client.sendall(client.recv(9)))
    transport = serial_way.transport()
    old = transport.open_stream(serial_way.target)
    transport.disconnect()
    with pytest.raises(OSError, match="broke"):
        old.recv(1)
    stream = transport.open_stream(serial_way.target)
    stream.sendall(b"again")
    assert stream.recv(9) == b"again"
    transport.close()


def test_nobody_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no connection into the machine"):
        SerialTransport(partial(connect, tmp_path / "streams.sock")).connect()


def test_a_guest_that_never_answers_is_an_error_in_time(serial_way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cove.transport.serial.HELLO_TIMEOUT_S", 0.2)
    monkeypatch.setattr("cove.transport.serial.CONNECT_TIMEOUT_S", 0.5)
    serial_way.guest.pause()
    with pytest.raises(TransportError, match="does not answer"):
        serial_way.transport().connect()


@pytest.mark.parametrize(
    "wire",
    [
        b"\xff" * 64,
        b"".join(frame(DATA, 1, bytes(MAX_DATA)) for _ in range(WINDOW // MAX_DATA + 2)),
        frame(CREDIT, 1, b"\xff\xff\xff\xff"),
        frame(CREDIT, 1, b"x"),
    ],
    ids=["no frame", "more than there is room for", "credit for what was not sent", "no credit"],
)
def test_a_guest_that_breaks_the_rules_is_cut_off(wire: bytes, tmp_path: Path) -> None:
    with listen(tmp_path / "s.sock", 4) as listener:

        def guest() -> None:
            with listener.accept()[0] as client:
                decoder = FrameDecoder()
                with contextlib.suppress(OSError):
                    while data := client.recv(1 << 16):
                        for one in decoder.feed(data):
                            if one.kind == HELLO:
                                client.sendall(frame(HELLO, 0, one.payload))
                            elif one.kind == OPEN:
                                client.sendall(frame(OPENED, one.stream))
                            else:
                                client.sendall(wire)

        threading.Thread(target=guest, daemon=True).start()
        transport = SerialTransport(partial(connect, tmp_path / "s.sock"))
        stream = transport.open_stream("/run/docker.sock")
        stream.sendall(b"GET /_ping")
        with pytest.raises(OSError, match="broke"):
            while stream.recv(1):
                pass
        transport.close()


def test_a_machine_that_cuts_every_connection_is_tried_twice(tmp_path: Path) -> None:
    greetings = 0
    with listen(tmp_path / "s.sock", 4) as listener:

        def guest() -> None:
            nonlocal greetings
            with contextlib.suppress(OSError):  # the listener is closed at the end
                while True:
                    with listener.accept()[0] as client:
                        client.sendall(client.recv(1 << 16).lstrip(b"\0"))
                        greetings += 1
                        client.recv(1 << 16)

        threading.Thread(target=guest, daemon=True).start()
        with pytest.raises(TransportError, match="broke"):
            SerialTransport(partial(connect, tmp_path / "s.sock")).open_stream("/run/docker.sock")
        assert greetings == 2
