"""A socket in front of a stream that is none."""

from __future__ import annotations

import queue
import socket
import threading

import pytest
from cove.forward.docker_socket import DockerSocket
from cove.local.joined import Joined, join
from cove.transport.base import Stream


class Far:
    """The other side, as a test speaks for it: bytes, b"" for "nothing more", or an error."""

    def __init__(self) -> None:
        self.says: queue.Queue[bytes | OSError] = queue.Queue()
        self.heard: queue.Queue[bytes] = queue.Queue()
        self.closed = threading.Event()

    def read(self) -> bytes:
        said = self.says.get()
        if isinstance(said, OSError):
            raise said
        return said

    def write(self, data: bytes) -> None:
        if self.closed.is_set():
            raise BrokenPipeError("closed")
        self.heard.put(data)

    def end(self) -> None:
        self.heard.put(b"")

    def close(self) -> None:
        self.closed.set()
        self.says.put(BrokenPipeError("closed"))


@pytest.fixture
def far() -> Far:
    return Far()


def test_bytes_go_both_ways_and_each_way_has_its_end(far: Far) -> None:
    near = join(far)
    near.sendall(b"question")
    assert far.heard.get(timeout=10) == b"question"
    near.shutdown(socket.SHUT_WR)
    assert far.heard.get(timeout=10) == b""
    far.says.put(b"answer")
    assert near.recv(100) == b"answer"
    assert not near.gone.is_set()
    far.says.put(b"")
    assert near.recv(100) == b""
    assert near.gone.wait(10)
    assert far.closed.wait(10)
    near.close()


def test_a_stream_that_breaks_is_a_hang_up(far: Far) -> None:
    near = join(far)
    far.says.put(b"last words")
    far.says.put(ConnectionResetError("gone"))
    assert near.gone.wait(10)
    assert near.recv(100) == b"last words"
    assert near.recv(100) == b""
    near.close()


def test_what_was_said_before_a_close_arrives(far: Far) -> None:
    near = join(far)
    near.sendall(b"bye")
    near.close()
    assert far.heard.get(timeout=10) == b"bye"
    assert far.heard.get(timeout=10) == b""
    assert far.closed.wait(10)


def test_a_file_of_it_keeps_it_open(far: Far) -> None:
    near = join(far)
    with near, near.makefile("rb") as lines:
        far.says.put(b"one\n")
        assert lines.readline() == b"one\n"
        assert not far.closed.is_set()
    assert far.closed.wait(10)


class Silent(Stream):
    """A stream to an engine that has nothing to say for now."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.closed = threading.Event()

    def recv(self, size: int) -> bytes:
        self.closed.wait()
        return b""

    def sendall(self, data: bytes) -> None: ...

    def shutdown_write(self) -> None:
        self.ended.set()

    def close(self) -> None:
        self.closed.set()


class One:
    """A listener with one client, of a kind that `poll` does not know."""

    def __init__(self, client: Joined) -> None:
        self._clients = [client]
        self._closed = threading.Event()

    def accept(self) -> tuple[socket.socket, str]:
        if self._clients:
            return self._clients.pop(), ""
        self._closed.wait()
        raise OSError("closed")

    def shutdown(self, how: int) -> None:
        self._closed.set()

    def close(self) -> None:
        self._closed.set()


def test_a_docker_client_that_only_listens_is_told_from_one_that_has_left(far: Far) -> None:
    stream = Silent()
    served = DockerSocket(One(join(far)), lambda: stream)
    served.start()
    far.says.put(b"")  # it has nothing more to say, as an exec without input
    assert stream.ended.wait(10)
    assert not stream.closed.is_set()
    far.says.put(ConnectionResetError("gone"))
    far.close()
    served.close()
    assert stream.closed.wait(10)


def _by_network() -> tuple[socket.socket, socket.socket]:
    """As Windows' Python makes a pair of sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def test_a_pair_by_the_network_serves(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socketpair", _by_network)
    with join(far) as near:
        near.sendall(b"question")
        assert far.heard.get(timeout=60) == b"question"


def test_who_has_taken_an_end_of_the_pair_hears_nothing(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    (near, theirs), (other, ours) = _by_network(), _by_network()
    monkeypatch.setattr(socket, "socketpair", lambda: (near, ours))
    with pytest.raises(OSError, match="another process"):
        join(far)
    assert far.closed.is_set()
    for sock in (theirs, other):
        sock.settimeout(60)
        assert sock.recv(1) == b""
        sock.close()
