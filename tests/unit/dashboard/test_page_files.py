"""The page's files: which are given, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cove.dashboard import static

SCRIPT = "assets/index-Ab3_x-9z.js"


def test_the_page_is_what_is_at_its_address(dashboard: Any) -> None:
    answer = dashboard.browse("GET", "")
    assert (answer.status, answer.body) == (200, b"<!doctype html><title>Cove</title>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert dashboard.browse("GET", "index.html").body == answer.body
    assert dashboard.browse("GET", "?x=1").body == answer.body


@pytest.mark.parametrize(
    ("accepted", "encoding", "body"),
    [
        ("gzip, deflate, br, zstd", "br", b"as br"), ("gzip;q=0.5", "gzip", b"as gzip"), ("", None, b"export {}"),
        ("identity", None, b"export {}"),
    ],
)  # fmt: skip
def test_a_file_is_given_as_small_as_the_browser_takes_it(
    dashboard: Any, accepted: str, encoding: str | None, body: bytes
) -> None:
    answer = dashboard.browse("GET", SCRIPT, Accept_Encoding=accepted)
    assert (answer.headers.get("content-encoding"), answer.body) == (encoding, body)
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


def test_a_file_whose_name_tells_its_contents_is_kept_for_ever(dashboard: Any) -> None:
    assert "immutable" in dashboard.browse("GET", SCRIPT).headers["cache-control"]


def test_the_page_comes_with_cove() -> None:
    names = {path.name for path in static.FOLDER.rglob("*")}
    assert static.PAGE in names
    assert all(
        f"{name}{ending}" in names for name in names if name.endswith(".js") for ending in static.ENCODINGS.values()
    )


def test_of_a_file_one_may_ask_the_head_alone(dashboard: Any) -> None:
    answer = dashboard.browse("HEAD", SCRIPT)
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "9", b"")
    assert dashboard.browse("POST", SCRIPT).status == 405


OUTSIDE = (
    "../secret", "assets/../../secret", "%2e%2e/secret", "..%2fsecret", "assets/%2e%2e/%2e%2e/secret", "/etc/passwd", "//etc/passwd",
    "%2fetc%2fpasswd", "assets\\\\..\\\\..\\\\secret", "assets", "assets/", ".", "..", "index.html%00", f"{SCRIPT}.br", "link",
)  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_else_is_given(dashboard: Any, assets: Path, path: str) -> None:
    (assets.parent / "secret").write_text("secret")
    with dashboard.raw(dashboard.head("GET", path, "Connection: close")) as sock:
        answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert answer.split(b" ")[1] in (b"404", b"400")
    assert b"secret" not in answer.partition(b"\r\n\r\n")[2]


def test_licences_are_read_in_the_browser(assets: Path, serving: Callable[..., Any]) -> None:
    (assets / "licenses.md").write_text("# Licences")
    dashboard = serving()
    dashboard.enter()
    assert dashboard.browse("GET", "licenses.md").headers["content-type"] == "text/plain; charset=utf-8"
