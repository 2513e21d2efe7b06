"""One client connection: HTTP/1.1 (RFC 9112) by h11 on a non-blocking socket.

The connection owns the socket itself, not an asyncio transport: nothing reads ahead while a handler runs, so that a
hijack can give the socket away whole, with no more than the bytes that h11 holds already.
"""

import asyncio
import logging
import posixpath
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote

import h11

from coved import versions
from coved.api.http import ClientTooSlow, Hijacked, Request, Response, aclose, json_response
from coved.api.query import Query
from coved.api.router import Route, Router
from coved.errors import EngineError, no_memory, no_room

if TYPE_CHECKING:
    from coved.engine import Engine

log = logging.getLogger(__name__)

# The head carries registry credentials (X-Registry-Config), so it may be larger than most servers allow.
HEAD_LIMIT = 1024 * 1024
IDLE_SECONDS = 600.0
HEAD_SECONDS = 60.0
BODY_STALL_SECONDS = 600.0
# What may be thrown away of a body that no handler wanted, before closing is cheaper.
DRAIN_LIMIT = 1024 * 1024
_CHUNK = 256 * 1024


class ClientGone(ConnectionError):
    """The client closed or broke the connection in the middle of a request."""


class Moved(EngineError):
    """The path is written in another way than its own (301)."""

    status = 301

    def __init__(self, location: str) -> None:
        super().__init__("moved permanently")
        self.location = location


class Hangups(Protocol):
    """Calls back when the peer of a socket has closed both directions."""

    def watch(self, fd: int, callback: Callable[[], None]) -> None: ...

    def forget(self, fd: int) -> None: ...


