"""Streams to ports of the guest: TCP as it is, datagrams of UDP whole, and what is nobody's."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

import pytest
from cove.errors import TransportError
from coved.networks import firewall
from coved.streams import inside


def test_a_stream_leads_to_a_port(vsock_way: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = vsock_way.transport()
        stream = transport.open_stream(f"tcp:{server.getsockname()[1]}")
        client, _ = server.accept()
        with client:
            stream.sendall(b"in" * 100_000)
            stream.shutdown_write()
            heard = b""
            while data := client.recv(1 << 16):
                heard += data
            assert heard == b"in" * 100_000
            client.sendall(b"out")
        assert stream.recv(10) == b"out"
        assert stream.recv(10) == b""
        transport.close()


def test_a_port_where_nobody_is_is_refused(vsock_way: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        transport = vsock_way.transport()
        with pytest.raises(TransportError, match="refused"):
            transport.open_stream(f"tcp:{free.getsockname()[1]}")
        transport.close()


@pytest.mark.parametrize("target", ["tcp:0", "tcp:65536", "tcp:x", "sctp:80", "tcp:-1", "tcp: 80", ""])
def test_what_is_no_port_is_refused_and_harms_no_other(vsock_way: Any, target: str) -> None:
    transport = vsock_way.transport()
    with pytest.raises(TransportError, match="neither a path nor a port"):
        transport.open_stream(target)
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport.open_stream(f"tcp:{server.getsockname()[1]}").close()
    transport.close()


def datagram(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def test_datagrams_stay_whole_however_they_are_cut(vsock_way: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        transport = vsock_way.transport()
        stream = transport.open_stream(f"udp:{server.getsockname()[1]}")
        data = datagram(b"one") + datagram(b"") + datagram(b"t" * 40_000)
        for begin in range(0, len(data), 7_001):
            stream.sendall(data[begin : begin + 7_001])
        heard = [server.recvfrom(1 << 16) for _ in range(3)]
        assert [one for one, _ in heard] == [b"one", b"", b"t" * 40_000]
        for answer in (b"u" * 60_000, b"", b"v"):
            server.sendto(answer, heard[0][1])
        wanted = datagram(b"u" * 60_000) + datagram(b"") + datagram(b"v")
        said = b""
        while len(said) < len(wanted):
            said += stream.recv(1 << 16)
        assert said == wanted
        transport.close()


def test_many_datagrams_wait_for_room_and_stay_whole(vsock_way: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        transport = vsock_way.transport()
        stream = transport.open_stream(f"udp:{server.getsockname()[1]}")
        stream.sendall(datagram(b"hello"))
        _, peer = server.recvfrom(100)
        ended = threading.Event()

        def flood() -> None:  # more than a window, of which some may be lost
            for number in range(100):
                server.sendto(struct.pack("!H", number) * 5000, peer)
            while not ended.wait(0.01):
                server.sendto(b"end", peer)

        threading.Thread(target=flood, daemon=True).start()
        rest = b""
        while True:
            rest += stream.recv(1 << 16)
            while len(rest) >= 2 and len(rest) >= 2 + (size := struct.unpack_from("!H", rest)[0]):
                one, rest = rest[2 : 2 + size], rest[2 + size :]
                if one == b"end":
                    ended.set()
                else:
                    assert len(one) == 10_000 and one == one[:2] * 5000
            if ended.is_set():
                break
        stream.close()
        transport.close()


def test_the_packet_rules_know_them() -> None:
    assert inside.MARK == firewall.STREAMS
