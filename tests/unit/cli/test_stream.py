"""Frames, detach keys and the client's half of a connection, against sockets of our own."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from cove.cli.client import EngineClient, Hijacked
from cove.cli.errors import CliError, ConnectionFailed, DaemonError
from cove.cli.stream import Attached, DetachFilter, demultiplex, parse_detach_keys


def frame(kind: int, data: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("size", [1, 3, 8, 1000])
def test_frames_cut_anywhere_arrive_whole(size: int) -> None:
    stream = frame(1, b"out") + frame(2, b"err" * 100) + frame(1, b"") + frame(1, b"put")
    out, err = os.pipe(), os.pipe()
    demultiplex((stream[at : at + size] for at in range(0, len(stream), size)), {1: out[1], 2: err[1]})
    os.close(out[1])
    os.close(err[1])
    assert (os.read(out[0], 4096), os.read(err[0], 4096)) == (b"output", b"err" * 100)
    os.close(out[0])
    os.close(err[0])


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ConnectionFailed, match="unrecognized"):
        demultiplex([b"HTTP/1.1 500"], {})


def test_detach_keys() -> None:
    keys = parse_detach_keys("ctrl-p,ctrl-q")
    assert keys == b"\x10\x11"
    assert parse_detach_keys("a,ctrl-@,ctrl-\\") == b"a\x00\x1c"
    with pytest.raises(CliError, match="invalid detach keys"):
        parse_detach_keys("ctrl-")


@pytest.mark.parametrize(
    ("typed", "sent", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"a\x10", b"b"], b"a\x10b", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"a\x10", b"bc", b"\x10", b"\x11"], b"a\x10bc", True),
    ],
)
def test_the_filter_holds_back_only_what_may_become_the_keys(typed: list[bytes], sent: bytes, detached: bool) -> None:
    filter_ = DetachFilter(b"\x10\x11")
    results = [filter_.feed(data) for data in typed]
    assert b"".join(out for out, _ in results) == sent
    assert results[-1][1] is detached


def test_input_is_half_closed_and_output_still_comes() -> None:
    ours, theirs = socket.socketpair()
    stdin, stdout = os.pipe(), os.pipe()
    os.write(stdin[1], b"question")
    os.close(stdin[1])

    def answer() -> None:
        received = b""
        while data := theirs.recv(100):
            received += data
        theirs.sendall(frame(1, received + b" answered"))
        theirs.close()

    threading.Thread(target=answer, daemon=True).start()
    connection = Hijacked(ours, frame(1, b"early, "), "")
    Attached(connection, terminal=False, stdin=stdin[0], stdout=stdout[1], stderr=None).run()
    assert os.read(stdout[0], 4096) == b"early, question answered"
    for fd in (stdin[0], *stdout):
        os.close(fd)


class Swallowing(threading.Thread):
    """The other end of a connection: counts what comes and hangs up after it."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self.connection = connection
        self.digest = hashlib.sha256()
        self.start()

    def run(self) -> None:
        while data := self.connection.recv(1 << 20):
            self.digest.update(data)
        self.connection.close()


def test_what_is_piped_in_costs_next_to_nothing(tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 64
    (tmp_path / "in").write_bytes(data)
    ours, theirs = socket.socketpair()
    other = Swallowing(theirs)
    with (tmp_path / "in").open("rb") as stdin:
        begin = time.process_time()
        Attached(Hijacked(ours, b"", ""), terminal=False, stdin=stdin.fileno(), stdout=None, stderr=None).run()
        cost = time.process_time() - begin
    other.join(10)
    assert other.digest.digest() == hashlib.sha256(data).digest()
    # Byte by byte it was 6 s; half of what it is now is the test's own digest.
    assert cost < 2


def test_an_input_that_does_not_block_is_waited_for() -> None:
    ours, theirs = socket.socketpair()
    other = Swallowing(theirs)
    stdin = os.pipe()
    os.set_blocking(stdin[0], False)

    def write() -> None:
        for part in (b"one ", b"two"):
            time.sleep(0.1)
            os.write(stdin[1], part)
        os.close(stdin[1])

    threading.Thread(target=write, daemon=True).start()
    Attached(Hijacked(ours, b"", ""), terminal=False, stdin=stdin[0], stdout=None, stderr=None).run()
    other.join(10)
    assert other.digest.digest() == hashlib.sha256(b"one two").digest()
    os.close(stdin[0])


def serve(path: Path, *answers: bytes) -> None:
    """Answer the requests of one connection after another with `answers`, each closing its connection."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def work() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()
        listener.close()

    threading.Thread(target=work, daemon=True).start()


def test_errors_are_the_engines_words(tmp_path: Path) -> None:
    body = b'{"message":"No such container: x"}'
    serve(
        tmp_path / "s", b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    )
    with pytest.raises(DaemonError) as caught:
        EngineClient(tmp_path / "s").json("GET", "/containers/x/json")
    assert (caught.value.message, caught.value.code) == ("Error response from daemon: No such container: x", 404)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"not HTTP at all\r\n\r\n"]
)
def test_a_broken_answer_is_said_not_thrown(answer: bytes, tmp_path: Path) -> None:
    serve(tmp_path / "s", answer)
    with pytest.raises(ConnectionFailed):
        EngineClient(tmp_path / "s").json("GET", "/info")


def test_bytes_behind_the_head_of_a_hijack_are_kept(tmp_path: Path) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    serve(tmp_path / "s", head + b"first bytes")
    assert EngineClient(tmp_path / "s").hijack("/containers/x/attach").pending == b"first bytes"


def test_json_objects_back_to_back(tmp_path: Path) -> None:
    body = b'{"a":1}\r\n{"a":2}{"a":3}\n{"a":4}'
    serve(tmp_path / "s", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    response = EngineClient(tmp_path / "s").request("GET", "/events")
    assert [item["a"] for item in response.json_lines()] == [1, 2, 3, 4]
