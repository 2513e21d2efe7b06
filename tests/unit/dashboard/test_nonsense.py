"""Whatever is sent to the dashboard, it answers in HTTP or ends the connection, and notes no failure of its own."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", "PRI", ""])
PATHS = st.sampled_from(
    [
        "", "api/machine/stop?", "api/machine/watch", "api/settings", "docker/_ping", "docker/", "api/exec//ws",
        "api/exec/1/ws?cols=a&rows=", "?%", "%zz", "assets/../..", "api/machine/watch?" + "a=&" * 100,
    ]
)  # fmt: skip
HEADERS = st.lists(
    st.sampled_from(
        [
            "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", "Content-Length: 3",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Key: x", "Transfer-Encoding: chunked", "Expect: 100-continue",
            "Content-Length: 99999999999999999999", "Cookie: ;;=;\"", "Sec-WebSocket-Extensions: permessage-deflate; x=1", "X: \xff",
            "Accept-Encoding: ;q=,br;;", "Sec-WebSocket-Protocol: a, b", "Connection: close",
        ]
    ),
    max_size=6,
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"", b"{}", b"3\r\n{}}\r\n0\r\n\r\n", b"\x81\x80abcd", b"\xff" * 20, b"\x88\x00"]),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(method=METHODS, path=PATHS, headers=HEADERS, body=BODIES)
def test_it_answers_or_ends(
    dashboard: Any, caplog: pytest.LogCaptureFixture, method: str, path: str, headers: list[str], body: bytes
) -> None:
    lines = [
        f"{method} {dashboard.base}{path} HTTP/1.1",
        f"Host: 127.0.0.1:{dashboard.port}",
        f"Cookie: {dashboard.cookie}",
    ]
    head = "\r\n".join([*lines, f"Origin: {dashboard.origin}", *headers, "", ""]).encode("latin-1")
    said = exchange(dashboard, head + body)
    assert not said or said.startswith(b"HTTP/1.1 ")
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.binary(min_size=1, max_size=2000))
def test_so_it_does_with_what_is_no_http(dashboard: Any, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    said = exchange(dashboard, data)
    assert not said or said.startswith(b"HTTP/1.1 ")
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


def exchange(dashboard: Any, data: bytes) -> bytes:
    """What comes back until the end, when nothing follows."""
    with dashboard.raw(data) as sock:
        sock.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while part := sock.recv(1 << 16):
                said += part
        except ConnectionResetError:
            pass
        return said
