"""WebSockets (RFC 6455), the server's side, on a hijacked connection. The frames are wsproto's: docs/decisions/0022.

Nothing is collected: what has come of a frame is passed on, however long the frame says that it is.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import codecs
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import generate_accept_token

from coved.api.http import Hijacked, Response, json_response

CLOSE_S = 5.0
"""How long a client has to answer a Close."""
_CHUNK = 64 * 1024


def refusal(headers: Mapping[str, str]) -> Response | None:
    """The answer to what is no handshake of version 13 (RFC 6455, 4.2.1), in dockerd's words; None when it is one."""
    connection = {token.strip().lower() for token in headers.get("connection", "").split(",")}
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        return json_response({"message": "not websocket protocol"}, 400)
    if headers.get("sec-websocket-version") != "13":
        response = json_response({"message": "missing or bad WebSocket Version"}, 400)
        response.headers["Sec-WebSocket-Version"] = "13"
        return response
    try:
        nonce = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        return json_response({"message": "mismatch challenge/response"}, 400)
    return None


def head(headers: Mapping[str, str]) -> bytes:
    """The head of the answer that accepts a handshake. A lone subprotocol is taken, as dockerd does; no extension is."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {generate_accept_token(headers['sec-websocket-key'].encode()).decode()}",
    ]
    protocol = headers.get("sec-websocket-protocol", "").strip()
    if protocol and "," not in protocol:
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


class WebSocket:
    """Takes over the connection. ``receive`` and ``send`` may run side by side; ``close`` comes when neither does.

    Args:
        text: data goes out in text frames, what is no UTF-8 in them replaced; else in binary ones.
    """

    def __init__(self, hijacked: Hijacked, *, text: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket(fileno=hijacked.fd)
        self._in = Connection(ConnectionType.SERVER, trailing_data=hijacked.pending)
        # Apart from the other: a connection of wsproto's sends no data any more once a Close has come.
        self._out = Connection(ConnectionType.SERVER)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if text else None
        self._writing = asyncio.Lock()
        self._whole = True  # the last frame went out to its end
        self._close = CloseConnection(CloseReason.NORMAL_CLOSURE)
        self.open = True
        """The client has neither sent its Close, nor what is against the rules, nor left."""
        self.there = True
        """Somebody reads what is sent; a client may do so after its Close."""

    async def receive(self) -> AsyncIterator[bytes]:
        """What the client sends, as it comes, until it sends Close or leaves. Answers its pings."""
        while self.open:
            for event in self._in.events():
                if isinstance(event, BytesMessage):
                    yield bytes(event.data)
                elif isinstance(event, TextMessage):
                    yield event.data.encode()
                elif isinstance(event, Ping):
                    await self._send(Pong(event.payload))
                elif isinstance(event, CloseConnection):
                    self._close, self.open = event.response(), False
                    # One that wsproto has made up says what is wrong with the client, which need not be listened to.
                    self.there = self._in.state.name == "REMOTE_CLOSING"
                    return
            if data := await self._read():
                self._in.receive_data(data)

    async def wait_gone(self) -> None:
        """Returns when the client has left; after its Close nothing that it sends counts."""
        while await self._read():
            pass

    @contextlib.contextmanager
    def on_hang_up(self, callback: Callable[[], None]) -> Iterator[None]:
        """Calls back once when the client has closed both directions, or has already, though nothing is read from it.

        An epoll set with an empty mask reports EPOLLHUP alone (epoll_ctl(2)), where a reader would find data for ever.
        """
        with select.epoll() as hangup:
            fd = hangup.fileno()
            hangup.register(self._sock.fileno(), 0)

            def report() -> None:
                self._loop.remove_reader(fd)
                callback()

            self._loop.add_reader(fd, report)
            try:
                yield
            finally:
                self._loop.remove_reader(fd)

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError when the client is gone. Waits for one that is slow."""
        if self._decoder is None:
            await self._send(BytesMessage(data))
        elif text := self._decoder.decode(data):
            await self._send(TextMessage(text))

    async def close(self) -> None:
        """The closing handshake, for ``CLOSE_S`` seconds at most; then the connection ends."""
        self._sock.setblocking(False)
        with self._sock, contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._send(self._close)
                self._sock.shutdown(socket.SHUT_WR)
                await self.wait_gone()

    def abandon(self) -> None:
        """The engine stops: it says so when that can be done at once."""
        with self._sock, contextlib.suppress(OSError):
            if self._whole:
                self._sock.send(self._out.send(CloseConnection(CloseReason.GOING_AWAY)))

    async def _read(self) -> bytes:
        try:
            data = await self._loop.sock_recv(self._sock, _CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            self.open = self.there = False
        return data

    async def _send(self, event: Event) -> None:
        async with self._writing:
            if not self._whole:
                raise ConnectionError("a frame was cut short")
            self._whole = False
            await self._loop.sock_sendall(self._sock, self._out.send(event))
            self._whole = True
