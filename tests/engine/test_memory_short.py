"""The engine itself gets no more memory: who asks is told so, what it keeps is kept, and it goes on as soon as there is some.

What becomes of a whole machine whose memory is used up is in tests/machine/test_memory.py.
"""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raw_client import ask, ask_json, connect

pytestmark = pytest.mark.root

LEFT_BYTES = 1 << 20
LARGE = {"Image": "busybox", "Cmd": ["true"], "Labels": {f"label{number}": "x" * 1000 for number in range(15000)}}


@contextlib.contextmanager
def short_of_memory(pid: int) -> Iterator[None]:
    """The process can have ``LEFT_BYTES`` more than it has (getrlimit(2), RLIMIT_AS)."""
    status = Path(f"/proc/{pid}/status").read_text()
    has = int(next(line for line in status.splitlines() if line.startswith("VmSize:")).split()[1]) * 1024
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    before = resource.prlimit(pid, resource.RLIMIT_AS, (has + LEFT_BYTES, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, before)


def create(path: str, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and answer. Who cannot take a request answers before it has read all of it."""
    data = json.dumps(body).encode()
    with connect(path, 60) as client:
        with contextlib.suppress(BrokenPipeError):
            client.sendall(
                f"POST /containers/create?name={name} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                + data
            )
        told = b""
        with contextlib.suppress(ConnectionResetError):
            while more := client.recv(1 << 16):
                told += more
    head, _, text = told.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(text)


def test_who_asks_for_too_much_is_told_and_all_others_are_served(own_engine: Any) -> None:
    path, pid = str(own_engine.socket), own_engine.pid
    small = {**LARGE, "Labels": {}}
    assert create(path, "before", small)[0] == 201
    with short_of_memory(pid):
        status, told = create(path, "large", LARGE)
        assert (status, told["message"].partition(":")[0]) == (500, "cannot allocate memory")
        assert create(path, "meanwhile", small)[0] == 201
        assert ask(path, "POST", "/containers/meanwhile/start").status == 204
        assert ask_json(path, "POST", "/containers/meanwhile/wait").json()["StatusCode"] == 0
    assert own_engine.pid == pid
    assert create(path, "large", LARGE)[0] == 201
    names = {one["Names"][0] for one in ask_json(path, "GET", "/containers/json?all=1").json()}
    assert names == {"/before", "/meanwhile", "/large"}
