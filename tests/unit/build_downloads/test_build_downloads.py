"""Files that builds fetch from the web."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.server
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from build_web import Web, page, registries, serving
from coved.build.errors import BuildError
from coved.build.remote import downloads
from coved.build.remote.downloads import Downloads, file_name


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as made:
        yield made


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def fetch(place: Path, url: str, **options: Any) -> tuple[bytes, downloads.Download]:
    async def run() -> tuple[bytes, downloads.Download]:
        made = Downloads(registries(), place)
        async with made.file(url, **options) as found:
            result = found.path.read_bytes(), found
        await made.close()
        return result

    return asyncio.run(run())


def test_a_file_with_its_time_and_name(web: Web, tmp_path: Path) -> None:
    web.pages["/a/some%20file.txt?x=1"] = page(b"data", Last_Modified="Wed, 21 Oct 2015 07:28:00 GMT")
    data, found = fetch(tmp_path, f"{web.url}/a/some%20file.txt?x=1#part")
    assert data == b"data"
    assert (found.name, found.digest, found.modified) == ("some file.txt", sha256(b"data"), 1445412480)


def test_mode_and_time_on_the_disk(web: Web, tmp_path: Path) -> None:
    web.pages["/old"] = page(b"", Last_Modified="Wed, 21 Oct 2015 07:28:00 GMT")
    web.pages["/timeless"] = page(b"x", Last_Modified="yesterday")

    async def run() -> None:
        made = Downloads(registries(), tmp_path)
        for path, seconds in (("/old", 1445412480), ("/timeless", 0)):
            async with made.file(web.url + path) as found:
                status = found.path.stat()
                assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o600, seconds)
        await made.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.tar.gz?x#y", "b.tar.gz"),
        ("http://h/a/b/", "b"),
        ("http://h/", "__unnamed__"),
        ("http://h", "__unnamed__"),
        ("http://h/a/..", "__unnamed__"),
        ("http://h/%2e%2e%2fetc%2fpasswd", "passwd"),
        ("http://h/a%00b", "__unnamed__"),
        ("http://[", "__unnamed__"),
    ],
)
def test_names(url: str, name: str) -> None:
    assert file_name(url) == name


def test_what_is_the_same_is_not_fetched_again(web: Web, tmp_path: Path) -> None:
    web.pages["/f"] = page(b"one", ETag='"1"')
    assert fetch(tmp_path, f"{web.url}/f")[0] == b"one"
    assert fetch(tmp_path, f"{web.url}/f")[0] == b"one"
    assert [headers.get("if-none-match") for _, headers in web.asked] == [None, '"1"']
    web.pages["/f"] = page(b"two", ETag='"2"')
    assert fetch(tmp_path, f"{web.url}/f")[0] == b"two"
    assert fetch(tmp_path, f"{web.url}/f")[0] == b"two"
    assert [headers.get("if-none-match") for _, headers in web.asked[2:]] == ['"1"', '"2"']
    assert len([*(tmp_path / "files").iterdir()]) == 1


def test_a_server_that_does_not_look_at_etags(web: Web, tmp_path: Path) -> None:
    """It sends the file again, with the same ETag: that file is not read."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("ETag", 'W/"1"')
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()

    web.pages["/f"] = page(b"one", ETag='"1"')
    fetch(tmp_path, f"{web.url}/f")
    web.pages["/f"] = answer
    assert fetch(tmp_path, f"{web.url}/f")[0] == b"one"


def test_a_file_that_is_gone_or_cut_is_fetched_again(web: Web, tmp_path: Path) -> None:
    web.pages["/f"] = page(b"one", ETag='"1"')
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(b"on")):
        fetch(tmp_path, f"{web.url}/f")
        (file,) = (tmp_path / "files").iterdir()
        damage(file)
        assert fetch(tmp_path, f"{web.url}/f")[0] == b"one"


