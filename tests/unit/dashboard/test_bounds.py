"""Clients that send too much, too slowly, or nonsense, and how the dashboard ends."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from cove.dashboard import http, service, settings_form


def all_of(sock: socket.socket) -> bytes:
    """What comes until the end."""
    with sock:
        parts = []
        try:
            while data := sock.recv(1 << 16):
                parts.append(data)
        except ConnectionResetError:
            pass
    return b"".join(parts)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * http.MAX_HEAD * 2 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"y" * http.MAX_HEAD * 2, b"431"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(outside: Any, data: bytes, status: bytes) -> None:
    sock = outside.raw(data)
    if data.startswith(b"\x16"):
        sock.shutdown(socket.SHUT_WR)
    assert all_of(sock).startswith(b"HTTP/1.1 " + status)


def test_a_head_that_does_not_come_is_not_waited_for(outside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_S", 0.05)
    assert all_of(outside.raw(b"GET / HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408")


def test_a_client_that_says_nothing_is_not_kept(outside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_OUTSIDE_S", 0.05)
    assert all_of(outside.raw()) == b""


def test_a_browser_that_has_come_in_may_be_silent_for_longer(dashboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_S", 0.05)
    assert http.IDLE_OUTSIDE_S < 60 < 75
    assert all_of(dashboard.raw(dashboard.head("GET", ""))).startswith(b"HTTP/1.1 200"), "and is not kept for good"


def test_cookies_of_others_that_are_too_many_are_named(outside: Any) -> None:
    said = all_of(outside.raw(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"y" * http.MAX_HEAD * 2 + b"\r\n\r\n"))
    assert said.startswith(b"HTTP/1.1 431 ")
    assert b"delete its cookies of 127.0.0.1" in said


def test_a_body_that_does_not_come_is_not_waited_for(dashboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_S", 0.05)
    head = dashboard.head("PUT", "api/settings", "Content-Length: 10")
    assert b" 408 " in all_of(dashboard.raw(head + b"{")).splitlines()[0]


def test_a_body_that_is_none_is_refused(dashboard: Any) -> None:
    head = dashboard.head("PUT", "api/settings", "Transfer-Encoding: chunked")
    assert b" 400 " in all_of(dashboard.raw(head + b"nonsense\r\n")).splitlines()[0]


def test_a_body_that_is_too_long_is_refused(dashboard: Any) -> None:
    head = dashboard.head("PUT", "api/settings", f"Content-Length: {10 * settings_form.MAX_BODY}")
    assert b" 413 " in all_of(dashboard.raw(head + b" " * 2 * settings_form.MAX_BODY)).splitlines()[0]


def test_there_is_a_bound_of_connections(dashboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(http, "IDLE_OUTSIDE_S", 300.0)
    pages = [dashboard.socket("api/machine/watch"), dashboard.socket("api/machine/watch")]
    for page in pages:
        page.recv()
    assert all_of(dashboard.raw()) == b""
    for page in pages:
        page.close()


def test_programs_that_only_connect_do_not_lock_the_user_out(dashboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(service, "MAX_OUTSIDE", 2)
    monkeypatch.setattr(http, "IDLE_OUTSIDE_S", 300.0)
    page = dashboard.socket("api/machine/watch")
    page.recv()
    strangers = [dashboard.raw() for _ in range(6)]
    assert dashboard.browse("GET", "").status == 200
    for stranger in strangers[:4]:
        assert all_of(stranger) == b"", "the longest there makes room"
    page.close()
    for stranger in strangers[4:]:
        stranger.close()


def test_a_connection_serves_one_request_after_the_other(dashboard: Any) -> None:
    with dashboard.raw(dashboard.head("GET", "")) as sock:
        lines = sock.makefile("rb")
        for _ in range(3):
            assert lines.readline() == b"HTTP/1.1 200 \r\n"
            while (line := lines.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split()[1])
            lines.read(length)
            sock.sendall(dashboard.head("GET", ""))


def test_what_nobody_has_open_ends(serving: Callable[..., Any]) -> None:
    made = serving(unused_s=0.05)
    made.thread.join(30)
    assert not made.thread.is_alive()
    assert not made.places.socket.exists()


def test_what_somebody_has_open_does_not_end(dashboard: Any) -> None:
    page = dashboard.socket("api/machine/watch")
    page.recv()
    assert dashboard.service._timer is None
    page.close()
    deadline = time.monotonic() + 30
    while dashboard.service._timer is None:
        assert time.monotonic() < deadline, "it does not notice that the page has gone"
        time.sleep(0.01)


def test_it_ends_when_it_is_told_to_and_so_do_its_streams(dashboard: Any) -> None:
    page = dashboard.socket("api/machine/watch")
    page.recv()
    assert dashboard.told("end") == {"done": True}
    dashboard.thread.join(30)
    assert not dashboard.thread.is_alive()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", dashboard.port), 5)
    page.shutdown()


def test_it_listens_on_this_computer_alone(outside: Any) -> None:
    with socket.socket() as sock:  # the same port of another address is free
        sock.bind(("127.0.0.2", outside.port))
