"""Clients that attach to a container which does not run: they wait for its start, as long as they are there."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest
from coved.containers.pending import LIMIT

from life_support import eventually
from raw_client import hijack

pytestmark = [pytest.mark.root, pytest.mark.native]

ALL = "stream=1&stdin=1&stdout=1&stderr=1"


def attach(engine: Any, container: Any) -> socket.socket:
    answer, client = hijack(str(engine.socket), f"/containers/{container.id}/attach?{ALL}")
    assert answer.status == 101
    return client


def test_a_client_that_leaves_before_the_start_leaves_no_descriptor(engine: Any, make: Any) -> None:
    container = make("echo", "hi", start=False)
    attach(engine, container).close()
    before = engine.descriptors()
    clients = [attach(engine, container) for _ in range(20)]
    assert engine.descriptors() >= before + 20
    for client in clients[1:]:
        client.close()
    eventually(lambda: engine.descriptors() <= before + 2)  # one that stays, and what watches it
    container.start()
    with clients[0] as client:
        assert client.recv(100) == b"\1\0\0\0\0\0\0\3hi\n"
        assert client.recv(100) == b""


def test_one_that_has_only_finished_writing_has_not_left(engine: Any, make: Any) -> None:
    container = make("cat", start=False, stdin_open=True)
    with attach(engine, container) as client:
        client.sendall(b"words")
        client.shutdown(socket.SHUT_WR)
        with attach(engine, container):
            pass  # its end has been noticed when the next one is answered
        attach(engine, container).close()
        container.start()
        assert client.recv(100) == b"\1\0\0\0\0\0\0\5words"


def test_no_container_has_any_number_of_clients_waiting(engine: Any, make: Any) -> None:
    container = make("echo", "hi", start=False)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(attach(engine, container)) for _ in range(LIMIT)]
        answer, refused = hijack(str(engine.socket), f"/containers/{container.id}/attach?{ALL}")
        refused.close()
        assert answer.status == 409
        assert f"{LIMIT} clients that have attached to it wait for its start" in answer.message
        clients[0].close()
        eventually(lambda: attachable(engine, container))
        container.start()
        assert clients[-1].recv(100) == b"\1\0\0\0\0\0\0\3hi\n"


def attachable(engine: Any, container: Any) -> bool:
    answer, client = hijack(str(engine.socket), f"/containers/{container.id}/attach?{ALL}")
    client.close()
    return answer.status == 101


def test_a_removal_ends_the_waiting(engine: Any, make: Any) -> None:
    container = make("echo", "hi", start=False)
    with attach(engine, container) as client:
        container.remove()
        assert client.recv(100) == b""
