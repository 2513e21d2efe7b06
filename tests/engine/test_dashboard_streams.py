"""The dashboard's own process before a real engine: events and logs as they happen, archives both ways, terminals."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import websocket
from cove.cli.dashboard import PROCESS
from cove.dashboard import launch
from cove.machine import lifecycle
from cove.machine.locks import FileLock

from life_support import eventually

pytestmark = [pytest.mark.root, pytest.mark.native]

BOUND_S = 60.0


class Browser:
    """One that has come in."""

    def __init__(self, url: str) -> None:
        self.port = urlsplit(url).port
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_S)
        connection.request("GET", urlsplit(url)._replace(scheme="", netloc="").geturl())
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 303
        self.base = str(answer.headers["Location"])
        self.cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]
        connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_S)
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Cookie": self.cookie, "Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
        connection.request(method, f"{self.base}docker/{path}", data, headers)
        return connection.getresponse()

    def told(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.ask(method, path, body)
        said = answer.read()
        assert answer.status < 300, said
        return json.loads(said) if said else None

    def socket(self, path: str) -> websocket.WebSocket:
        return websocket.create_connection(
            f"ws://127.0.0.1:{self.port}{self.base}{path}", timeout=BOUND_S, cookie=self.cookie,
            origin=f"http://127.0.0.1:{self.port}",
        )  # fmt: skip


@pytest.fixture(scope="module")
def browser(native_engine: Any) -> Iterator[Browser]:
    """Of the dashboard of a machine whose engine is this computer's."""
    folder = Path(tempfile.mkdtemp(prefix="cove-b", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("COVE_", "DOCKER_"))]:
            patch.delenv(name)
        patch.setenv("COVE_HOME", str(folder))
        patch.setenv("DOCKER_CONFIG", str(folder / "docker"))
        paths = lifecycle.init("default")
        with FileLock(paths.vm_lock) as lock:
            assert lock.try_acquire()
            paths.docker_socket.symlink_to(native_engine.socket)
            try:
                yield Browser(launch.address("default", PROCESS))
            finally:
                launch.end("default")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def container(browser: Browser) -> Iterator[str]:
    """One that says what it is told by a file."""
    script = "mkfifo /said; while :; do cat /said; done"
    made = str(browser.told("POST", "containers/create", {"Image": "busybox", "Cmd": ["sh", "-c", script]})["Id"])
    browser.told("POST", f"containers/{made}/start")
    yield made
    browser.told("DELETE", f"containers/{made}?force=1")


def execute(browser: Browser, container: str, *words: str, tty: bool = False) -> str:
    wish = {"Cmd": list(words), "AttachStdin": tty, "AttachStdout": True, "AttachStderr": True, "Tty": tty}
    return str(browser.told("POST", f"containers/{container}/exec", wish)["Id"])


def test_what_happens_is_told_as_it_does(browser: Browser, container: str) -> None:
    page = browser.socket("docker/events")
    assert json.loads(page.recv())["status"] == 200
    browser.told("POST", f"containers/{container}/pause")
    browser.told("POST", f"containers/{container}/unpause")
    said = b""
    while b'"unpause"' not in said:
        said += page.recv()
    assert [json.loads(line)["Action"] for line in said.splitlines()] == ["pause", "unpause"]
    page.close()


def test_a_log_is_followed(browser: Browser, container: str) -> None:
    page = browser.socket(f"docker/containers/{container}/logs?follow=1&stdout=1")
    assert json.loads(page.recv())["status"] == 200
    for words in ("first", "second"):
        started = browser.ask(
            "POST", f"exec/{execute(browser, container, 'sh', '-c', f'echo {words} >/said')}/start", {}
        )
        started.read()
        said = b""
        while not said.endswith(f"{words}\n".encode()):
            said += page.recv()
    page.close()


def test_a_page_that_is_gone_is_none_of_the_engines_clients(browser: Browser, native_engine: Any) -> None:
    """Its side of the connection ends with the page's."""
    listeners = lambda: browser.told("GET", "info")["NEventsListener"]  # noqa: E731
    before = listeners()
    page = browser.socket("docker/events")
    page.recv()
    eventually(lambda: listeners() == before + 1)
    page.close()
    eventually(lambda: listeners() == before)


def test_an_exec_without_a_terminal_is_an_answer(browser: Browser, container: str) -> None:
    answer = browser.ask("POST", f"exec/{execute(browser, container, 'echo', 'hello')}/start", {"Detach": False})
    assert answer.read() == b"\x01\0\0\0\0\0\0\x06hello\n"


def test_a_terminal_has_the_size_of_the_page(browser: Browser, container: str) -> None:
    page = browser.socket(f"api/exec/{execute(browser, container, 'sh', tty=True)}/ws?cols=81&rows=25")

    def until(words: bytes) -> None:
        said = b""
        while words not in said:
            said += page.recv()

    page.send_binary(b"stty size\n")
    until(b"25 81")
    page.send('{"resize": [133, 44]}')

    def size() -> bool:
        page.send_binary(b"echo =$(stty size)=\n")
        said = b""
        while said.count(b"=") < 4:  # what is typed is shown as well
            said += page.recv()
        return b"=44 133=" in said

    eventually(size)
    page.send_binary(b"exit 3\n")
    while page.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
        pass
    page.close()


@pytest.mark.parametrize("program", ["sh", "cat"])
def test_a_terminal_that_is_closed_ends_what_reads_it(browser: Browser, container: str, program: str) -> None:
    made = execute(browser, container, program, tty=True)
    page = browser.socket(f"api/exec/{made}/ws")
    page.send_binary(b"sleep 1000\n")
    said = b""
    while b"sleep" not in said:
        said += page.recv()
    page.close()
    eventually(lambda: not browser.told("GET", f"exec/{made}/json")["Running"])


def test_files_go_both_ways(browser: Browser, container: str) -> None:
    data = os.urandom(3 << 20)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    browser.told("PUT", f"containers/{container}/archive?path=/tmp", packed.getvalue())
    head = browser.ask("HEAD", f"containers/{container}/archive?path=/tmp/file")
    assert head.headers["X-Docker-Container-Path-Stat"]
    answer = browser.ask("GET", f"containers/{container}/archive?path=/tmp/file")
    with tarfile.open(fileobj=io.BytesIO(answer.read())) as archive:
        member = archive.extractfile("file")
        assert member is not None
        assert member.read() == data


def test_what_the_engine_refuses_is_told_in_its_words(browser: Browser) -> None:
    answer = browser.ask("GET", "containers/nothing/json")
    assert answer.status == 404
    assert json.loads(answer.read()) == {"message": "No such container: nothing"}


def test_the_next_command_finds_the_same_process(browser: Browser) -> None:
    assert Browser(launch.address("default", PROCESS)).port == browser.port
