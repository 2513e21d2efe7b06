"""HTTP/1.1, the server's side, with h11 for the protocol: a connection, one request on it at a time, all of it bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import h11

from cove.dashboard.refusal import Refused

CHUNK = 1 << 16
MAX_HEAD = 32 << 10
HEAD_S = 10.0
"""For a whole head, from its first byte on."""
IDLE_S = 75.0
"""For the next request on a connection."""
IDLE_OUTSIDE_S = 10.0
"""The same, of somebody who has not been let in yet."""
BODY_S = 60.0
"""For the next bytes of a body."""
SEND_S = 60.0
"""For an answer that is whole; a stream waits for who reads it slowly, or not at present."""
LINGER_S = 2.0
LINGER = 1 << 20

WORDS = {
    431: "431 Request Header Fields Too Large: your browser sends too much with its question; delete its cookies of 127.0.0.1\n"
}

Headers = Sequence[tuple[str, str]]


class Gone(Exception):
    """The client has hung up."""


@dataclass(frozen=True)
class Request:
    """`target` as it came; names of headers in small letters."""

    method: str
    target: str
    headers: Headers

    @cached_property
    def path(self) -> str:
        """Not decoded."""
        return self.target.partition("?")[0]

    @cached_property
    def query(self) -> dict[str, str]:
        """The last of those of a name."""
        return dict(self._arguments)

    @cached_property
    def _arguments(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    def argument(self, name: str) -> str:
        """ "" for none. Raises `Refused` when there are several: who reads them next may take another."""
        found = [value for key, value in self._arguments if key == name]
        if len(found) > 1:
            raise Refused(400, f"{name} is there {len(found)} times")
        return found[0] if found else ""

    @property
    def upgrade(self) -> bool:
        """Whether the client asks for another protocol."""
        return bool(self.all("upgrade"))

    @property
    def has_body(self) -> bool:
        return bool(self.all("transfer-encoding")) or self.header("content-length") not in (None, "0")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def only(self, name: str) -> str | None:
        """Raises `Refused` when there are several."""
        if len(found := self.all(name)) > 1:
            raise Refused(400, f"there are {len(found)} headers {name}")
        return found[0] if found else None

    def below(self, prefix: str) -> Request:
        """The same request with the prefix of its target, but for the slash, left out."""
        return Request(self.method, "/" + self.target.removeprefix(prefix), self.headers)


class Answer(Protocol):
    """Of whoever answers a request. All raise `Gone`."""

    request: Request
    begun: bool

    def body(self) -> AsyncIterator[bytes]:
        """What the client sends. Raises `Refused` when it falls silent."""

    async def begin(self, status: int, headers: Headers) -> None: ...

    async def send(self, data: bytes) -> None:
        """Waits while the client does not take it."""

    async def end(self) -> None: ...

    async def gone(self) -> None:
        """Returns when the client has hung up. Once the body has been read."""


async def read_whole(answer: Answer, limit: int) -> bytes:
    """The body. Raises `Refused` when it is longer than the limit."""
    parts, size = [], 0
    async for part in answer.body():
        size += len(part)
        if size > limit:
            raise Refused(413, "this request is too long")
        parts.append(part)
    return b"".join(parts)


async def reply(answer: Answer, status: int, headers: Headers, data: bytes) -> None:
    """A whole answer."""
    try:
        async with asyncio.timeout(SEND_S):
            await answer.begin(status, [*headers, ("Content-Length", str(len(data)))])
            if answer.request.method != "HEAD":
                await answer.send(data)
            await answer.end()
    except TimeoutError:
        raise Gone from None


async def reply_json(answer: Answer, value: Any, status: int = 200) -> None:
    data = json.dumps(value, ensure_ascii=False, default=str).encode()
    await reply(answer, status, [("Content-Type", "application/json")], data)


class Events:
    """An answer of text/event-stream."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def begin(self) -> None:
        await self._answer.begin(200, [("Content-Type", "text/event-stream")])

    async def send(self, value: Any) -> None:
        data = json.dumps(value, ensure_ascii=False, default=str)
        await self._answer.send(f"data: {data}\n\n".encode())

    async def end(self) -> None:
        await self._answer.end()


