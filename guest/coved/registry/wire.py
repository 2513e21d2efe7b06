"""HTTP with registries: urllib3, in threads, with errors in the words of Go's net/http.

Redirects are followed here and not by urllib3, because each address decides anew whether it is told who asks.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from coved import __version__
from coved.images.streams import Aborted
from coved.registry import calls, challenges
from coved.registry.errors import NotAuthorized, RegistryError, of_answer

CONNECT_SECONDS = 30.0
ANSWER_SECONDS = 60.0
"""From a request's last byte to the end of its answer's head."""
STALL_SECONDS = 60.0
"""Between two pieces of a body."""
DOCUMENT_SECONDS = 60.0
DOCUMENT_MAX = 4 * 1024 * 1024
_ERROR_MAX = 64 * 1024
_REDIRECTS_MAX = 10
_URL_MAX = 16 * 1024
_CHUNK = 256 * 1024
_REFUSED_BY_PROXY = "Tunnel connection failed: "
"""What http.client says of a proxy's answer to CONNECT, before its status and reason; Go's client says the reason alone."""

# Who may be insecure has been said by whoever runs the engine.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

Headers = Mapping[str, str]
Authorize = Callable[[str], dict[str, str]]
"""Given an address, the headers that tell it who asks."""
Chosen = Callable[[str], str]
"""Given an address, that of the proxy that it is asked by, or ""."""

_local = threading.local()


class Response:
    """The head has been read; the body comes with ``read``. Use it as a context, or read it to its end."""

    def __init__(self, method: str, url: str, raw: urllib3.BaseHTTPResponse) -> None:
        self._method = method
        self._raw = raw
        self.url = url
        self.status = raw.status
        self.headers = {name.lower(): value for name, value in raw.headers.items()}
        self.challenges = challenges.parse(raw.headers.getlist("WWW-Authenticate"))

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """The words behind the status."""
        return self._raw.reason or _reason(self.status, None)

    @property
    def length(self) -> int | None:
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, b"" at the end. Raises RegistryError, with what had come before lost to no one."""
        calls.current().check()
        with _words(self._method, self.url, reading=True):
            data: bytes = self._raw.read(size, decode_content=False)
        if not data:
            calls.current().check()  # a connection that was given up ends, too
        return data

    def document(self, limit: int = DOCUMENT_MAX) -> bytes:
        """The whole body. Raises RegistryError when it is larger than ``limit`` bytes, or too slow."""
        data = bytearray()
        with self, calls.current().within(DOCUMENT_SECONDS):
            while piece := self.read(min(_CHUNK, limit + 1 - len(data))):
                data += piece
                if len(data) > limit:
                    raise RegistryError(f"the answer of {self.url} is larger than {limit} bytes", again=False)
        if self.length is not None and len(data) < self.length and self._method != "HEAD":
            raise RegistryError(f'{self._method.title()} "{self.url}": unexpected EOF')
        return bytes(data)

    def error(self) -> RegistryError:
        """What this answer says instead of what was hoped for."""
        try:
            body = b"" if self._method == "HEAD" else self.document(_ERROR_MAX)
        except RegistryError as error:
            return error
        return of_answer(self.status, _reason(self.status, self._raw.reason), self.headers, body, self.challenges)

    def done(self) -> None:
        """The body is of no interest; a small one is read, so that the connection can be used again."""
        with self:
            length = 0 if self._method == "HEAD" or self.status == 204 else self.length
            if length is not None and length <= _ERROR_MAX:
                while self.read(_CHUNK):
                    pass

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *error: object) -> None:
        # What has been read to its end is in the pool again; any other connection is of no more use.
        self._raw.close()


