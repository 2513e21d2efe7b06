"""A dashboard that is served in this process, for a machine whose engine is a stand-in; clients are real ones, on real sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websocket
from cove.dashboard import choices
from cove.dashboard.choices import Choices
from cove.dashboard.places import Places
from cove.dashboard.service import Service
from cove.dashboard.static import Files
from cove.machine import lifecycle
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from unix_engine import serve as serve_engine

BOUND_S = 30.0


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Dashboard:
    """`cookie` and `base` are those of a browser that has come in by a token."""

    places: Places
    port: int
    service: Service
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    cookie: str = ""
    base: str = ""

    def told(self, operation: str) -> dict[str, Any]:
        """What the control socket answers."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(BOUND_S)
            sock.connect(str(self.places.socket))
            sock.sendall(json.dumps({"op": operation}).encode() + b"\n")
            return dict(json.loads(sock.makefile().readline()))

    def token(self) -> str:
        return str(self.told("open")["url"].partition("token=")[2])

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        """One request of whoever knows the port, with these headers alone (underscores are dashes)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_S)
        try:
            connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, told, answer.read())
        finally:
            connection.close()

    def browse(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """One request of the browser that has come in, for a path below the page."""
        own = {"Cookie": self.cookie, "Sec_Fetch_Site": "same-origin", "Origin": self.origin}
        return self.ask(method, self.base + path, body, **{**own, **headers})

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def socket(self, path: str, **options: Any) -> websocket.WebSocket:
        """A WebSocket of the browser that has come in."""
        given = {"origin": self.origin, "cookie": self.cookie, "timeout": BOUND_S, **options}
        return websocket.create_connection(f"ws://127.0.0.1:{self.port}{self.base}{path}", **given)

    def raw(self, data: bytes = b"") -> socket.socket:
        """A connection on which `data` has been sent."""
        sock = socket.create_connection(("127.0.0.1", self.port), BOUND_S)
        sock.sendall(data)
        return sock

    def head(self, method: str, path: str, *more: str) -> bytes:
        """The head of a request of the browser that has come in."""
        lines = [f"{method} {self.base}{path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Cookie: {self.cookie}"]
        return "\r\n".join([*lines, f"Origin: {self.origin}", *more, "", ""]).encode()

    def enter(self) -> None:
        answer = self.ask("GET", f"/open?token={self.token()}")
        assert answer.status == 303, answer
        self.base = answer.headers["location"]
        self.cookie = answer.headers["set-cookie"].partition(";")[0]


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[MachinePaths]:
    """A machine that does not run."""
    folder = Path(tempfile.mkdtemp(prefix="cove-d", dir="/tmp"))
    for name in [name for name in os.environ if name.startswith(("COVE_", "DOCKER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COVE_HOME", str(folder))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder / "docker"))
    try:
        yield lifecycle.init("default")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """A page."""
    folder = tmp_path / "assets"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Cove</title>")
    script = folder / "assets/index-Ab3_x-9z.js"
    script.write_text("export {}")
    script.with_name(script.name + ".br").write_bytes(b"as br")
    script.with_name(script.name + ".gz").write_bytes(b"as gzip")
    return folder


@pytest.fixture
def serving(paths: MachinePaths, assets: Path) -> Iterator[Callable[..., Dashboard]]:
    """Serves one; the keywords are `Service`'s."""
    made: list[Dashboard] = []

    def serve(**options: Any) -> Dashboard:
        places = Places(paths.name)
        places.make()
        listening = threading.Event()
        found: dict[str, Any] = {}

        async def run() -> None:
            found["loop"] = asyncio.get_running_loop()
            chosen = Choices(choices.place())
            found["service"] = Service(
                places, Files(chosen.dressed, assets), chosen, lambda image: f"login for {image}", **options
            )
            await found["service"].run(listening.set)

        thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        thread.start()
        assert listening.wait(BOUND_S)
        dashboard = Dashboard(places, found["service"]._port, found["service"], found["loop"], thread)
        made.append(dashboard)
        return dashboard

    yield serve
    for each in made:
        if each.thread.is_alive():
            each.loop.call_soon_threadsafe(each.service.end)
            each.thread.join(BOUND_S)
            assert not each.thread.is_alive(), "the dashboard does not end"


@pytest.fixture
def outside(serving: Callable[..., Dashboard]) -> Dashboard:
    """A dashboard into which nobody has come yet."""
    return serving()


@pytest.fixture
def dashboard(outside: Dashboard) -> Dashboard:
    outside.enter()
    return outside


@pytest.fixture
def engine(paths: MachinePaths) -> Iterator[Callable[[Callable[[socket.socket], None]], None]]:
    """Has the machine run, with an engine that does what is given with each connection."""
    lock = FileLock(paths.vm_lock)
    assert lock.try_acquire()
    ends: list[Callable[[], None]] = []
    yield lambda behave: ends.append(serve_engine(paths.docker_socket, behave))
    for end in ends:
        end()
    lock.release()