async def unless_gone(answer: Answer, work: Awaitable[None]) -> None:
    """Wait for the work, which is cancelled when the client hangs up. Raises what it raises, or `Gone`."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(answer.gone())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
            raise Gone
        task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class Connection:
    """One client's."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_let_in: Callable[[], None] = lambda: None
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.taken = False
        """It does not speak HTTP any more."""
        self.inside = False
        self._on_let_in = on_let_in

    def let_in(self) -> None:
        """Its client has shown that it may be here."""
        if not self.inside:
            self.inside = True
            self._on_let_in()

    async def serve(self, respond: Callable[[Http], Awaitable[None]]) -> None:
        """Answer requests until the client, or a bound, ends it."""
        with contextlib.suppress(OSError, Gone):
            try:
                while (request := await self._request()) is not None:
                    if bodiless := not request.has_body:
                        self.h11.next_event()  # its end
                    await respond(Http(self, request, bodiless=bodiless))
                    if self.taken:
                        return
                    if self.h11.our_state is not h11.DONE or self.h11.their_state is not h11.DONE:
                        break
                    self.h11.start_next_cycle()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
            await self._linger()

    async def write(self, data: bytes | None) -> None:
        """Raises `Gone`."""
        try:
            if data:
                self.writer.write(data)
                await self.writer.drain()
        except OSError:
            raise Gone from None

    async def next_event(self, timeout_s: float) -> Any:
        """Of h11. Raises `TimeoutError`, `h11.RemoteProtocolError`, `Gone`."""
        async with asyncio.timeout(timeout_s):
            while (event := self.h11.next_event()) is h11.NEED_DATA:
                self.h11.receive_data(await self._read())
        return event

    async def _read(self) -> bytes:
        try:
            return await self.reader.read(CHUNK)
        except OSError:
            raise Gone from None

    async def _request(self) -> Request | None:
        """The next one; None at the end. Raises `h11.RemoteProtocolError`, `Gone`."""
        if not self.h11.trailing_data[0]:
            try:
                async with asyncio.timeout(IDLE_S if self.inside else IDLE_OUTSIDE_S):
                    first = await self._read()
            except TimeoutError:
                return None
            self.h11.receive_data(first)
        try:
            event = await self.next_event(HEAD_S)
        except TimeoutError:
            raise h11.RemoteProtocolError("too slow", error_status_hint=408) from None
        if not isinstance(event, h11.Request):
            return None
        headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers]
        return Request(event.method.decode("ascii"), event.target.decode("ascii"), headers)

    async def _refuse(self, status: int) -> None:
        """A client that does not speak HTTP, or not soon enough."""
        if self.h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            words = WORDS.get(status, "").encode()
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(words))), ("Connection", "close")]
            await self.write(self.h11.send(h11.Response(status_code=status, headers=headers)))
            await self.write(self.h11.send(h11.Data(words)) if words else None)
            await self.write(self.h11.send(h11.EndOfMessage()))

    async def _linger(self) -> None:
        """Closed with input that was not read, a connection ends with a reset, and the client may lose the answer."""
        left = LINGER
        with contextlib.suppress(TimeoutError, OSError):
            if self.writer.can_write_eof():
                self.writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                while left > 0 and (data := await self.reader.read(CHUNK)):
                    left -= len(data)


class Http:
    """An answer (`Answer`) in HTTP."""

    def __init__(self, connection: Connection, request: Request, *, bodiless: bool) -> None:
        self.connection = connection
        self.request = request
        self._bodiless = bodiless
        self.begun = False
        self.common: Headers = ()
        """Headers of all answers, unless the answer itself says otherwise."""

    async def body(self) -> AsyncIterator[bytes]:
        if self._bodiless:
            return
        if self.connection.h11.they_are_waiting_for_100_continue:
            await self.connection.write(
                self.connection.h11.send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
            )
        while True:
            try:
                event = await self.connection.next_event(BODY_S)
            except TimeoutError:
                raise Refused(408, "the rest of this request did not come") from None
            except h11.RemoteProtocolError as error:
                raise Refused(400, f"this is no HTTP: {error}") from None
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.ConnectionClosed):
                raise Gone
            else:
                return

    async def begin(self, status: int, headers: Headers) -> None:
        self.begun = True
        said = {name.lower() for name, _ in headers}
        every = [*headers, *(each for each in self.common if each[0].lower() not in said)]
        head = h11.Response(status_code=status, headers=[(n.encode("latin-1"), v.encode("latin-1")) for n, v in every])
        await self.connection.write(self.connection.h11.send(head))

    async def send(self, data: bytes) -> None:
        if data:
            await self.connection.write(self.connection.h11.send(h11.Data(data)))

    async def end(self) -> None:
        await self.connection.write(self.connection.h11.send(h11.EndOfMessage()))

    async def gone(self) -> None:
        left = MAX_HEAD
        while left > 0:  # no browser sends that much before it has its answer
            try:
                data = await self.connection.reader.read(CHUNK)
            except OSError:
                return
            if not data:
                return
            left -= len(data)
            self.connection.h11.receive_data(data)
