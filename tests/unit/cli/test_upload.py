"""An archive is sent while the engine tells of it already."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from told_engine import COVE

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b'{"stream": "%s"}\r\n' % (b"x" * 1000)
MANY = 3000
"""Lines that are more than the sockets between two processes hold."""
END = b"0\r\n\r\n"

Serve = Callable[[Callable[[socket.socket], None]], None]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Answers one request at tmp_path/engine.sock, whose head has been read when the given function is called."""
    running: list[threading.Thread] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "engine.sock"))
        listener.listen()
        listener.settimeout(20)

        def start(answer: Callable[[socket.socket], None]) -> None:
            def run() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(20)
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += connection.recv(1)
                    answer(connection)

            thread = threading.Thread(target=run)
            thread.start()
            running.append(thread)

        yield start
        for thread in running:
            thread.join()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def read_body(connection: socket.socket) -> bytes:
    body = b""
    with connection.makefile("rb") as stream:
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
    return body


def load(tmp_path: Path, *words: str, stdin: int | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COVE_HOST": f"unix://{tmp_path}/engine.sock"}
    return subprocess.run(
        [*COVE, "load", *words], env=environment, stdin=stdin, capture_output=True, text=True, timeout=30
    )


def test_an_engine_may_tell_more_than_fits_before_it_takes_all(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(bytes(range(256)) * 20000)
    taken: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"".join(chunk(LINE) for _ in range(MANY)))
        taken.append(read_body(connection))
        connection.sendall(chunk(b'{"stream": "done"}\n') + END)

    serve(answer)
    done = load(tmp_path, "-i", str(tmp_path / "archive"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "x" * 1000 * MANY + "done"
    assert taken == [(tmp_path / "archive").read_bytes()]


def test_an_engine_that_refuses_waits_for_nobody(serve: Serve, tmp_path: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 No\r\nContent-Length: 17\r\n\r\n" + b'{"message": "no"}')

    serve(answer)
    ours, theirs = os.pipe()  # from which nothing ever comes
    try:
        done = load(tmp_path, stdin=ours)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error response from daemon: no\n")


def test_what_cannot_be_read_is_told(serve: Serve, tmp_path: Path) -> None:
    got: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        got.append(connection.recv(100))

    serve(answer)
    done = load(tmp_path, "-i", "/proc/self/mem")  # can be opened, but has nothing at its beginning
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "read /proc/self/mem: input/output error\n")
    assert got == [b""]