def test_a_checksum(web: Web, tmp_path: Path) -> None:
    web.pages["/f"] = page(b"one")
    assert fetch(tmp_path, f"{web.url}/f", checksum=sha256(b"one"))[0] == b"one"
    assert len(web.asked) == 1
    assert fetch(tmp_path, f"{web.url}/f", checksum=sha256(b"one"))[0] == b"one"
    assert len(web.asked) == 1  # what is there already has it
    with pytest.raises(BuildError) as caught:
        fetch(tmp_path, f"{web.url}/f", checksum=sha256(b"two"))
    assert str(caught.value) == (f"digest mismatch for {web.url}/f: {sha256(b'one')} (expected: {sha256(b'two')})")


@pytest.mark.parametrize(
    ("checksum", "words"),
    [
        ("sha256:zz", "invalid checksum digest length"),
        ("zz", "invalid checksum digest format"),
        ("md5:zz", "unsupported digest algorithm"),
        ("sha256:" + "x" * 64, "invalid checksum digest format"),
        ("sha256:" + "A" * 64, "invalid checksum digest format"),
        ("sha256:" + "a" * 63 + "\n", "invalid checksum digest format"),
    ],
)
def test_no_checksums(checksum: str, words: str, web: Web, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        fetch(tmp_path, f"{web.url}/f", checksum=checksum)
    assert str(caught.value) == words
    assert web.asked == []


def test_errors(web: Web, tmp_path: Path) -> None:
    def cut(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        handler.close_connection = True

    web.pages["/cut"] = cut
    for url, words in {
        f"{web.url}/none": "invalid response status 404",
        f"{web.url}/cut": "unexpected EOF",
        "http://127.0.0.1:1/x": "connect: connection refused",
        "ftp://host/x": 'unsupported protocol scheme "ftp"',
        "http:///x": "no Host in request URL",
    }.items():
        with pytest.raises(BuildError, match=f"failed to load cache key: .*{words}"):
            fetch(tmp_path, url)
    assert not (tmp_path / "files").exists() or [*(tmp_path / "files").iterdir()] == []


def test_who_asks_is_told_to_nobody_else(web: Web, tmp_path: Path) -> None:
    with serving() as other:
        other.pages["/f"] = page(b"data")

        def moved(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", f"{other.url}/f")
            handler.end_headers()

        web.pages["/f"] = moved
        host = web.url.removeprefix("http://")
        assert fetch(tmp_path, f"http://me:p%40ss@{host}/f")[0] == b"data"
        assert web.asked[0][1]["authorization"] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"

        async def secret(name: str) -> bytes | None:
            return {f"HTTP_AUTH_TOKEN_{host}": b"token\n"}.get(name)

        fetch(tmp_path, f"{web.url}/f", secret=secret)
        assert web.asked[1][1]["authorization"] == "Bearer token"
        assert [headers.get("authorization") for _, headers in other.asked] == [None, None]


def test_many_at_a_time_ask_once(web: Web, tmp_path: Path) -> None:
    web.pages["/f"] = page(b"data" * 100_000, ETag='"1"')
    told: list[tuple[int, int]] = []

    async def run() -> None:
        made = Downloads(registries(), tmp_path)

        async def one() -> None:
            async with made.file(f"{web.url}/f", meter=lambda done, total: told.append((done, total))) as found:
                assert found.path.stat().st_size == 400_000

        await asyncio.gather(*(one() for _ in range(10)))
        await made.close()

    asyncio.run(run())
    assert [headers.get("if-none-match") for _, headers in web.asked] == [None] + ['"1"'] * 9
    assert told[-1] == (400_000, 400_000)


def test_there_are_bounds(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in use stays whatever else there is."""
    monkeypatch.setattr(downloads, "FILES_MAX", 3)
    for number in range(6):
        web.pages[f"/{number}"] = page(str(number).encode(), ETag=f'"{number}"')

    async def run() -> None:
        made = Downloads(registries(), tmp_path)
        async with made.file(f"{web.url}/0") as first:
            for number in range(1, 6):
                async with made.file(f"{web.url}/{number}"):
                    pass
                await made.close()
            assert first.path.read_bytes() == b"0"
            assert len([*(tmp_path / "files").iterdir()]) == 4
        assert len([*(tmp_path / "urls").iterdir()]) == 3

    asyncio.run(run())


def test_what_is_kept(web: Web, tmp_path: Path) -> None:
    """A file that two URLs have counts once, and is there as long as one of them is kept, or a build uses it."""
    for name in "abc":
        web.pages[f"/{name}"] = page(b"other" if name == "c" else b"same", ETag='"1"')

    async def run() -> None:
        made = Downloads(registries(), tmp_path)
        for name in "aabc":
            async with made.file(f"{web.url.replace('//', '//me:pw@')}/{name}", checksum=""):
                pass
        async with made.file(f"{web.url}/c") as used:
            entries = {one.description[-1] + str(one.in_use): one for one in await made.entries()}
            assert sorted(entries) == ["aFalse", "bFalse", "cTrue"]
            a, b = entries["aFalse"], entries["bFalse"]
            assert (a.description, a.size, a.uses) == (f"http url {web.url}/a", 0, 2)
            assert (b.size, b.uses) == (4, 1)
            assert a.created_ns <= a.used_ns <= b.used_ns
            c = [one.id for one in await made.entries() if one.in_use]
            await made.remove([b.id, *c, "none"])
            assert sorted(path.read_bytes() for path in (tmp_path / "files").iterdir()) == [b"other", b"same"]
            assert {one.description: one.size for one in await made.entries()}[f"http url {web.url}/a"] == 4
            await made.remove([a.id, *c])
            assert used.path.read_bytes() == b"other"
            assert [*(tmp_path / "files").iterdir()] == [used.path]
        await made.remove(c)
        assert await made.entries() == []
        await made.close()

    asyncio.run(run())
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "files", tmp_path / "urls"]


def test_removed_while_something_is_fetched(web: Web, tmp_path: Path) -> None:
    """What is being asked for stays; files of others go when no fetch can come to be the same any more."""
    asked, go_on = threading.Event(), threading.Event()

    def slow(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.set()
        assert go_on.wait(30)
        page(b"same", ETag='"1"')(handler)

    web.pages["/a"] = web.pages["/b"] = page(b"same", ETag='"1"')
    web.pages["/c"] = page(b"c")

    async def run() -> None:
        made = Downloads(registries(), tmp_path)
        for name in "abc":
            async with made.file(f"{web.url}/{name}"):
                pass
        await made.close()
        web.pages["/a"] = slow

        async def again() -> bytes:
            async with made.file(f"{web.url}/a") as file:
                return file.path.read_bytes()

        task = asyncio.create_task(again())
        await asyncio.to_thread(asked.wait)
        entries = await made.entries()
        assert {one.description[-1]: one.in_use for one in entries} == {"a": True, "b": False, "c": False}
        await made.remove([one.id for one in entries])
        go_on.set()
        assert await task == b"same"
        await made.close()
        assert [one.description for one in await made.entries()] == [f"http url {web.url}/a"]
        assert [path.read_bytes() for path in (tmp_path / "files").iterdir()] == [b"same"]

    asyncio.run(run())


@pytest.mark.parametrize("told", [True, False])
def test_a_file_without_end(told: bool, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server may say how long it is, or not."""
    monkeypatch.setattr(downloads, "FILE_MAX", 100_000)

    def send(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if told:
            handler.send_header("Content-Length", "100001")
        handler.end_headers()
        handler.wfile.write(b"x" * 100_001)

    web.pages["/f"] = send
    web.pages["/g"] = page(b"x" * 100_000)
    with pytest.raises(BuildError, match="the file is larger than 100000 bytes"):
        fetch(tmp_path, f"{web.url}/f")
    assert not [*(tmp_path / "files").iterdir()]
    assert fetch(tmp_path, f"{web.url}/g")[0] == b"x" * 100_000


def test_cancelled_it_leaves_nothing(web: Web, tmp_path: Path) -> None:
    begun = threading.Event()

    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 1000)
        begun.set()
        handler.rfile.read(1)

    web.pages["/f"] = endless

    async def run() -> None:
        made = Downloads(registries(), tmp_path)

        async def one() -> None:
            async with made.file(f"{web.url}/f"):
                pytest.fail("it never ends")

        task = asyncio.create_task(one())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [*(tmp_path / "files").iterdir()] == []
