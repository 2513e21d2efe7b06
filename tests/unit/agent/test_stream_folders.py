"""Folders that go to another computer by streams: each stream is a session of 9p of its own, on one server."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.agent import stream_folders
from cove.agent.stream_folders import StreamFolders, Words
from cove.errors import DriverError
from cove.local import tls
from cove.transport.base import Stream
from coved.shares.pump import MARK

WAIT_S = 20.0


def message(text: bytes) -> bytes:
    return (len(text) + 4).to_bytes(4, "little") + text


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
def test_a_mark_stands_between_messages(step: int) -> None:
    said = message(b"one") + MARK + message(b"x" + MARK + MARK) + message(b"") + MARK + MARK + message(b"last")
    words, pieces = Words(), []
    for begin in range(0, len(said), step):
        pieces += [*words.of(said[begin : begin + step])]
    parts = b"|".join(b"".join(part) for part in split(pieces))
    assert parts == b"|".join([message(b"one"), message(b"x" + MARK + MARK) + message(b""), b"", message(b"last")])


def split(pieces: list[bytes | None]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    for piece in pieces:
        if piece is None:
            yield part
            part = []
        else:
            part.append(piece)
    yield part


class Near(Stream):
    """A stream whose other end is a socket."""

    def __init__(self) -> None:
        self._socket, self.far = socket.socketpair()
        self.far.settimeout(WAIT_S)

    def recv(self, size: int) -> bytes:
        return self._socket.recv(size)

    def sendall(self, data: bytes) -> None:
        self._socket.sendall(data)

    def shutdown_write(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, data
        data += more
    return data


def test_each_stream_is_a_session(tmp_path: Path) -> None:
    folders = StreamFolders(tmp_path)
    kept: list[socket.socket] = []

    def serve(end: Any) -> Any:
        kept.append(socket.socket(fileno=os.dup(end.socket)))
        kept[0].settimeout(WAIT_S)

    asyncio.run(folders.plug_stream("folder0", serve))
    server = kept[0]
    first, second = Near(), Near()
    threads = [threading.Thread(target=folders.handler("folder0"), args=(one,), daemon=True) for one in (first, second)]
    threads[0].start()
    first.far.sendall(message(b"asks"))
    assert exactly(server, len(MARK) + 8) == MARK + message(b"asks")
    server.sendall(MARK + message(b"told"))
    assert exactly(first.far, 8) == message(b"told")
    # The guest has come again; what is answered to the one before is for nobody.
    threads[1].start()
    assert exactly(server, len(MARK)) == MARK
    server.sendall(message(b"late") + MARK + message(b"new!"))
    assert exactly(second.far, 8) == message(b"new!")
    assert first.far.recv(1) == b""
    threads[0].join(WAIT_S)
    assert folders.over() == set()  # for there is a later one
    assert asyncio.run(folders.plugged()) == {"folder0"}
    asyncio.run(folders.unplug("folder0"))
    assert second.far.recv(1) == b""
    assert server.recv(1) == b""
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert folders.over() == set()  # nor of a folder that was taken away


def test_a_stream_for_a_folder_that_nobody_serves_ends(tmp_path: Path) -> None:
    near = Near()
    StreamFolders(tmp_path).handler("folder3")(near)
    assert near.far.recv(1) == b""


def test_a_server_that_inherits_no_socket_comes_to_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(stream_folders, "private_dir", lambda path: path.mkdir() or path)
    folders, served = StreamFolders(tmp_path / "keys"), threading.Event()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/ca-cert.pem").touch()  # of an agent that died while it made them
    kept: list[socket.socket] = []
    process = subprocess.Popen(["sleep", "1000"])

    def serve(end: Any) -> Any:
        def connect() -> None:
            kept.append(tls.connect(end.port, end.keys, WAIT_S))
            served.set()

        threading.Thread(target=connect, daemon=True).start()
        return process

    asyncio.run(folders.plug_stream("folder0", serve))
    assert served.wait(WAIT_S)
    kept[0].settimeout(WAIT_S)
    near = Near()
    threading.Thread(target=folders.handler("folder0"), args=(near,), daemon=True).start()
    near.far.sendall(message(b"asks"))
    assert exactly(kept[0], len(MARK) + 8) == MARK + message(b"asks")
    kept[0].sendall(MARK + message(b"told"))
    assert exactly(near.far, 8) == message(b"told")
    asyncio.run(folders.unplug("folder0"))
    assert kept[0].recv(1) == b""
    process.kill()
    process.wait(WAIT_S)


@pytest.mark.timeout(50)
def test_a_server_that_ends_at_once_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(stream_folders, "private_dir", lambda path: path.mkdir() or path)
    folders = StreamFolders(tmp_path / "keys")
    with pytest.raises(DriverError, match="the server of a folder does not connect"):
        asyncio.run(folders.plug_stream("folder0", lambda end: subprocess.Popen(["false"])))
    assert asyncio.run(folders.plugged()) == set()


def test_a_server_that_does_not_come_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(stream_folders, "private_dir", lambda path: path.mkdir() or path)
    monkeypatch.setattr(stream_folders, "CONNECTED_S", 0.1)
    started: list[subprocess.Popen[bytes]] = []

    def serve(end: Any) -> Any:
        started.append(subprocess.Popen(["sleep", "100"]))
        return started[0]

    with pytest.raises(DriverError, match="the server of a folder does not connect"):
        asyncio.run(StreamFolders(tmp_path / "keys").plug_stream("folder0", serve))
    assert started[0].returncode is not None


def test_a_stream_that_lasted_is_told_of_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_folders, "LASTING_S", 0)
    folders, told = StreamFolders(tmp_path), threading.Event()
    folders.on_over(told.set)
    kept: list[socket.socket] = []

    def serve(end: Any) -> Any:
        kept.append(socket.socket(fileno=os.dup(end.socket)))

    asyncio.run(folders.plug_stream("folder0", serve))
    near = Near()
    carrying = threading.Thread(target=folders.handler("folder0"), args=(near,), daemon=True)
    carrying.start()
    assert kept[0].recv(len(MARK)) == MARK
    near.far.close()
    assert told.wait(WAIT_S)
    assert folders.over() == {"folder0"}
    # Of one that was taken away there is nothing to tell.
    told.clear()
    near = Near()
    carrying = threading.Thread(target=folders.handler("folder0"), args=(near,), daemon=True)
    carrying.start()
    assert kept[0].recv(len(MARK)) == MARK
    asyncio.run(folders.unplug("folder0"))
    near.far.close()
    carrying.join(WAIT_S)
    assert not told.is_set() and folders.over() == set()


def test_what_is_plugged_in_when_the_connection_goes_ends(tmp_path: Path) -> None:
    folders, kept = StreamFolders(tmp_path), []

    def serve(end: Any) -> Any:
        kept.append(socket.socket(fileno=os.dup(end.socket)))
        kept[0].settimeout(WAIT_S)
        folders.close()

    with pytest.raises(DriverError, match="the connection is gone"):
        asyncio.run(folders.plug_stream("folder0", serve))
    assert kept[0].recv(1) == b""
