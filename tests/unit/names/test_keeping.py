"""Sockets outlive the process that uses them."""

from __future__ import annotations

import os
import socket

import pytest
from coved.names.keeping import Keeper
from open_descriptors import open_descriptors


def bound() -> tuple[socket.socket, int]:
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made, made.getsockname()[1]


def send(port: int, data: bytes) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(data, ("127.0.0.1", port))


def taken(port: int) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def test_what_comes_while_nobody_is_there_waits_for_the_next() -> None:
    keeper = Keeper()
    read, write = os.pipe()
    if not os.fork():
        made, port = bound()
        keeper.put("web", [made])
        os.write(write, str(port).encode())
        os._exit(0)
    port = int(os.read(read, 10))
    os.wait()
    send(port, b"asked meanwhile")
    kept = keeper.take()
    (one,) = kept["web"]
    assert one.recv(100) == b"asked meanwhile"
    assert keeper.take() == {}
    one.close()
    keeper.close()


def test_what_is_let_go_of_is_closed_and_nothing_else() -> None:
    keeper = Keeper()
    ports = {}
    for number in range(100):
        one, ports[f"c{number}"] = bound()
        keeper.put(f"c{number}", [one])
        one.close()
    for number in range(0, 100, 2):
        keeper.drop(f"c{number}")
    keeper.drop("nobody")
    assert [name for name, port in ports.items() if not taken(port)] == [f"c{n}" for n in range(0, 100, 2)]
    kept = keeper.take()
    assert kept.keys() == {f"c{n}" for n in range(1, 100, 2)}
    assert all(one.getsockname()[1] == ports[name] for name, (one,) in kept.items())
    for (one,) in kept.values():
        one.close()
    keeper.close()
    assert not any(taken(port) for port in ports.values())


@pytest.mark.root
def test_a_thousand_are_kept() -> None:
    keeper = Keeper()
    before = open_descriptors()
    for number in range(1500):
        pair = [bound()[0], bound()[0]]
        keeper.put(f"{number:064x}", pair)
        for one in pair:
            one.close()
    assert open_descriptors() == before
    kept = keeper.take()
    assert len(kept) == 1500
    assert all(len(sockets) == 2 for sockets in kept.values())
    for sockets in kept.values():
        for one in sockets:
            one.close()
    keeper.close()
