"""Requests to a repository: uploads that break, mounts, and what goes with them."""

from __future__ import annotations

import base64
import io
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from coved.images.streams import Aborted
from coved.outside import Outside
from coved.registry import calls, proxies, tls, wire
from coved.registry.credentials import Credentials
from coved.registry.errors import RegistryError
from coved.registry.repository import Repository
from coved.registry.settings import Endpoint
from coved.registry.wire import Wire
from faulty import Answer, Asked, Faulty, digest_of, errors, json_answer

DATA = os.urandom(100_000)
NONE = Outside()


@pytest.fixture
def call() -> Iterator[calls.Call]:
    with calls.Call() as made:
        yield made


def repository(server: Faulty, *, outside: Outside = NONE) -> Repository:
    endpoint = Endpoint("http", server.host, insecure=True)
    made = Repository(
        Wire(tls.context(endpoint, []), proxy=lambda url: proxies.chosen(outside, url)),
        endpoint,
        "a",
        Credentials("joe", "secret"),
        "push,pull",
    )
    made.auth.ping()
    return made


class Uploads:
    """A server's side of an upload; ``part`` bytes are taken of each PATCH whose number is in ``break_at``."""

    def __init__(self, server: Faulty, break_at: tuple[int, ...] = (), part: int = 30_000) -> None:
        self.data = b""
        self.patches = 0
        self._break_at, self._part = break_at, part
        started = Answer(202, b"", {"Location": "/v2/a/blobs/uploads/1"})
        server.rules[("POST", "/v2/a/blobs/uploads/")] = started
        server.rules[("PATCH", "/v2/a/blobs/uploads/1")] = self.patch
        server.rules[("GET", "/v2/a/blobs/uploads/1")] = self.status
        server.rules[("PUT", "/v2/a/blobs/uploads/1")] = self.put
        self.committed = ""

    def patch(self, asked: Asked) -> Answer:
        self.patches += 1
        start, _, end = asked.headers["content-range"].partition("-")
        assert (int(start), int(end)) == (len(self.data), len(self.data) + len(asked.body) - 1)
        if self.patches in self._break_at:
            self.data += asked.body[: self._part]
            return Answer(raw=b"")
        self.data += asked.body
        return Answer(202, b"", {"Location": "/v2/a/blobs/uploads/1", "Range": f"0-{len(self.data) - 1}"})

    def status(self, asked: Asked) -> Answer:
        done = {"Range": f"0-{max(len(self.data) - 1, 0)}", "Location": "/v2/a/blobs/uploads/1"}
        return Answer(204, b"", done)

    def put(self, asked: Asked) -> Answer:
        self.committed = asked.path.partition("digest=")[2].replace("%3A", ":")
        return Answer(201)


