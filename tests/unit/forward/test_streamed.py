"""Ports that the agent has itself, and that lead into the VM by streams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cove.drivers.base import Forward
from cove.errors import PortInUse, TransportError
from cove.forward import streamed
from cove.forward.ports import free_port
from cove.forward.streamed import StreamForwards
from cove.transport.base import Stream


class SocketStream(Stream):
    def __init__(self, near: socket.socket) -> None:
        self._near = near

    def recv(self, size: int) -> bytes:
        return self._near.recv(size)

    def sendall(self, data: bytes) -> None:
        self._near.sendall(data)

    def shutdown_write(self) -> None:
        self._near.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._near.shutdown(socket.SHUT_RDWR)
        self._near.close()


class Guest:
    """What streams lead to; `behave` has the guest's end of each, in a thread."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self.opened: list[str] = []
        self.fails = False
        self._behave = behave

    def open(self, target: str) -> Stream:
        self.opened.append(target)
        if self.fails:
            raise TransportError("nobody is there")
        near, far = socket.socketpair()
        threading.Thread(target=self._run, args=(far,), daemon=True).start()
        return SocketStream(near)

    def _run(self, far: socket.socket) -> None:
        with far, contextlib.suppress(OSError):
            self._behave(far)


def echo(far: socket.socket) -> None:
    while data := far.recv(1 << 16):
        far.sendall(data.upper())


@contextlib.contextmanager
def forwarded(guest: Guest, proto: str = "tcp") -> Iterator[tuple[StreamForwards, Forward]]:
    forwards = StreamForwards(guest.open)
    one = Forward(proto, "127.0.0.1", free_port(proto, "127.0.0.1"), 4711)
    asyncio.run(forwards.forward(one))
    try:
        yield forwards, one
    finally:
        forwards.close()


def connected(one: Forward) -> socket.socket:
    return socket.create_connection((one.host_ip, one.host_port), 30)


def whole(client: socket.socket) -> bytes:
    said = b""
    while data := client.recv(1 << 16):
        said += data
    return said


def test_each_connection_is_a_stream_and_each_direction_ends_by_itself() -> None:
    guest = Guest(echo)
    with forwarded(guest) as (_, one):
        much = b"a" * 3_000_000
        with connected(one) as client, connected(one) as other:
            other.sendall(b"other")
            sending = threading.Thread(target=lambda: (client.sendall(much), client.shutdown(socket.SHUT_WR)))
            sending.start()
            assert whole(client) == much.upper()
            sending.join()
            assert other.recv(10) == b"OTHER"
    assert guest.opened == ["tcp:4711"] * 2


def test_where_nobody_is_connections_are_reset() -> None:
    guest = Guest(echo)
    guest.fails = True
    # Under Wine a reset looks like an end.
    reset = pytest.raises(ConnectionResetError) if sys.platform != "win32" else contextlib.nullcontext()
    with forwarded(guest) as (_, one), reset, connected(one) as client:
        assert client.recv(1) == b""


def test_a_client_that_goes_ends_its_stream() -> None:
    gone = threading.Event()

    def silent(far: socket.socket) -> None:
        while far.recv(1 << 16):
            pass
        gone.set()

    with forwarded(Guest(silent)) as (_, one):
        client = connected(one)
        client.sendall(b"x")
        client.close()
        assert gone.wait(60)


def test_a_client_that_reads_nothing_keeps_no_thread_when_the_guests_end_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    back, ended = streamed._back, threading.Event()

    def followed(*both: Any) -> None:
        back(*both)
        ended.set()

    class Broken(SocketStream):
        """It has said more than there is room for between it and the client, and takes nothing."""

        def recv(self, size: int) -> bytes:
            return bytes(64 << 20)

        def sendall(self, data: bytes) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(streamed, "_back", followed)
    forwards = StreamForwards(lambda target: Broken(socket.socketpair()[0]))
    one = Forward("tcp", "127.0.0.1", free_port("tcp", "127.0.0.1"), 4711)
    asyncio.run(forwards.forward(one))
    try:
        with connected(one) as client:
            assert client.recv(1) == b"\0"  # it is being said
            client.sendall(b"x")
            assert ended.wait(60)
    finally:
        forwards.close()


def test_a_port_has_so_many_connections_and_room_again_when_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "MAX_CONNECTIONS", 1)

    def is_served() -> bool:
        try:
            with connected(one) as client:
                client.sendall(b"x")
                return client.recv(1) == b"X"
        except OSError:  # as early as it connects
            return False

    with forwarded(Guest(echo)) as (_, one):
        with connected(one) as first:
            first.sendall(b"x")
            assert first.recv(1) == b"X"
            assert not is_served()
        # Nothing tells when it has ended.
        assert any(is_served() for _ in range(6000)), "no connection is taken any more"


