"""Who is let into the dashboard, and who is not: other pages, other names, other programs."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from cove.dashboard import doorkeeper, owners
from cove.dashboard.doorkeeper import Doorkeeper
from cove.dashboard.http import Request
from cove.dashboard.refusal import Refused


def test_a_token_opens_the_page_once(outside: Any) -> None:
    token = outside.token()
    first = outside.ask("GET", f"/open?token={token}")
    assert first.status == 303
    assert (
        outside.ask("GET", first.headers["location"], Cookie=first.headers["set-cookie"].partition(";")[0]).status
        == 200
    )
    again = outside.ask("GET", f"/open?token={token}")
    assert again.status == 401
    assert "cove dashboard" in again.body.decode()


def test_the_cookie_is_for_the_secret_path_of_this_page_alone(outside: Any) -> None:
    answer = outside.ask("GET", f"/open?token={outside.token()}")
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    base = answer.headers["location"]
    assert set(attributes) == {f"Path={base}", "HttpOnly", "SameSite=Strict"}
    assert len(base) > 20
    assert len(cookie.partition("=")[2]) > 40


@pytest.mark.parametrize("token", ["", "wrong", "%00", "é"])
def test_a_wrong_token_opens_nothing(outside: Any, token: str) -> None:
    outside.token()
    assert (
        outside.ask("GET", f"/open?token={token.encode().decode('latin-1') if token.isascii() else '%C3%A9'}").status
        == 401
    )


def keeper(now: list[float]) -> Doorkeeper:
    return Doorkeeper(1234, lambda: now[0])


def opening(token: str, method: str = "GET", **headers: str) -> Request:
    return Request(method, f"/open?token={token}", [("host", "127.0.0.1:1234"), *headers.items()])


def test_a_token_is_good_for_a_minute() -> None:
    now = [0.0]
    doors = keeper(now)
    soon, late = doors.token(), doors.token()
    now[0] = doorkeeper.TOKEN_S - 1
    doors.open(opening(soon))
    now[0] = doorkeeper.TOKEN_S + 1
    with pytest.raises(Refused):
        doors.open(opening(late))


def test_tokens_that_nobody_uses_do_not_pile_up() -> None:
    doors = keeper([0.0])
    tokens = [doors.token() for _ in range(100)]
    doors.open(opening(tokens[-1]))
    with pytest.raises(Refused):
        doors.open(opening(tokens[0]))


def test_a_browser_that_fetches_in_advance_uses_no_token() -> None:
    doors = keeper([0.0])
    token = doors.token()
    with pytest.raises(Refused):
        doors.open(opening(token, **{"sec-purpose": "prefetch;prerender"}))
    with pytest.raises(Refused):
        doors.open(opening(token, "HEAD"))
    doors.open(opening(token))


@pytest.mark.parametrize(
    "path", ["", "api/machine", "docker/_ping", "assets/index-Ab3_x-9z.js", "api/machine/watch", "nothing"]
)
@pytest.mark.parametrize("cookie", ["", "cove_dashboard=", "cove_dashboard=x", "other=1"])
def test_without_the_cookie_there_is_nothing(dashboard: Any, path: str, cookie: str) -> None:
    answer = dashboard.browse("GET", path, Cookie=cookie)
    assert answer.status == 401
    assert "cove dashboard" in answer.body.decode()


def test_cookies_of_other_programs_are_no_hindrance(dashboard: Any) -> None:
    answer = dashboard.browse("GET", "", Cookie=f'a={{"b": "c"}}; cove_dashboard=old; {dashboard.cookie}; d="')
    assert answer.status == 200


def test_the_cookie_alone_does_not_tell_the_path(dashboard: Any) -> None:
    for target in ("/", "/api/machine", "/docker/_ping", "/AAAAAAAAAAAAAAAAAAAAAA/"):
        assert dashboard.ask("GET", target, Cookie=dashboard.cookie).status == 404


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost",
        "[::1]:{port}",
        "127.0.0.1.:{port}",
    ],
)
def test_another_name_for_this_computer_is_refused(dashboard: Any, host: str) -> None:
    """DNS rebinding: a page of evil.example, whose name has come to be 127.0.0.1."""
    assert dashboard.browse("GET", "api/machine", Host=host.format(port=dashboard.port)).status == 421
    answer = dashboard.ask("GET", f"/open?token={dashboard.token()}", Host=host.format(port=dashboard.port))
    assert answer.status == 421


def test_localhost_is_this_computer(dashboard: Any) -> None:
    host = f"localhost:{dashboard.port}"
    assert dashboard.browse("GET", "", Host=host, Origin=f"http://{host}").status == 200
    assert dashboard.browse("GET", "", Host=host).status == 403, "a page of the other name is another page"


FOREIGN = (
    "https://evil.example",
    "null",
    "http://127.0.0.1:8080",
    "http://localhost:{port}",
    "https://127.0.0.1:{port}",
    "",
)


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_another_page_can_ask_nothing(dashboard: Any, method: str, origin: str) -> None:
    answer = dashboard.browse(method, "docker/containers/json", Origin=origin.format(port=dashboard.port))
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_what_changes_something_says_where_it_comes_from(dashboard: Any, method: str) -> None:
    headers = {"Cookie": dashboard.cookie, "Sec_Fetch_Site": "same-origin"}
    assert dashboard.ask(method, dashboard.base + "api/machine/stop", **headers).status == 403


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_a_browser_says_who_asks(dashboard: Any, site: str, status: int) -> None:
    headers = {"Cookie": dashboard.cookie, "Sec_Fetch_Site": site}
    assert dashboard.ask("GET", dashboard.base, **headers).status == status


def test_two_hosts_or_origins_are_none(dashboard: Any) -> None:
    for more in ("Host: evil.example", "Origin: https://evil.example"):
        with dashboard.raw(dashboard.head("GET", "", more)) as sock:
            assert sock.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("path", ["docker/events", "api/machine/watch", f"api/exec/{'0' * 64}/ws"])
@pytest.mark.parametrize(
    "options", [{"origin": "https://evil.example"}, {"suppress_origin": True}, {"cookie": ""}, {"host": "evil.example"}]
)
def test_another_page_gets_no_websocket(dashboard: Any, path: str, options: dict[str, Any]) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        dashboard.socket(path, **options)
    assert refused.value.status_code in (401, 403, 421)


def test_every_answer_says_what_a_page_may_do(dashboard: Any, engine: Callable[..., None]) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n"
    more = b"Access-Control-Allow-Origin: *\r\nSet-Cookie: a=b\r\nCache-Control: public\r\nRefresh: 0\r\n\r\nOK"
    engine(lambda sock: sock.recv(9999) and sock.sendall(head + more))
    for answer in (
        dashboard.browse("GET", ""), dashboard.browse("GET", "api/nothing"), dashboard.browse("GET", "", Cookie=""),
        dashboard.browse("GET", "", Host="evil.example"), dashboard.browse("GET", "docker/_ping"),
    ):  # fmt: skip
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers
        assert "refresh" not in answer.headers
    assert "sandbox" in dashboard.browse("GET", "docker/_ping").headers["content-security-policy"]


def test_each_browser_has_a_cookie_of_its_own(outside: Any) -> None:
    outside.enter()
    first = outside.cookie
    outside.enter()
    assert outside.cookie != first
    for cookie in (first, outside.cookie):
        assert outside.browse("GET", "", Cookie=cookie).status == 200


def test_an_address_that_comes_twice_ends_what_it_has_opened(outside: Any) -> None:
    """Of the two that had it one is not the user, and nobody knows which."""
    token = outside.token()
    answer = outside.ask("GET", f"/open?token={token}")
    outside.base = answer.headers["location"]
    outside.cookie = answer.headers["set-cookie"].partition(";")[0]
    page = outside.socket("api/machine/watch")
    assert json.loads(page.recv())["status"] == 200
    thief = outside.cookie
    outside.enter()
    assert outside.ask("GET", f"/open?token={token}").status == 401
    with pytest.raises((websocket.WebSocketException, OSError)):
        while page.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
            pass
        raise ConnectionError
    assert outside.browse("GET", "", Cookie=thief).status == 401
    assert outside.browse("GET", "").status == 200, "those by other addresses go on"


def test_sessions_do_not_pile_up() -> None:
    doors = keeper([0.0])
    ended: list[str] = []
    doors.ended = ended.append
    for _ in range(doorkeeper.MAX_SESSIONS + 1):
        doors.open(opening(doors.token()))
    assert len(ended) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell whose a connection is")
def test_programs_of_other_users_are_not_heard(outside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getuid()
    monkeypatch.setattr(owners, "_ROOT", -1)
    token = outside.token()
    monkeypatch.setattr(owners.os, "getuid", lambda: mine + 1)
    with outside.raw() as sock, pytest.raises(ConnectionResetError):
        sock.sendall(f"GET /open?token={token} HTTP/1.1\r\nHost: 127.0.0.1:{outside.port}\r\n\r\n".encode())
        assert sock.recv(100) == b""
        raise ConnectionResetError
    monkeypatch.setattr(owners.os, "getuid", lambda: mine)
    assert outside.ask("GET", f"/open?token={token}").status == 303, "nor do they use up an address"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell whose a connection is")
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")])
def test_it_is_known_whose_a_connection_is(family: int, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(family) as client:
        ours = listener.getsockname()[1]
        client.connect((host, ours))
        with listener.accept()[0] as accepted:
            port = accepted.getpeername()[1]
            assert owners.of_client(port, ours) is True
            monkeypatch.setattr(owners.os, "getuid", lambda: 4242)
            monkeypatch.setattr(owners, "_ROOT", 4243)
            assert owners.of_client(port, ours) is False
            client.close()
            assert owners.of_client(port, ours) is None, "what its program has closed is nobody's"