@pytest.mark.parametrize("break_at", [(), (1,), (1, 2), (2,)], ids=str)
def test_an_upload_goes_on_where_it_broke(
    server: Faulty, call: calls.Call, break_at: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coved.registry.repository._PART", 60_000)
    uploads = Uploads(server, break_at)
    made = repository(server)
    seen: list[int] = []
    made.upload(made.start_upload(), io.BytesIO(DATA), len(DATA), digest_of(DATA), seen.append)
    assert uploads.data == DATA
    assert uploads.committed == digest_of(DATA)
    assert seen[-1] == len(DATA)


def test_an_upload_that_always_breaks_fails(server: Faulty, call: calls.Call) -> None:
    Uploads(server, tuple(range(100)), part=0)
    made = repository(server)
    with pytest.raises(RegistryError, match="EOF"):
        made.upload(made.start_upload(), io.BytesIO(DATA), len(DATA), digest_of(DATA), lambda _: None)
    assert len(server.seen("PATCH", "/v2/a/blobs/uploads/1")) == 4


def test_a_refused_upload(server: Faulty, call: calls.Call) -> None:
    Uploads(server)
    server.rules[("PUT", "/v2/a/blobs/uploads/1")] = errors(400, "DIGEST_INVALID", "no", 1)
    made = repository(server)
    with pytest.raises(RegistryError, match="digest invalid: no"):
        made.upload(made.start_upload(), io.BytesIO(DATA), len(DATA), digest_of(DATA), lambda _: None)


def test_a_mount(server: Faulty, call: calls.Call) -> None:
    made = repository(server)
    server.rules[("POST", "/v2/a/blobs/uploads/")] = Answer(201)
    assert made.mount(digest_of(DATA), "other/thing") is None
    server.rules[("POST", "/v2/a/blobs/uploads/")] = Answer(202, b"", {"Location": "/v2/a/blobs/uploads/1"})
    assert made.mount(digest_of(DATA), "other/thing") == f"{server.url}/v2/a/blobs/uploads/1"
    asked = server.seen("POST", "/v2/a/blobs/uploads/")[0]
    assert "from=other%2Fthing" in asked.path


def test_uploads_go_nowhere_else_with_credentials(
    server: Faulty, call: calls.Call, another: Callable[[], Faulty]
) -> None:
    server.rules[("GET", "/v2/")] = Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    elsewhere = another()
    uploads = Uploads(elsewhere)
    server.rules[("POST", "/v2/a/blobs/uploads/")] = Answer(
        202, b"", {"Location": f"{elsewhere.url}/v2/a/blobs/uploads/1"}
    )
    made = repository(server)
    made.upload(made.start_upload(), io.BytesIO(DATA), len(DATA), digest_of(DATA), lambda _: None)
    assert uploads.data == DATA
    assert server.asked[-1].headers["authorization"]
    assert not [one for one in elsewhere.asked if "authorization" in one.headers]


def test_a_kept_connection_that_was_closed_is_no_error(server: Faulty, call: calls.Call) -> None:
    made = repository(server)
    server.rules[("GET", "/v2/a/tags/list")] = json_answer({"tags": ["x"]})
    made.tags()
    for one in server._open:
        one.shutdown(2)
    assert made.tags() == ["x"]


def test_a_registry_that_says_nothing_is_given_up(
    server: Faulty, call: calls.Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ANSWER_SECONDS", 0.2)
    never = threading.Event()
    server.rules[("GET", "/v2/")] = Answer(hold=never)
    before = time.monotonic()
    with pytest.raises(RegistryError, match="timeout awaiting response headers"):
        repository(server)
    assert time.monotonic() - before < 50
    never.set()


def test_a_head_that_comes_by_drops_is_given_up(
    server: Faulty, call: calls.Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ANSWER_SECONDS", 0.5)
    server.rules[("GET", "/v2/")] = Answer(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000)
    with pytest.raises(RegistryError, match=r"timeout awaiting response headers|EOF|reset"):
        repository(server)


def test_a_body_that_stalls_is_given_up(server: Faulty, call: calls.Call, monkeypatch: pytest.MonkeyPatch) -> None:
    made = repository(server)
    monkeypatch.setattr(wire, "DOCUMENT_SECONDS", 0.2)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"

    def stall(asked: Asked) -> Answer:
        server._open[-1].sendall(head)
        return Answer(hold=never, raw=b"")

    never = threading.Event()
    server.rules[("GET", "/v2/a/tags/list")] = stall
    before = time.monotonic()
    with pytest.raises(RegistryError, match="unexpected EOF"):
        made.tags()
    assert time.monotonic() - before < 50
    never.set()


def test_a_call_that_is_given_up_ends_at_once(server: Faulty) -> None:
    never = threading.Event()
    server.rules[("GET", "/v2/")] = Answer(hold=never)
    with calls.Call() as call:
        threading.Timer(0.2, call.give_up).start()
        before = time.monotonic()
        with pytest.raises(Aborted):
            repository(server)
        assert time.monotonic() - before < 50
    never.set()


def test_a_port_that_is_published_leads_to_its_container(server: Faulty, call: calls.Call) -> None:
    endpoint = Endpoint("http", "localhost:5000", insecure=True)
    host, _, port = server.host.partition(":")
    made = Wire(tls.context(endpoint, []), addresses={("localhost", 5000): (host, int(port))})
    response = made.send("GET", f"{endpoint.url}/v2/")
    response.done()
    assert response.status == 200
    assert server.asked[0].headers["host"] == "localhost:5000"


def test_a_proxy_is_asked_but_not_for_this_computer(
    server: Faulty, call: calls.Call, another: Callable[[], Faulty]
) -> None:
    proxy = another()
    proxy.rules[("GET", "http://registry.test/v2/")] = Answer(200, b"{}")
    outside = Outside(f"http://someone:w%40rd@{proxy.host}")
    made = Wire(tls.context(Endpoint("http", "registry.test"), []), proxy=lambda url: proxies.chosen(outside, url))
    response = made.send("GET", "http://registry.test/v2/")
    response.done()
    assert response.status == 200
    told = proxy.asked[0].headers["proxy-authorization"]
    assert base64.b64decode(told.removeprefix("Basic ")) == b"someone:w@rd"
    repository(server, outside=outside)
    assert len(proxy.asked) == 1


def test_a_name_that_does_not_exist(call: calls.Call) -> None:
    endpoint = Endpoint("https", "registry.invalid")
    with pytest.raises(RegistryError, match=r'Get "https://registry.invalid/v2/": dial tcp: lookup registry.invalid: '):
        Wire(tls.context(endpoint, [])).send("GET", f"{endpoint.url}/v2/")


def test_a_password_goes_to_no_token_server_without_tls(server: Faulty, call: calls.Call) -> None:
    from coved.registry.auth import Authorizer

    endpoint = Endpoint("https", "registry.test")
    made = Authorizer(Wire(tls.context(endpoint, [])), endpoint, Credentials("joe", "secret"))
    made._challenges = [("bearer", {"realm": f"{server.url}/token"})]
    with pytest.raises(RegistryError, match="without TLS"):
        made.headers("https://registry.test/v2/")
    assert not server.asked
