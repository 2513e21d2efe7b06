"""Git servers that do not do what they should."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from build_web import Answer, Web, registries, serving
from coved.build.errors import BuildError
from coved.build.remote import git_budget, git_wire
from coved.build.remote.git import Repositories
from coved.build.remote.git_budget import Budget
from coved.build.remote.git_url import GitRef
from coved.registry.wire import Wire

COMMIT = "1" * 40
CAPABILITIES = "side-band-64k shallow ofs-delta symref=HEAD:refs/heads/main"


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as made:
        yield made


def line(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return b"%04x" % (len(data) + 4) + data


def advertisement(*refs: str, capabilities: str = CAPABILITIES) -> bytes:
    lines = [line(f"{refs[0]}\0{capabilities}\n"), *(line(f"{ref}\n") for ref in refs[1:])] if refs else []
    return line("# service=git-upload-pack\n") + b"0000" + b"".join(lines) + b"0000"


REFS = advertisement(f"{COMMIT} HEAD", f"{COMMIT} refs/heads/main")


def answer(data: bytes, kind: str = "application/x-git-upload-pack-advertisement", status: int = 200) -> Answer:
    def send(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return send


def fetch(place: Path, remote: str, meter: Callable[[int], None] = lambda done: None) -> None:
    async def run() -> None:
        async with Repositories(registries(), place).tree(GitRef(remote), meter=meter):
            pytest.fail("it is none")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (answer(REFS, "text/html"), "no repository of a server that speaks git's protocol"),
        (answer(b"", status=500), "the server says 500"),
        (answer(b"", status=403), "Authentication failed"),
        (answer(b"0000"), "invalid server response"),
        (answer(b"zzzz"), "bad line length character"),
        (answer(b"ffff" + b"x" * 70000), "bad line length 65535"),
        (answer(REFS[:-10]), "hung up unexpectedly|unexpected EOF"),
        (answer(line("# service=git-upload-pack\n") + b"0000" + line("ERR go away\n")), "remote error: go away"),
        (answer(advertisement()), "does not contain ref HEAD"),
        (answer(advertisement(f"{COMMIT} capabilities^{{}}")), "does not contain ref refs/heads/main"),
        (answer(advertisement("xyz HEAD", "xyz refs/heads/main")), "does not contain ref"),
        (answer(advertisement(f"{COMMIT} refs/heads/a", capabilities="object-format=sha256")), "SHA-256"),
    ],
)
def test_refs(page: Answer, words: str, web: Web, tmp_path: Path) -> None:
    web.pages["/x.git/info/refs?service=git-upload-pack"] = page
    with pytest.raises(BuildError, match=f"failed to load cache key: .*(?:{words})"):
        fetch(tmp_path, f"{web.url}/x.git")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (b"", "hung up unexpectedly"),
        (line(f"shallow {COMMIT}") + b"0000" + line("ERR upload-pack: not our ref\n"), "remote error: upload-pack"),
        (b"0000" + line("what\n"), "expected ACK/NAK, got 'what'"),
        (b"0000" + line("NAK\n") + line(b"\3no room\n"), "remote error: no room"),
        (b"0000" + line("NAK\n") + line(b"\1PACK"), "hung up unexpectedly"),
        (b"0000" + line("NAK\n") + b"0000", "the pack is too short"),
        (b"0000" + line("NAK\n") + line(b"\2progress\n") + line(b"\1" + b"x" * 100) + b"0000", "no pack"),
    ],
)
def test_packs(result: bytes, words: str, web: Web, tmp_path: Path) -> None:
    web.pages["/x.git/info/refs?service=git-upload-pack"] = answer(REFS)
    web.pages["/x.git/git-upload-pack"] = answer(result, "application/x-git-upload-pack-result")
    with pytest.raises(BuildError, match=words):
        fetch(tmp_path, f"{web.url}/x.git")
    assert [*tmp_path.iterdir()] == []


def test_refs_without_end(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_wire, "_REFS_MAX", 100)
    refs = [f"{COMMIT} refs/heads/{number}" for number in range(200)]
    web.pages["/x.git/info/refs?service=git-upload-pack"] = answer(advertisement(*refs))
    with pytest.raises(BuildError, match="more than 100 refs"):
        fetch(tmp_path, f"{web.url}/x.git")


def test_refs_that_are_long(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_wire, "_REFS_BYTES_MAX", 100_000)
    refs = [f"{COMMIT} refs/heads/{'x' * 60_000}", f"{COMMIT} refs/heads/{'y' * 60_000}"]
    web.pages["/x.git/info/refs?service=git-upload-pack"] = answer(advertisement(*refs))
    with pytest.raises(BuildError, match="the repository's refs are longer than 100000 bytes"):
        fetch(tmp_path, f"{web.url}/x.git")


@pytest.mark.parametrize("band", [b"\1", b"\2"])
def test_a_pack_without_end(band: bytes, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what is told of it meanwhile."""
    monkeypatch.setattr(git_budget, "RECEIVED_MAX", 100_000)
    web.pages["/x.git/info/refs?service=git-upload-pack"] = answer(REFS)
    result = b"0000" + line("NAK\n") + line(band + b"x" * 60_000) * 2
    web.pages["/x.git/git-upload-pack"] = answer(result, "application/x-git-upload-pack-result")
    with pytest.raises(BuildError, match="the repository is larger than 100000 bytes"):
        fetch(tmp_path, f"{web.url}/x.git")
    assert [*tmp_path.iterdir()] == []


