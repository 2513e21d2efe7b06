"""`docker import URL`: the engine fetches the archive itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_archives import tar

pytestmark = [pytest.mark.root, pytest.mark.native]

ARCHIVE = tar([("hello", b"x" * 300_000)])
SERVER = """
import http.server, sys, time
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = open(sys.argv[1] + "/archive", "rb").read()
        if self.path == "/moved":
            self.send_response(302); self.send_header("Location", "/file.tar"); self.end_headers(); return
        if self.path not in ("/file.tar", "/cut", "/slow", "/text"):
            self.send_response(404, "Not here"); self.end_headers(); self.wfile.write(b" no such file \\n"); return
        self.send_response(200); self.send_header("Content-Length", str(len(data))); self.end_headers()
        if self.path == "/file.tar":
            self.wfile.write(data)
        elif self.path == "/text":
            self.wfile.write(b"t" * len(data))
        else:
            self.wfile.write(data[:1000]); self.wfile.flush()
            if self.path == "/slow":
                open(sys.argv[1] + "/begun", "w").close()
                self.rfile.read()
                open(sys.argv[1] + "/gone", "w").close()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def server(native_engine: Any, tmp_path: Path) -> Iterator[str]:
    """In the network of the engine, which is on this computer: the VM's is out of reach for a server of a test's."""
    (tmp_path / "archive").write_bytes(ARCHIVE)
    words = native_engine.in_network(sys.executable, "-c", SERVER, str(tmp_path))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        yield f"http://127.0.0.1:{running.stdout.readline().strip()}"
        running.kill()


def create(engine: Any, source: str, more: str = "") -> tuple[int, list[dict[str, Any]]]:
    url = f"http://engine/images/create?fromSrc={source}{more}"
    words = ["curl", "-s", "-m", "60", "-w", "\n%{http_code}", "--unix-socket", str(engine.socket), "-X", "POST", url]
    *told, status = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return int(status), [json.loads(line) for line in told if line]


def test_an_archive_is_fetched(native_engine: Any, server: str) -> None:
    status, told = create(native_engine, f"{server}/moved", "&repo=fetched&tag=1")
    assert status == 200
    assert told[0] == {"status": f"Downloading from {server}/moved"}
    assert {one["status"] for one in told[1:-1]} == {"Importing"}
    assert told[-2]["progressDetail"] == {"current": len(ARCHIVE), "total": len(ARCHIVE)}
    assert "id" not in told[-2]
    environment = {**os.environ, "DOCKER_HOST": native_engine.url}
    done = subprocess.run(
        ["docker", "import", "--change", "CMD [\"x\"]", f"{server}/file.tar", "fetched:2"],
        capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    form = "{{.Id}} {{.Comment}} {{.Config.Cmd}}"
    shown = subprocess.run(
        ["docker", "image", "inspect", "-f", form, "fetched:2"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    ).stdout
    assert shown == f"{done.stdout.splitlines()[-1]} Imported from {server}/file.tar [x]\n"
    subprocess.run(["docker", "rmi", "fetched:1", "fetched:2"], env=environment, timeout=60, check=True)


def test_what_cannot_be_fetched(native_engine: Any, server: str) -> None:
    for source, status, words in (
        (f"{server}/nothing", 404, f"failed to GET {server}/nothing with status 404 Not here: no such file"),
        ("http://127.0.0.1:1/x", 500, 'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused'),
        ("ftp://127.0.0.1/x", 500, 'Get "ftp://127.0.0.1/x": unsupported protocol scheme "ftp"'),
        ("http://", 500, "http: no Host in request URL"),
        ("http://a:b@127.0.0.1/x", 400, "not supported"),
    ):
        answer = create(native_engine, source)
        assert (answer[0], words in answer[1][0]["message"]) == (status, True), answer
    assert create(native_engine, f"{server}/file.tar", "&repo=UPPER")[0] == 400
    for path, words in (("cut", "unexpected EOF"), ("text", "archive/tar: invalid tar header")):
        status, told = create(native_engine, f"{server}/{path}")
        assert status == 200 and words in told[-1]["error"]


def test_a_client_that_leaves_ends_its_download(native_engine: Any, server: str, tmp_path: Path) -> None:
    url = f"http://engine/images/create?fromSrc={server}/slow"
    client = subprocess.Popen(["curl", "-s", "--unix-socket", str(native_engine.socket), "-X", "POST", url])
    wait_for(tmp_path / "begun")
    client.kill()
    client.wait(10)
    wait_for(tmp_path / "gone")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)