class Wire:
    """Connections to one registry, and to where it redirects. Every method blocks, and belongs in a ``calls.Call``."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        addresses: Mapping[tuple[str, int], tuple[str, int]] | None = None,
        proxy: Chosen = lambda _: "",
        proxy_context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """``addresses``: where to connect instead, for some hosts and ports; ``proxy_context``: for proxies that speak TLS."""
        self._addresses = dict(addresses or {})
        self._proxy = proxy
        self._context = context
        self._proxy_context = proxy_context or (lambda: context)
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Headers | None = None,
        body: bytes | Iterable[bytes] | None = None,
        authorize: Authorize | None = None,
    ) -> Response:
        """Sends one request and follows redirects; raises RegistryError when there is no answer."""
        for _ in range(_REDIRECTS_MAX):
            _check(url)
            sent = {"User-Agent": f"cove/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
            if authorize is not None:
                sent |= _told(method, url, authorize)
            response = self._once(method, url, sent, body)
            target = _redirection(method, response, body)
            if target is None:
                return response
            response.done()
            url = target
        raise RegistryError(f'{method.title()} "{url}": stopped after {_REDIRECTS_MAX} redirects', again=False)

    def close(self) -> None:
        for manager in self._managers.values():
            manager.clear()

    def _once(self, method: str, url: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None) -> Response:
        call = calls.current()
        call.check()
        manager = self._manager(url)
        again = body is None or isinstance(body, bytes)
        while True:
            _local.addresses, _local.reused, _local.fresh = self._addresses, False, False
            _local.to_proxy = manager.proxy is not None
            try:
                with call.within(_answer_seconds(body)) as late, _words(method, url, late=late):
                    raw = manager.urlopen(
                        method, url, body=body, headers=headers, redirect=False, retries=False, preload_content=False,
                        decode_content=False, timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS),
                    )  # fmt: skip
                return Response(method, url, raw)
            except _Broken:
                # A connection that has been kept, and that the registry has closed just as it was used.
                if not (again and _local.reused):
                    raise
                again = False

    def _manager(self, url: str) -> urllib3.PoolManager:
        proxy = self._proxy(url)
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = _pool_manager(proxy, self._context, self._proxy_context)
            return self._managers[proxy]


def _told(method: str, url: str, authorize: Authorize) -> dict[str, str]:
    try:
        return authorize(url)
    except RegistryError as error:
        words = f'{method.title()} "{url}": {error}'
        raise NotAuthorized(words, again=error.again, spoke=error.spoke) from error


class _Broken(RegistryError):
    """The connection ended before the answer began."""


def _pool_manager(
    proxy: str, context: ssl.SSLContext, proxy_context: Callable[[], ssl.SSLContext]
) -> urllib3.PoolManager:
    options: dict[str, Any] = {"ssl_context": context, "maxsize": 16, "block": False}
    made: urllib3.PoolManager
    if proxy:
        login = urlsplit(proxy)
        secret = f"{unquote(login.username)}:{unquote(login.password or '')}" if login.username else None
        if login.scheme == "https":
            options["proxy_ssl_context"] = proxy_context()
        address = f"{login.scheme}://{login.netloc.rpartition('@')[2]}"  # nothing that could end up in an error's words
        made = urllib3.ProxyManager(address, proxy_headers=urllib3.make_headers(proxy_basic_auth=secret), **options)
    else:
        made = urllib3.PoolManager(**options)
    made.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return made


class _Http(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _dial(self._dns_host, self.port or 80)

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        _watch(self)
        super().putrequest(*arguments, **options)


class _Https(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _dial(self._dns_host, self.port or 443)

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        _watch(self)
        super().putrequest(*arguments, **options)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


def _watch(connection: HTTPConnection) -> None:
    if connection.sock is not None and not _local.__dict__.pop("fresh", False):
        _local.reused = True
        calls.current().watch(connection.sock)


def _dial(host: str, port: int) -> socket.socket:
    """A TCP connection. Raises RegistryError in Go's words."""
    try:
        return _dialled(host, port)
    except RegistryError as error:
        if not _local.to_proxy:
            raise
        raise RegistryError(f"proxyconnect tcp: {error}", again=error.again, spoke=error.spoke) from None


def _dialled(host: str, port: int) -> socket.socket:
    name = host.strip("[]")
    if not _local.to_proxy:
        name, port = _local.addresses.get((name, port), (name, port))
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        missing = error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5))
        raise RegistryError(
            f"dial tcp: lookup {name}: {'no such host' if missing else 'server misbehaving'}", spoke=False
        ) from None
    except UnicodeError:
        raise RegistryError(f"dial tcp: lookup {name}: no such host", spoke=False) from None
    failure: RegistryError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            calls.current().watch(sock)
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            sock.close()
            calls.current().check()
            ip = str(address[0])
            where = f"[{ip}]:{port}" if family == socket.AF_INET6 else f"{ip}:{port}"
            failure = failure or RegistryError(f"dial tcp {where}: {_dial_words(error)}", spoke=False)
        except BaseException:
            sock.close()
            raise
        else:
            _local.fresh = True
            return sock
    raise failure or RegistryError(f"dial tcp: lookup {name}: no such host", spoke=False)


