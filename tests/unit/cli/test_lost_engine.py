"""The engine goes away while a command works with it: the words, the status, and what is asked once more."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cove.cli.client import EngineClient
from told_engine import COVE

ID = "ab" * 32
HIJACKED = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n\x01\0\0\0\0\0\0\x03hi\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTAINER = {"Id": ID, "State": {"Running": True, "Paused": False, "Restarting": False}}
CONTAINER |= {"Config": {"Tty": False, "OpenStdin": False}, "HostConfig": {"AutoRemove": False}}


def answer(value: object) -> bytes:
    data = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)


class Engine:
    """Answers by `answers`, "METHOD /path" -> bytes; what it has no answer to (or None) it ends the connection over."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, bytes | Callable[[], bytes | None]] = {}
        self.asked: list[str] = []
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                length = 0
                while (head := stream.readline()).strip():
                    if head.lower().startswith(b"content-length:"):
                        length = int(head.split(b":")[1])
                stream.read(length)
                method, target, _ = line.decode().split()
                request = f"{method} {target.partition('?')[0]}"
                self.asked.append(request)
                told = self.answers.get(request)
                told = told() if callable(told) else told
                if told is None:
                    break
                connection.sendall(told)
                if told in (HIJACKED, ENDLESS):
                    break
            connection.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """End all connections, as an engine does that is killed; another takes the next ones."""
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended already

    def close(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        self._listener.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "e.sock")
    yield made
    made.close()


def cove(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COVE_HOST": f"unix://{tmp_path}/e.sock"}
    return subprocess.run(
        [*COVE, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20
    )


def told_exec(engine: Engine) -> None:
    engine.answers |= {
        "GET /containers/c/json": answer(CONTAINER),
        "POST /containers/c/exec": answer({"Id": "e1"}),
        "POST /exec/e1/start": HIJACKED,
    }


def test_an_exec_asks_the_next_engine_how_it_ended(engine: Engine, tmp_path: Path) -> None:
    told_exec(engine)
    # The connection that is kept ends over the question itself, the next one has the answer.
    answers = iter([None, answer({"ExitCode": 7})])
    engine.answers["GET /exec/e1/json"] = lambda: next(answers)
    done = cove(tmp_path, "exec", "c", "x")
    assert (done.returncode, done.stdout, done.stderr) == (7, "hi\n", "")
    assert engine.asked.count("GET /exec/e1/json") == 2


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            answer({"Running": True, "ExitCode": None}),
            "the connection to the command has ended, and the command has not",
        ),
        (
            answer({"message": "No such exec instance: e1"}).replace(b"200 OK", b"404 Not Found"),
            "Error response from daemon: No such exec instance: e1",
        ),
    ],
)
def test_an_exec_whose_end_nobody_knows_is_no_success(engine: Engine, tmp_path: Path, told: bytes, words: str) -> None:
    told_exec(engine)
    engine.answers["GET /exec/e1/json"] = told
    done = cove(tmp_path, "exec", "c", "x")
    assert (done.returncode, done.stdout) == (255, "hi\n")
    assert done.stderr.startswith(f"{words}\n")
    assert "how the command ended is not known" in done.stderr


def test_what_changes_something_is_asked_once(engine: Engine, tmp_path: Path) -> None:
    told_exec(engine)
    del engine.answers["POST /containers/c/exec"]
    done = cove(tmp_path, "exec", "c", "x")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"the engine at {tmp_path}/e.sock closed the connection\n      see whether it still runs"
    )
    assert engine.asked == ["GET /containers/c/json", "POST /containers/c/exec"]


def test_a_connection_that_has_ended_is_not_used_again(engine: Engine, tmp_path: Path) -> None:
    engine.answers["POST /containers/a/start"] = answer({})
    engine.answers["POST /containers/b/start"] = answer({})
    client = EngineClient(tmp_path / "e.sock")
    client.json("POST", "/containers/a/start")
    engine.drop()
    client.json("POST", "/containers/b/start")
    assert engine.asked == ["POST /containers/a/start", "POST /containers/b/start"]


def test_an_exec_whose_engine_is_lost_ends_as_dockers(engine: Engine, tmp_path: Path) -> None:
    told_exec(engine)
    done = cove(tmp_path, "exec", "c", "x")
    assert (done.returncode, done.stdout) == (255, "hi\n")
    assert done.stderr.startswith(f"the engine at {tmp_path}/e.sock closed the connection\n")
    assert "it may run on in the container c: cove top c shows it" in done.stderr
    for internal in ("ConnectionClosed", "Errno", "role="):
        assert internal not in done.stderr


@pytest.mark.parametrize(
    ("words", "name", "status"),
    [
        (["run", "x"], ID[:12], 125),
        (["run", "--name", "web", "x"], "web", 125),
        (["start", "-a", "c"], "c", 125),
        (["attach", "c"], "c", 1),
    ],
)
def test_whoever_holds_a_container_says_that_it_may_go_on(
    engine: Engine, tmp_path: Path, words: list[str], name: str, status: int
) -> None:
    for path in (f"/containers/{ID}", "/containers/c"):
        engine.answers |= {
            f"GET {path}/json": answer(CONTAINER), f"POST {path}/attach": HIJACKED,
            f"POST {path}/wait": ENDLESS, f"POST {path}/start": answer({}),
        }  # fmt: skip
    engine.answers["POST /containers/create"] = answer({"Id": ID})
    done = cove(tmp_path, *words)
    assert (done.returncode, done.stdout) == (status, "hi\n")
    assert done.stderr.startswith(
        "error waiting for container: the engine closed the connection in the middle of an answer\n"
    )
    assert f"the container {name} may run on: cove ps -a shows it" in done.stderr


def test_what_is_no_engine_is_told_so(engine: Engine, tmp_path: Path) -> None:
    engine.answers["GET /containers/c/json"] = b"SSH-2.0-OpenSSH\r\n\r\n"
    done = cove(tmp_path, "container", "inspect", "c")
    assert done.returncode == 1
    assert f"what answers at {tmp_path}/e.sock is not a Docker engine" in done.stderr
