"""`cove hello` against an engine of our own."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cove.machine import docker_context
from told_engine import COVE, engine_at, stream

MISSING = 404, {"message": "No such image: cove/starter:latest"}


class Forgetful(dict[tuple[str, str], tuple[int, Any]]):
    """Has no starter image until it is pulled."""

    pulled = False

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        self.pulled |= key == ("POST", "/images/create")
        if key == ("POST", "/containers/create"):
            return (201, {"Id": "a" * 64, "Warnings": []}) if self.pulled else MISSING
        return super().get(key, default)


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<p>It works</p>\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that has what the container would have."""
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_starter_that_was_removed_is_pulled(tmp_path: Path, port: int) -> None:
    with engine_at(tmp_path / "engine.sock") as engine:
        engine.answers = Forgetful()
        engine.answers["POST", "/images/create"] = 200, stream([{"status": "Downloaded"}])
        engine.answers["POST", "/containers/hello/start"] = 204, b""
        done = subprocess.run(
            [*COVE, "hello", "-p", str(port)], capture_output=True, text=True, timeout=20,
            env=os.environ
            | {"COVE_HOST": engine.url, "DOCKER_CONFIG": str(tmp_path)}
            | {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""},  # which has another localhost
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "It works" in done.stdout
        assert "Downloaded" in done.stderr
        (pull,) = [one for one in engine.requests if one.path == "/images/create"]
        assert pull.query == {"fromImage": "docker.io/cove/starter", "tag": "latest"}
        assert [one.path for one in engine.requests].count("/containers/create") == 2


@pytest.mark.parametrize("leads_here", [True, False])
def test_dockers_context_is_named_when_it_is_of_this_machine(
    tmp_path: Path, port: int, leads_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "engine.sock"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with engine_at(socket) as engine:
        engine.answers = Forgetful()
        engine.answers["POST", "/images/create"] = 200, b""
        engine.answers["POST", "/containers/hello/start"] = 204, b""
        environment = os.environ | {"COVE_HOST": f"unix://{socket}"}
        paths: Any = SimpleNamespace(
            name="default", folder=tmp_path, docker_socket=socket if leads_here else tmp_path / "other.sock"
        )
        docker_context.create(paths)
        done = subprocess.run(
            [*COVE, "hello", "-p", str(port)], capture_output=True, text=True, timeout=20, env=environment
        )
    assert done.returncode == 0, done.stderr
    assert ("docker --context cove ps" in done.stdout) is leads_here
    assert (f"docker -H unix://{socket} ps" in done.stdout) is not leads_here
    assert "machine stop" not in done.stdout  # it is no machine's engine


class Running(dict[tuple[str, str], tuple[int, Any]]):
    """Has the page on another port, and whether that of the new one is free."""

    def __init__(self, start: tuple[int, Any]) -> None:
        config = {"Id": "e" * 64, "Config": {"Labels": {"cove.hello": ""}}, "State": {"Running": True}}
        super().__init__(
            {
                ("GET", "/containers/hello/json"): (200, config | {"HostConfig": {"PortBindings": {"80/tcp": []}}}),
                ("POST", f"/containers/{'e' * 64}/rename"): (204, b""),
                ("POST", "/containers/create"): (201, {"Id": "a" * 64, "Warnings": []}),
                ("POST", "/containers/hello/start"): start,
                ("DELETE", "/containers/hello"): (204, b""),
                ("DELETE", f"/containers/{'e' * 64}"): (204, b""),
            }
        )


@pytest.mark.parametrize("free", [True, False])
def test_the_page_on_another_port_goes_when_the_new_one_runs_and_not_before(
    tmp_path: Path, port: int, free: bool
) -> None:
    taken = {"message": f"failed to bind port 127.0.0.1:{port}/tcp: address already in use"}
    with engine_at(tmp_path / "engine.sock") as engine:
        engine.answers = Running((204, b"") if free else (500, taken))
        done = subprocess.run(
            [*COVE, "hello", "-p", str(port)], capture_output=True, text=True, timeout=20,
            env=os.environ | {"COVE_HOST": engine.url, "DOCKER_CONFIG": str(tmp_path)},
        )  # fmt: skip
        asked = [(one.method, one.path, one.query.get("name")) for one in engine.requests if one.method != "GET"]
    begin = [
        ("POST", f"/containers/{'e' * 64}/rename", "hello-eeeeeeeeeeee"),
        ("POST", "/containers/create", "hello"),
        ("POST", "/containers/hello/start", None),
    ]
    if free:
        assert done.returncode == 0, done.stderr
        assert asked == [*begin, ("DELETE", f"/containers/{'e' * 64}", None)]
        assert "it takes the place of the one on another port" in done.stderr
    else:
        assert "address already in use" in done.stderr and "choose another port" in done.stderr
        back = ("POST", f"/containers/{'e' * 64}/rename", "hello")
        assert asked == [*begin, ("DELETE", "/containers/hello", None), back]
