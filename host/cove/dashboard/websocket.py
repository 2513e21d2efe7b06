"""WebSockets (RFC 6455) with wsproto, the server's side; and answers to a GET in one.

A browser keeps six connections of HTTP/1.1 to a host, whatever its tabs ask for; of WebSockets it keeps hundreds. So what stays open can be
had by them: a text frame has status and headers, binary frames the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.events import Request as Asked
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from cove.dashboard.http import CHUNK, Connection, Gone, Headers, Http, Request
from cove.dashboard.refusal import Refused

CLOSE_S = 5.0
MAX_TEXT = 4096
"""Characters of a message in text: a new size of a terminal."""
Said = bytes | str


class WebSocket:
    """Of a request that asks for one. `receive` and `send` may run side by side.

    A page takes all that comes, whether it can do anything with it yet or not. So it says itself when that is too much for now,
    {"hold": true} in text, and when it is not any more: binary frames wait meanwhile.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._not_held = asyncio.Event()
        self._not_held.set()
        self._protocol = WSConnection(ConnectionType.SERVER)

    async def accept(self, request: Request) -> None:
        """Raises `Refused` when that is no handshake, `Gone`."""
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers]
        try:
            self._protocol.initiate_upgrade_connection(headers, request.target)
            asked = next(self._protocol.events(), None)
        except RemoteProtocolError as error:
            raise Refused(400, f"this is no WebSocket: {error}") from None
        if not isinstance(asked, Asked):
            raise Refused(400, "this is no WebSocket")
        self._connection.taken = True
        await self._connection.write(self._protocol.send(AcceptConnection()))
        early, _ = self._connection.h11.trailing_data
        if early:
            self._receive(early)

    async def receive(self) -> AsyncIterator[Said]:
        """What the client sends, as it comes, until it closes the WebSocket or leaves."""
        text = ""
        while True:
            for event in self._protocol.events():
                if isinstance(event, BytesMessage):
                    yield bytes(event.data)
                elif isinstance(event, TextMessage):
                    text += event.data
                    if len(text) > MAX_TEXT:
                        return
                    if event.message_finished:
                        if not self._hold(text):
                            yield text
                        text = ""
                elif isinstance(event, Ping):
                    await self._send(event.response())
                elif isinstance(event, CloseConnection):
                    return
            try:
                data = await self._connection.reader.read(CHUNK)
            except OSError:
                return
            if not data or not self._receive(data):
                return

    async def send(self, data: Said) -> None:
        """Raises `Gone`."""
        if isinstance(data, bytes):
            await self._not_held.wait()
        await self._send(BytesMessage(data) if isinstance(data, bytes) else TextMessage(data))

    async def close(self, reason: CloseReason = CloseReason.NORMAL_CLOSURE) -> None:
        """The closing handshake, for `CLOSE_S` seconds at most. Nobody else may be receiving."""
        with contextlib.suppress(Gone, TimeoutError, OSError):
            async with asyncio.timeout(CLOSE_S):
                if self._protocol.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
                    await self._send(CloseConnection(reason))
                while self._protocol.state is ConnectionState.LOCAL_CLOSING:
                    data = await self._connection.reader.read(CHUNK)
                    if not data or not self._receive(data):
                        return
                    for _ in self._protocol.events():
                        pass

    def _hold(self, text: str) -> bool:
        """Whether that is what the text is about."""
        try:
            held = json.loads(text)["hold"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        self._not_held.clear() if held is True else self._not_held.set()
        return True

    def _receive(self, data: bytes) -> bool:
        """Whether it is within the rules."""
        try:
            self._protocol.receive_data(data)
        except (RemoteProtocolError, LocalProtocolError):
            return False
        return True

    async def _send(self, event: Event) -> None:
        try:
            data = self._protocol.send(event)
        except LocalProtocolError:  # the client has closed it
            raise Gone from None
        await self._connection.write(data)


class Framed:
    """An answer (`cove.dashboard.http.Answer`) in a WebSocket."""

    def __init__(self, http: Http) -> None:
        self.request = http.request
        self.begun = False
        self._socket = WebSocket(http.connection)

    async def accept(self) -> None:
        """Raises `Refused`, `Gone`."""
        await self._socket.accept(self.request)

    async def body(self) -> AsyncIterator[bytes]:
        return
        yield b""

    async def begin(self, status: int, headers: Headers) -> None:
        self.begun = True
        told = {name.lower(): value for name, value in headers}
        await self._socket.send(json.dumps({"status": status, "headers": told}))

    async def send(self, data: bytes) -> None:
        if data:
            await self._socket.send(data)

    async def end(self) -> None:
        """The body is over; `close` says so."""

    async def gone(self) -> None:
        async for _ in self._socket.receive():
            pass  # nothing that it says counts

    async def close(self, reason: CloseReason = CloseReason.NORMAL_CLOSURE) -> None:
        await self._socket.close(reason)