def test_the_meter_is_not_told_of_every_line(web: Web, tmp_path: Path) -> None:
    web.pages["/x.git/info/refs?service=git-upload-pack"] = answer(REFS)
    result = b"0000" + line("NAK\n") + line(b"\1" + b"x" * 10) * 250_000 + b"0000"
    web.pages["/x.git/git-upload-pack"] = answer(result, "application/x-git-upload-pack-result")
    told: list[int] = []
    with pytest.raises(BuildError, match="no pack"):
        fetch(tmp_path, f"{web.url}/x.git", told.append)
    assert len(told) == 3
    assert told[-1] == 2_500_000


def test_where_it_has_moved_to(web: Web, tmp_path: Path) -> None:
    def moved(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(301)
        handler.send_header("Location", "/y.git/info/refs?service=git-upload-pack")
        handler.end_headers()

    web.pages["/x.git/info/refs?service=git-upload-pack"] = moved
    web.pages["/y.git/info/refs?service=git-upload-pack"] = answer(REFS)
    with pytest.raises(BuildError, match="the server answers 404 to git-upload-pack"):
        fetch(tmp_path, f"{web.url}/x.git")
    assert web.asked[-1][0] == "/y.git/git-upload-pack"


def test_where_it_has_moved_to_learns_nothing_of_who_asks(web: Web, tmp_path: Path) -> None:
    """Neither from the redirected request, nor from those that follow."""
    told = "Basic dTpw"
    with serving() as other:

        def moved(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", f"{other.url}/y.git/info/refs?service=git-upload-pack")
            handler.end_headers()

        web.pages["/x.git/info/refs?service=git-upload-pack"] = moved
        other.pages["/y.git/info/refs?service=git-upload-pack"] = answer(REFS)
        other.pages["/y.git/git-upload-pack"] = answer(b"", "application/x-git-upload-pack-result")
        with pytest.raises(BuildError, match="hung up unexpectedly"):
            fetch(tmp_path, f"http://u:p@{web.url.removeprefix('http://')}/x.git")
        assert [headers.get("authorization") for _, headers in web.asked] == [told]
        assert [path for path, _ in other.asked] == [
            "/y.git/info/refs?service=git-upload-pack", "/y.git/git-upload-pack"
        ]  # fmt: skip
        assert [headers.get("authorization") for _, headers in other.asked] == [None, None]


def test_from_an_encrypted_server_to_one_that_is_not() -> None:
    """Who says who they are would not notice that what comes may be anybody's."""
    asked: list[str] = []

    class Redirecting:
        def send(self, method: str, url: str, *, authorize: Callable[[str], dict[str, str]], **_: object) -> None:
            asked.append(f"{url} {authorize(url)}")
            authorize("http://git.example/x.git/info/refs")
            asked.append("followed")

    told = {"Authorization": "Basic dTpw"}
    server = git_wire.HttpServer(cast("Wire", Redirecting()), "https://git.example/x.git", told, Budget())
    with pytest.raises(BuildError, match=r"redirected to http://git.example/x.git/info/refs, which is not encrypted"):
        server.refs()
    assert asked == [f"https://git.example/x.git/info/refs?service=git-upload-pack {told}"]


def test_cancelled_while_a_server_says_nothing(tmp_path: Path) -> None:
    heard = threading.Event()

    def silent(listening: socket.socket, done: Callable[[], object]) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            heard.set()
            while connection.recv(1000):
                pass
        done()

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=silent, args=(listening, ended.set))
        thread.start()

        async def run() -> None:
            port = listening.getsockname()[1]
            repositories = Repositories(registries(), tmp_path)

            async def use() -> None:
                async with repositories.tree(GitRef(f"git://127.0.0.1:{port}/x")):
                    pytest.fail("it never answers")

            task = asyncio.create_task(use())
            await asyncio.to_thread(heard.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert ended.wait(10)
        thread.join()
