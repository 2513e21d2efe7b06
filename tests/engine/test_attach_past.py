"""Attaching with what a container has said before: nothing between the log and the live stream is lost or doubled."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import pytest
import websocket

from raw_client import connect, hijack

pytestmark = [pytest.mark.root, pytest.mark.native]

# Each line comes in two pieces, so that clients come in the middle of lines, too.
COUNTER = "trap stop=1 TERM; while [ -z $stop ]; do printf $((i+=1)); echo .; [ $((i % 50)) = 0 ] && usleep 1000; done"
ALL = "logs=1&stream=1&stdout=1&stderr=1"


def attach(engine: Any, container: Any) -> socket.socket:
    answer, client = hijack(str(engine.socket), f"/containers/{container.id}/attach?{ALL}")
    assert answer.status == 101
    return client


def everything(client: socket.socket, *, tty: bool) -> bytes:
    with client, client.makefile("rb") as stream:
        return stream.read() if tty else b"".join(said(stream))


def said(stream: BinaryIO) -> Iterator[bytes]:
    """What the frames of a connection hold. Where one ends says nothing of lines: what is read together goes out together."""
    while head := stream.read(8):
        kind, size = struct.unpack(">BxxxI", head)
        assert kind == 1, "the process says nothing on stderr"
        data = stream.read(size)
        assert len(data) == size, "the connection ended within a frame"
        yield data


def raw(engine: Any, container: Any, tty: bool) -> bytes:
    return everything(attach(engine, container), tty=tty)


def by_websocket(engine: Any, container: Any, tty: bool) -> bytes:
    path = f"ws://docker/v1.51/containers/{container.id}/attach/ws?{ALL}"
    client = websocket.create_connection(path, socket=connect(str(engine.socket)), timeout=30)
    data = b""
    while (frame := client.recv_frame()).opcode != websocket.ABNF.OPCODE_CLOSE:
        data += frame.data
    client.shutdown()
    return data


@pytest.mark.parametrize(
    ("read", "options"),
    [
        (raw, {}),
        (raw, {"tty": True}),
        (raw, {"log_config": {"Type": "json-file", "Config": {"max-size": "200k", "max-file": "1000"}}}),
        (raw, {"log_config": {"Type": "local", "Config": {"max-size": "100k", "max-file": "1000"}}}),
        (by_websocket, {}),
    ],
    ids=["pipe", "terminal", "rotated", "local", "websocket"],
)
def test_every_client_has_all_that_was_said(
    engine: Any, make: Any, read: Callable[[Any, Any, bool], bytes], options: dict[str, Any]
) -> None:
    container = make("sh", "-c", COUNTER, **options)
    with ThreadPoolExecutor(20) as pool:
        seen = []
        for _ in range(20):
            seen.append(pool.submit(read, engine, container, options.get("tty", False)))
            time.sleep(random.uniform(0, 0.05))
        # All of them are attached: who comes after the end would wait for the next start.
        while attached(container) < 20:
            time.sleep(0.05)
        container.kill("TERM")
        container.wait(timeout=30)
        whole = container.logs()
        assert whole.count(b"\n") > 100
        for one in seen:
            assert one.result(30) == whole


def attached(container: Any) -> int:
    events = container.client.events(
        since=0, until=int(time.time()) + 1, filters={"container": container.id}, decode=True
    )
    return sum(event["Action"] == "attach" for event in events)


def test_a_start_while_the_past_is_sent(engine: Any, make: Any) -> None:
    container = make("sh", "-c", "echo one; usleep 2000; echo two; exec sleep 300", start=False)
    lines = b"one\ntwo\n"
    for number in range(1, 11):
        starting = threading.Timer(random.uniform(0, 0.01), container.start)
        starting.start()
        with attach(engine, container) as client, client.makefile("rb") as stream:
            frames, data = said(stream), b""
            while len(data) < len(lines) * number:
                data += next(frames)  # or else StopIteration: the connection has ended
            starting.join()
            container.kill()
            container.wait()
            assert data + b"".join(frames) == lines * number