class Connection:
    """Serves the requests of one client, one after another, until it leaves or a request is hijacked."""

    def __init__(
        self,
        engine: "Engine",
        router: Router,
        sock: socket.socket,
        headers: list[tuple[str, str]],
        hangups: Hangups,
    ) -> None:
        self._engine = engine
        self._router = router
        self._sock = sock
        self._headers = headers
        self._hangups = hangups
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._task: asyncio.Task[Any] | None = None
        self._cancellable = False
        self._gone = False
        self._hijacked = False

    async def run(self) -> None:
        """Serves until the connection ends; never raises but for cancellation."""
        self._task = asyncio.current_task()
        self._hangups.watch(self._sock.fileno(), self._hung_up)
        try:
            while await self._serve_one():
                pass
        except (ConnectionError, TimeoutError):
            pass
        except asyncio.CancelledError:
            if not self._gone:
                raise
        except Exception:
            log.exception("connection failed")
        finally:
            if not self._hijacked:
                self._hangups.forget(self._sock.fileno())
                self._sock.close()

    def _hung_up(self) -> None:
        """The peer has closed both directions: whoever waits on its behalf need not wait any longer."""
        self._gone = True
        if self._cancellable and self._task is not None:
            self._task.cancel()

    # -- requests

    async def _serve_one(self) -> bool:
        """Serves one request; False when the connection is not to be used any further."""
        try:
            head = await self._read_head()
            if head is not None and not head.http_version.startswith(b"1."):
                raise h11.RemoteProtocolError("unsupported protocol version", 505)
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
            return False
        if head is None:
            return False
        self._engine.activity.begin()
        try:
            response = await self._answer(head)
            if self._hijacked:
                return False
            if response is not None:
                await self._send(head.method == b"HEAD", response)
        finally:
            self._engine.activity.end()
        await self._drain()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _read_head(self) -> h11.Request | None:
        deadline: float | None = None
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            started = bool(self._http.trailing_data[0])
            if started and deadline is None:
                deadline = self._loop.time() + HEAD_SECONDS
            async with asyncio.timeout_at(deadline if deadline is not None else self._loop.time() + IDLE_SECONDS):
                data = await self._loop.sock_recv(self._sock, _CHUNK)
            if not data and not started:
                return None
            self._http.receive_data(data)

    async def _answer(self, head: h11.Request) -> Response | None:
        started = time.monotonic()
        method = head.method.decode("ascii")
        target = head.target.decode("ascii", "replace")
        response: Response | None
        try:
            route, request = self._route(method, target, head)
            response = await self._handle(route, request)
        except Moved as error:
            response = Response(301, {"Location": error.location})
        except EngineError as error:
            response = Response(304) if error.status == 304 else json_response({"message": str(error)}, error.status)
        except h11.RemoteProtocolError as error:
            response = json_response({"message": f"malformed request body: {error}"}, error.error_status_hint)
        except ClientGone:
            raise
        except Exception as error:
            if (full := no_room(error) or no_memory(error)) is not None:
                response = json_response({"message": str(full)}, full.status)
            else:
                log.exception("%s %s failed", method, target)
                response = json_response({"message": "internal error, see the engine's log"}, 500)
        if log.isEnabledFor(logging.DEBUG):
            status = "hijacked" if response is None else response.status
            log.debug("%s %s %s %.1f ms", method, target, status, (time.monotonic() - started) * 1000)
        return response

    def _route(self, method: str, target: str, head: h11.Request) -> tuple[Route, Request]:
        if target.startswith(("http://", "https://")):  # the form that is sent to a proxy (RFC 9112, 3.2.2)
            target = "/" + target.split("://", 1)[1].partition("/")[2]
        raw_path, _, raw_query = target.partition("?")
        whole = unquote(raw_path)
        _must_be_clean(whole, raw_query)
        version, path = versions.split_path(whole)
        route, match = self._router.resolve(method, path)
        headers: dict[str, str] = {}
        for name, value in head.headers:
            headers[name.decode("ascii")] = value.decode("latin-1")
        request = Request(method, path, self, query=Query(raw_query), headers=headers, version=version, match=match)
        return route, request

    async def _handle(self, route: Route, request: Request) -> Response | None:
        self._cancellable = route.cancel_on_disconnect
        try:
            if self._gone and self._cancellable:
                raise ClientGone
            return await route.handler(self._engine, request)
        finally:
            self._cancellable = False

    # -- bodies (coved.api.http.Exchange)

    async def body(self) -> AsyncIterator[bytes]:
        """The body of the request that is being handled; raises ``ClientGone`` when it ends early."""
        while self._http.their_state is h11.SEND_BODY:
            event = await self._next_body_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _next_body_event(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            try:
                async with asyncio.timeout(BODY_STALL_SECONDS):
                    data = await self._loop.sock_recv(self._sock, _CHUNK)
            except TimeoutError:
                raise ClientTooSlow("the request's body did not go on") from None
            except ConnectionError as error:
                raise ClientGone from error
            if not data:
                raise ClientGone("the client left in the middle of its request's body")
            self._http.receive_data(data)

    async def hijack(self, head: bytes) -> Hijacked:
        """Reads the request to its end, answers ``head`` and gives the socket away."""
        async for _ in self.body():
            pass
        if self._http.their_state is h11.MUST_CLOSE or self._http.their_state is h11.CLOSED:
            pending = b""
        else:
            pending = bytes(self._http.trailing_data[0])
        await self._write(head)
        self._hijacked = True
        self._cancellable = False
        self._hangups.forget(self._sock.fileno())
        return Hijacked(self._sock.detach(), pending)

    async def _drain(self) -> None:
        """Reads what a handler left of a body, when that is little, so that the connection can be used again."""
        if self._http.their_state is not h11.SEND_BODY or self._http.they_are_waiting_for_100_continue:
            return
        left = DRAIN_LIMIT
        async with asyncio.timeout(1):
            async for chunk in self.body():
                left -= len(chunk)
                if left < 0:
                    return

    # -- responses

    async def _send(self, head_only: bool, response: Response) -> None:
        headers = [*self._headers, ("Date", _http_date()), *response.headers.items()]
        bodyless = head_only or response.status in (204, 304)
        body = response.body
        if isinstance(body, bytes):
            if response.status != 304 and response.status != 204:
                headers.append(("Content-Length", str(len(body))))
            data = self._http.send(_head(response.status, headers)) or b""
            if not bodyless and body:
                data += self._http.send(h11.Data(data=body)) or b""
            data += self._http.send(h11.EndOfMessage()) or b""
            if rest := self._write_now(data):
                # A stream waits for its reader; an answer that is whole must not keep what it holds for one that is gone.
                async with asyncio.timeout(BODY_STALL_SECONDS):
                    await self._write(rest)
            return
        await self._send_stream(headers, response.status, body, bodyless)

    async def _send_stream(
        self, headers: list[tuple[str, str]], status: int, body: AsyncIterator[bytes], bodyless: bool
    ) -> None:
        self._cancellable = True
        try:
            if self._gone:
                raise ClientGone
            await self._write(self._http.send(_head(status, headers)))
            if not bodyless:
                async for chunk in body:
                    if chunk:
                        await self._write(self._http.send(h11.Data(data=chunk)))
            await self._write(self._http.send(h11.EndOfMessage()))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            # The status is sent: all that is left is to end without the last chunk, which every client notices.
            if not isinstance(error, EngineError):
                log.exception("a streamed answer failed")
            raise ClientGone from error
        finally:
            self._cancellable = False
            await aclose(body)

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answers what is not HTTP, when an answer can still be given."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = json_response({"message": f"malformed request: {error}"}, error.error_status_hint)
            response.headers["Connection"] = "close"
            await self._send(False, response)

    def _write_now(self, data: bytes) -> bytes:
        """Sends what there is room for, which is all of it but for large answers; gives the rest."""
        try:
            return data[self._sock.send(data) :]
        except BlockingIOError:
            return data
        except ConnectionError as error:
            raise ClientGone from error

    async def _write(self, data: bytes | None) -> None:
        if data:
            try:
                await self._loop.sock_sendall(self._sock, data)
            except ConnectionError as error:
                raise ClientGone from error


_REASONS = {
    200: b"OK",
    201: b"Created",
    204: b"No Content",
    301: b"Moved Permanently",
    304: b"Not Modified",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}


def _must_be_clean(path: str, query: str) -> None:
    """Sends clients that ask for ``//info`` or ``/a/../info`` to ``/info``, as Go's router does; raises ``Moved``."""
    if "//" in path or "/." in path:
        clean = posixpath.normpath("/" + path.lstrip("/")) + ("/" if path.endswith("/") else "")
        if clean != path:
            raise Moved(quote(clean, safe="/:@") + (f"?{query}" if query else ""))


def _head(status: int, headers: list[tuple[str, str]]) -> h11.Response:
    # The reason phrase is optional by RFC 9112, and yet some clients look at it.
    return h11.Response(status_code=status, headers=headers, reason=_REASONS.get(status, b""))


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _http_date() -> str:
    """IMF-fixdate (RFC 9110, 5.6.7), whatever the locale."""
    now = time.gmtime()
    clock = f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
    return f"{_DAYS[now.tm_wday]}, {now.tm_mday:02} {_MONTHS[now.tm_mon - 1]} {now.tm_year} {clock} GMT"
