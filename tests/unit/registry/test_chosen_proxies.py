"""Which addresses are asked by a proxy, as golang.org/x/net/http/httpproxy has it; and what a proxy that fails is called."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from coved.outside import Outside, masked
from coved.registry import calls, proxies, tls
from coved.registry.errors import RegistryError
from coved.registry.settings import Endpoint
from coved.registry.wire import Wire

PROXY = "http://joe:s%40cret@proxy:3128"


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        ("", "https://a.test/", True),
        ("", "http://localhost:5000/", False),
        ("", "http://127.1.2.3/", False),
        ("", "http://[::1]:5000/", False),
        ("", "https://10.0.2.2/", True),
        ("*", "https://a.test/", False),
        ("a.test", "https://a.test/", False),
        ("a.test", "https://b.a.test/", False),
        ("a.test", "https://ba.test/", True),
        (".a.test", "https://a.test/", True),
        (".a.test", "https://b.a.test/", False),
        ("*.a.test", "https://c.b.a.test/", False),
        (" x , A.TEST ", "https://A.test/", False),
        ("a.test:443", "https://a.test/", False),
        ("a.test:443", "https://a.test:8443/", True),
        ("a.test:80", "http://a.test/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
        ("10.1.2.3", "https://10.1.2.3:5000/", False),
        ("10.1.2.3:80", "https://10.1.2.3:5000/", True),
        ("fd00::/8", "https://[fd00::1]/", False),
        ("fd00::1", "https://[fd00:0::1]/", False),
        ("[fd00::1]:443", "https://[fd00::1]:444/", True),
        ("10.0.0.0/99,/,:,,[", "https://a.test/", True),
    ],
)
def test_what_is_not_proxied(no_proxy: str, url: str, proxied: bool) -> None:
    outside = Outside(PROXY, PROXY, no_proxy)
    assert proxies.chosen(outside, url) == (PROXY if proxied else "")


def test_each_scheme_has_its_own() -> None:
    assert proxies.chosen(Outside(https="proxy:1"), "https://a.test/") == "http://proxy:1"
    assert proxies.chosen(Outside(https="proxy:1"), "http://a.test/") == ""


def test_what_cannot_be_one_is_told_without_who_asks() -> None:
    for wrong in ("socks5://joe:s%40cret@proxy", "http://joe:s%40cret@:1", "http://joe:s%40cret@proxy:0"):
        with pytest.raises(RegistryError, match=r"^proxyconnect tcp: proxy: ") as told:
            proxies.chosen(Outside(wrong), "http://a.test/")
        assert "cret" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("", ""),
        ("http://proxy:1", "http://proxy:1"),
        ("proxy:1", "proxy:1"),
        ("http://joe@proxy:1/x", "http://xxxxx:xxxxx@proxy:1/x"),
        ("http://joe:a@b/c@proxy:1", "http://xxxxx:xxxxx@proxy:1"),
        ("joe:word@proxy:1", "xxxxx:xxxxx@proxy:1"),
        ("joe:a://b@proxy:1", "xxxxx:xxxxx@proxy:1"),
    ],
)
def test_it_is_shown_without_who_asks(given: str, shown: str) -> None:
    assert masked(given) == shown


def asked(proxy: str, url: str) -> str:
    """What becomes of a request by this proxy."""
    outside = Outside(proxy, proxy)
    wire = Wire(tls.context(Endpoint("https", "a.test"), []), proxy=lambda one: proxies.chosen(outside, one))
    with calls.Call(), pytest.raises(RegistryError) as told:
        wire.send("GET", url)
    return str(told.value)


@pytest.fixture
def refusing() -> Iterator[str]:
    """A proxy that wants to know who asks."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"joe:s%40cret@127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def test_one_that_refuses(refusing: str) -> None:
    assert (
        asked(f"http://{refusing}", "https://a.test/v2/") == 'Get "https://a.test/v2/": Proxy Authentication Required'
    )


def test_one_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = f"proxyconnect tcp: dial tcp 127.0.0.1:{port}: connect: connection refused"
    for url in ("https://a.test/v2/", "http://a.test/v2/"):
        assert asked(f"http://joe:s%40cret@127.0.0.1:{port}", url) == f'Get "{url}": {words}'
    assert "proxyconnect tcp: dial tcp: lookup proxy.invalid: " in asked(
        "http://joe:x@proxy.invalid", "https://a.test/"
    )


def test_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    from coved.errors import InvalidParameter

    with pytest.raises(InvalidParameter, match="the certificates of the host cannot be read"):
        tls.context(Endpoint("https", "a.test"), [], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    context = tls.context(Endpoint("https", "a.test"), [tmp_path])
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