def _dial_words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    return f"connect: {os.strerror(error.errno).lower()}" if error.errno else f"connect: {error}"


@contextmanager
def _words(method: str, url: str, *, reading: bool = False, late: Callable[[], bool] = bool) -> Iterator[None]:
    """Errors of urllib3 become RegistryError, as Go's client would put them."""
    start = "" if reading else f'{method.title()} "{url}": '
    try:
        yield
    except Aborted:
        raise
    except RegistryError as error:
        raise RegistryError(f"{start}{error}", again=error.again, spoke=error.spoke) from None
    except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
        calls.current().check()
        if late():
            raise RegistryError(f"{start}net/http: timeout awaiting response headers", spoke=False) from None
        text, spoke = _say(error)
        kind = _Broken if text in ("EOF", "read: connection reset by peer") else RegistryError
        raise kind(f"{start}{'unexpected EOF' if reading and text == 'EOF' else text}", spoke=spoke) from None


def _say(error: BaseException) -> tuple[str, bool]:
    """Words, and whether HTTP has been spoken."""
    chain: list[BaseException] = []
    nested: BaseException | None = error
    while nested is not None and nested not in chain:
        chain.append(nested)
        inner = [one for one in nested.args if isinstance(one, BaseException)]
        reason = getattr(nested, "original_error", None) or getattr(nested, "reason", None)
        nested = inner[0] if inner else reason if isinstance(reason, BaseException) else nested.__cause__
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"tls: failed to verify certificate: {_certificate_words(one)}", False
        if isinstance(one, ssl.SSLError):
            return _tls_words(one), False
    for one in chain:
        if isinstance(one, RegistryError):
            return str(one), one.spoke
        if isinstance(one, RemoteDisconnected | IncompleteRead):
            return "EOF", False
        if isinstance(one, urllib3.exceptions.TimeoutError | TimeoutError):
            return "net/http: timeout awaiting response headers", False
        if isinstance(one, OSError) and one.errno == errno.ECONNRESET:
            return "read: connection reset by peer", False
        if isinstance(one, OSError) and str(one).startswith(_REFUSED_BY_PROXY):
            return str(one).removeprefix(_REFUSED_BY_PROXY).partition(" ")[2], False
        if isinstance(one, HTTPException):
            return f"net/http: HTTP/1.x transport connection broken: malformed HTTP response: {one}", False
    return str(chain[-1]), False


def _certificate_words(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (9, 10):
        return "x509: certificate has expired or is not yet valid"
    if error.verify_code in (62, 64):
        return f"x509: {error.verify_message}"
    if error.verify_code in (18, 19, 20, 21, 2, 27):
        return "x509: certificate signed by unknown authority"
    return f"x509: {error.verify_message}"


def _tls_words(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
    ):
        return "http: server gave HTTP response to HTTPS client"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "EOF"
    if "ALERT" in reason:
        return f"remote error: tls: {reason.partition('ALERT_')[2].lower().replace('_', ' ') or reason.lower()}"
    return f"tls: {reason.lower().replace('_', ' ') or error}"


def _check(url: str) -> None:
    """What is not an address that one can ask is an error of the registry, which has given it."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        parts.port  # noqa: B018 - it raises ValueError for one that is none
    except ValueError:
        fine = False
    if not fine or len(url) > _URL_MAX or not url.isascii() or any(one <= " " or one == "\x7f" for one in url):
        raise RegistryError(f"the registry gave an address that cannot be used: {url[:200]!a}", again=False)


def _redirection(method: str, response: Response, body: bytes | Iterable[bytes] | None) -> str | None:
    location = response.headers.get("location", "")
    if response.status not in (301, 302, 303, 307, 308) or not location:
        return None
    target = urljoin(response.url, location)
    if method in ("GET", "HEAD"):
        return target
    # A body may hold secrets (oauth2): it goes to no other host than the one that it was meant for.
    if response.status in (307, 308) and isinstance(body, bytes | None) and origin(target) == origin(response.url):
        return target
    return None


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def _answer_seconds(body: bytes | Iterable[bytes] | None) -> float:
    # A body takes as long as it takes; a stall of it is noticed by the socket's own time limit.
    return ANSWER_SECONDS if body is None or isinstance(body, bytes) else 86400.0


def _reason(status: int, given: str | None) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return given or ""