def test_a_port_is_freed_while_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    close = streamed._Port.close

    def slow(port: Any) -> None:
        assert goes_on.wait(60)
        close(port)

    async def free(forwards: StreamForwards, one: Forward) -> None:
        freeing = asyncio.ensure_future(forwards.unforward(one))
        asyncio.get_running_loop().call_later(0, goes_on.set)
        await freeing

    with forwarded(Guest(echo)) as (forwards, one):
        monkeypatch.setattr(streamed._Port, "close", slow)
        asyncio.run(free(forwards, one))


def test_a_udp_peer_does_not_wait_for_the_stream_of_another() -> None:
    may_open, opens = threading.Event(), threading.Event()

    class Slow(Guest):
        def open(self, target: str) -> Stream:
            if not opens.is_set():
                opens.set()
                assert may_open.wait(60)
            return super().open(target)

    with (
        forwarded(Slow(datagrams), "udp") as (_, one),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as slow,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for client in (slow, other):
            client.settimeout(60)
            client.connect((one.host_ip, one.host_port))
        slow.send(b"a")
        assert opens.wait(60)
        slow.send(b"b")
        other.send(b"c")
        assert other.recv(100) == b"1:c"
        may_open.set()
        assert [slow.recv(100), slow.recv(100)] == [b"1:a", b"2:b"]


def test_a_port_that_is_taken_is_refused_and_one_that_is_freed_can_be_had() -> None:
    with forwarded(Guest(echo)) as (forwards, one):
        assert asyncio.run(forwards.forwards()) == {one}
        with pytest.raises(PortInUse):
            asyncio.run(StreamForwards(Guest(echo).open).forward(one))
        asyncio.run(forwards.unforward(one))
        asyncio.run(forwards.unforward(one))  # no error
        assert asyncio.run(forwards.forwards()) == set()
        with pytest.raises(ConnectionRefusedError):
            connected(one)
        asyncio.run(forwards.forward(one))
        with connected(one) as client:
            client.sendall(b"again")
            assert client.recv(10) == b"AGAIN"


def datagrams(far: socket.socket) -> None:
    """Answers each with how many it has heard from this peer."""
    count = 0
    while head := far.recv(2, socket.MSG_WAITALL):
        data = far.recv(*struct.unpack("!H", head), socket.MSG_WAITALL)
        count += 1
        answer = b"%d:%s" % (count, data)
        far.sendall(struct.pack("!H", len(answer)) + answer)


def peer(one: Forward) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(60)
    made.connect((one.host_ip, one.host_port))
    return made


def said(client: socket.socket, data: bytes) -> bytes:
    client.send(data)
    return client.recv(1 << 16)


def test_each_peer_of_a_udp_port_has_a_stream_by_which_answers_find_back() -> None:
    guest = Guest(datagrams)
    with forwarded(guest, "udp") as (_, one), peer(one) as first, peer(one) as second:
        assert said(first, b"a" * 1400) == b"1:" + b"a" * 1400
        assert said(second, b"b") == b"1:b"
        assert said(first, b"c") == b"2:c"
    assert guest.opened == ["udp:4711"] * 2


def test_of_too_many_peers_the_longest_silent_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "MAX_PEERS", 2)
    guest = Guest(datagrams)
    with forwarded(guest, "udp") as (_, one), contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer(one)) for _ in range(3)]
        for each in (*peers, peers[2], peers[1]):
            said(each, b"x")
        assert said(peers[0], b"x") == b"1:x"  # its stream is a new one
        assert said(peers[1], b"x") == b"3:x"


def test_a_stream_that_has_ended_is_followed_by_another() -> None:
    ended: Any = threading.Event()

    def once(far: socket.socket) -> None:
        far.recv(1)
        far.sendall(struct.pack("!H", 2) + b"ok")
        far.shutdown(socket.SHUT_WR)
        ended.set()

    guest = Guest(once)
    with forwarded(guest, "udp") as (_, one), peer(one) as client:
        assert said(client, b"x") == b"ok"
        assert ended.wait(60)
        client.settimeout(0.2)
        for _ in range(100):  # one may be lost with the stream that has ended
            with contextlib.suppress(TimeoutError):
                assert said(client, b"x") == b"ok"
                break
        else:
            pytest.fail("no other stream was opened")
