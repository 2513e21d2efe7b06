"""HTTP/2 (RFC 9113) by h2, as gRPC uses it, on streams of bytes that are open already.

One task reads and tells the calls (``Stream``) what came. Each call has a window of its own, which opens as its messages are taken;
the connection's window is always open, so that no call waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame

from coved.grpc.status import Code, GrpcError, Metadata
from coved.grpc.stream import STALL_S, Stream

log = logging.getLogger(__name__)

# h2 describes each frame that it receives for a log that nobody keeps, which takes a third of its time.
hyperframe.frame.Frame.__repr__ = object.__repr__  # type: ignore[method-assign]

STREAM_WINDOW = 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
MESSAGE_LIMIT = 16 * 1024 * 1024
"""The largest message that is taken; buildkit's own limit."""
CALLS_LIMIT = 250
"""Calls that a peer may have open at once."""
HELLO_S = 60.0
"""How long a peer has to begin."""
_CHUNK = 512 * 1024
_UNREAD_LIMIT = 64 * 1024 * 1024
"""What may wait for a peer that asks and does not read; more ends the connection."""
GOODBYE_S = 2.0
LOST = "the connection was lost"


class Connection:
    """Either side of a connection; to be started, and closed, by whoever makes it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        client: bool,
        pending: bytes = b"",
        accept: Callable[[Stream], None] = lambda _: None,
        limit: int = MESSAGE_LIMIT,
    ) -> None:
        """Args:
        pending: what the peer sent and somebody else has read.
        accept: called with each call that the peer begins.
        limit: bytes of the largest message.
        """
        self._reader = reader
        self._writer = writer
        self._client = client
        self._pending = pending
        self._accept = accept
        self._limit = limit
        self._http = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client, header_encoding=None, normalize_inbound_headers=False)
        )
        codes = h2.settings.SettingCodes
        self._http.local_settings = h2.settings.Settings(
            client=client,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                codes.MAX_CONCURRENT_STREAMS: CALLS_LIMIT,
                codes.MAX_HEADER_LIST_SIZE: self._http.DEFAULT_MAX_HEADER_LIST_SIZE,
            },
        )
        self._streams: dict[int, Stream] = {}
        self._owed = 0
        self._met = False
        self._freed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: GrpcError | None = None

    # -- life

    def start(self) -> None:
        """Sends the preface and begins to read."""
        self._http.initiate_connection()
        self._http.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self._write()
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def wait_lost(self) -> None:
        """Returns when the peer has gone, or the connection was closed."""
        assert self._task is not None
        await asyncio.wait([self._task])

    async def close(self) -> None:
        """Says goodbye and closes; all calls end. Takes ``GOODBYE_S`` at most."""
        self._fail(GrpcError(Code.CANCELLED, "the connection was closed"))
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._http.close_connection()
            self._write()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._writer.close()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    async def _read(self) -> None:
        error = GrpcError(Code.UNAVAILABLE, LOST)
        try:
            async with asyncio.timeout(HELLO_S):
                data = self._pending or await self._reader.read(_CHUNK)
            while data:
                try:
                    for event in self._http.receive_data(data):
                        self._handle(event)
                finally:  # h2 has prepared what the peer is told of its mistake
                    self._write()
                if self._error is not None:
                    return
                if self._writer.transport.get_write_buffer_size() > _UNREAD_LIMIT:
                    error = GrpcError(Code.UNAVAILABLE, "the peer does not read what it is sent")
                    self._writer.transport.abort()
                    return
                data = await self._reader.read(_CHUNK)
        except OSError:  # TimeoutError among them
            pass
        except h2.exceptions.ProtocolError as problem:
            error = GrpcError(Code.UNAVAILABLE, f"the peer does not speak HTTP/2: {problem}")
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # of h2 or hpack, which what a peer sends should not be able to bring about
            log.exception("HTTP/2 failed")
            error = GrpcError(Code.INTERNAL, f"HTTP/2 failed: {problem}")
        finally:
            self._fail(error)

    def _fail(self, error: GrpcError) -> None:
        if self._error is None:
            self._error = error
        for stream in [*self._streams.values()]:
            stream.fail(error)
        self._streams.clear()
        self._freed.set()

    # -- events

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self._data(event)
        elif isinstance(event, h2.events.WindowUpdated):
            self._room(event.stream_id or 0)
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self._met = True
            self._room(0)
            self._freed.set()
        elif isinstance(event, h2.events.RequestReceived):
            self._begun(event)
        elif isinstance(event, h2.events.ResponseReceived):
            if (stream := self._of(event)) is not None:
                stream.headers(_texts(event.headers))
        elif isinstance(event, h2.events.TrailersReceived):
            if (stream := self._of(event)) is not None:
                stream.trailers(_texts(event.headers))
        elif isinstance(event, h2.events.StreamEnded):
            if (stream := self._of(event)) is not None:
                stream.end()
        elif isinstance(event, h2.events.StreamReset):
            self._reset_by_peer(event)
        elif isinstance(event, h2.events.ConnectionTerminated):
            # Who says goodbye in this protocol leaves; h2 lets nothing follow, either.
            self._fail(GrpcError(Code.UNAVAILABLE, LOST))

    def _of(self, event: h2.events.Event) -> Stream | None:
        return self._streams.get(getattr(event, "stream_id", None) or 0)

    def _begun(self, event: h2.events.RequestReceived) -> None:
        assert event.stream_id is not None
        stream = Stream(self, event.stream_id, client=self._client, window=STREAM_WINDOW, limit=self._limit)
        stream.request = _texts(event.headers)
        self._streams[stream.id] = stream
        self._accept(stream)

    def _data(self, event: h2.events.DataReceived) -> None:
        counted = event.flow_controlled_length or 0
        self._owed += counted
        if self._owed >= CONNECTION_WINDOW // 4:
            self._http.increment_flow_control_window(self._owed)
            self._owed = 0
        if (stream := self._of(event)) is not None:
            stream.data(event.data or b"", counted)

    def _reset_by_peer(self, event: h2.events.StreamReset) -> None:
        stream = self._of(event)
        if stream is None:
            return
        code = event.error_code
        stream.closed = True
        if stream.ended:
            # It has said all: a server that needs nothing more of its client says so in this way (RFC 9113, 8.1).
            stream.room()
            stream.on_reset()
        elif code == h2.errors.ErrorCodes.CANCEL:
            stream.fail(GrpcError(Code.CANCELLED, "the peer gave the call up"))
        elif code == h2.errors.ErrorCodes.REFUSED_STREAM:
            stream.fail(GrpcError(Code.UNAVAILABLE, "the peer refused the call"))
        else:
            stream.fail(GrpcError(Code.INTERNAL, f"the peer ended the call with HTTP/2 error {int(code or 0)}"))

    def _room(self, id: int) -> None:
        for stream in [*self._streams.values()] if id == 0 else filter(None, [self._streams.get(id)]):
            stream.room()

    # -- for calls

    async def begin(self, headers: Iterable[tuple[str, str]]) -> Stream:
        """A client's new call. Raises ``GrpcError`` when the connection is lost, or the peer takes no calls."""
        while True:
            if self._error is not None:
                raise self._error
            # How many calls the peer takes, it says first.
            if self._met and self._http.open_outbound_streams < self._http.remote_settings.max_concurrent_streams:
                break
            self._freed.clear()
            try:
                async with asyncio.timeout(STALL_S):
                    await self._freed.wait()
            except TimeoutError:
                raise GrpcError(Code.UNAVAILABLE, "the peer takes no calls") from None
        try:
            id = self._http.get_next_available_stream_id()
            self._http.send_headers(id, _bytes(headers))
        except h2.exceptions.ProtocolError as problem:
            raise GrpcError(Code.UNAVAILABLE, f"the call cannot be made: {problem}") from None
        stream = Stream(self, id, client=self._client, window=STREAM_WINDOW, limit=self._limit)
        self._streams[id] = stream
        self._write()
        return stream

    def headers(self, stream: Stream, headers: Iterable[tuple[str, str]], *, end: bool = False) -> None:
        """A server's answer, or trailers. Raises ``GrpcError`` when nobody waits for them."""
        stream.must_be_open()
        try:
            self._http.send_headers(stream.id, _bytes(headers), end_stream=end)
        except h2.exceptions.ProtocolError as problem:
            raise GrpcError(Code.UNAVAILABLE, str(problem)) from None
        stream.closed = stream.closed or end
        self._write()

    def push(self, id: int, data: memoryview, end: bool) -> tuple[int, bool]:
        """Takes as much as the peer does, a frame at most: how much, and whether that was all. Raises ``GrpcError``."""
        try:
            size = min(len(data), self._http.local_flow_control_window(id), self._http.max_outbound_frame_size)
            if data and size <= 0:
                return 0, False
            done = size == len(data)
            self._http.send_data(id, bytes(data[:size]), end_stream=end and done)
        except h2.exceptions.ProtocolError as problem:
            raise self._error or GrpcError(Code.UNAVAILABLE, str(problem)) from None
        return size, done

    async def flush(self) -> None:
        """Sends what was pushed, and waits until the socket takes more. Raises ``GrpcError``."""
        self._write()
        try:
            async with asyncio.timeout(STALL_S):
                await self._writer.drain()
        except (OSError, TimeoutError):
            self._writer.transport.abort()
            raise GrpcError(Code.UNAVAILABLE, LOST) from None

    def allow(self, id: int, count: int) -> None:
        """Lets the peer send as much more."""
        with contextlib.suppress(h2.exceptions.ProtocolError):  # it may have ended
            self._http.increment_flow_control_window(count, id)
        self._write()

    def reset(self, id: int, code: int) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._http.reset_stream(id, code)
        self._write()

    def forget(self, stream: Stream) -> None:
        """The call is over, for this side as well."""
        if self._streams.pop(stream.id, None) is not None:
            self._freed.set()

    def _write(self) -> None:
        data = self._http.data_to_send()
        if data and not self._writer.transport.is_closing():
            self._writer.write(data)


def _texts(headers: Iterable[tuple[bytes | str, bytes | str]] | None) -> Metadata:
    return [(_text(name), _text(value)) for name, value in headers or ()]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _bytes(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
