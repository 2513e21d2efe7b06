"""The side that is called."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from coved.grpc.call import Call
from coved.grpc.codec import Message
from coved.grpc.connection import MESSAGE_LIMIT, Connection
from coved.grpc.method import Method
from coved.grpc.status import Code, GrpcError, Metadata, Status, trailers
from coved.grpc.stream import CANCEL, Stream

log = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
Handler = Callable[[Call[Any, Any]], Awaitable[None]]
Translate = Callable[[Exception], GrpcError | None]
"""What a handler's exception is for the client; None is a mistake of ours."""

_NO_ERROR = 0
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_GRPC = re.compile(r"application/grpc(?:[+;].*)?")


class Services:
    """Methods and what answers them; for any number of connections."""

    def __init__(self, translate: Translate = lambda _: None) -> None:
        self._translate = translate
        self._handlers: dict[str, tuple[type[Message], Handler]] = {}

    def stream(self, method: Method[Q, R], handler: Callable[[Call[Q, R]], Awaitable[None]]) -> None:
        self._handlers[method.path] = (method.request, handler)

    def unary(self, method: Method[Q, R], handler: Callable[[Q, Call[Q, R]], Awaitable[R]]) -> None:
        async def answer(call: Call[Q, R]) -> None:
            await call.send(await handler(await call.one(), call))

        self.stream(method, answer)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pending: bytes = b"", limit: int = MESSAGE_LIMIT
    ) -> None:  # fmt: skip
        """Returns when the client has gone; what it still waited for is cancelled. Closes the connection, cancelled or not."""
        tasks: set[asyncio.Task[None]] = set()

        def accept(stream: Stream) -> None:
            task = asyncio.get_running_loop().create_task(self._answer(connection, stream))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            stream.on_reset = task.cancel

        connection = Connection(reader, writer, client=False, pending=pending, accept=accept, limit=limit)
        connection.start()
        try:
            await connection.wait_lost()
        finally:
            # Cancelled ones end in their own time; nobody waits for what they would have said.
            await connection.close()
            if tasks:
                await asyncio.wait([*tasks])

    async def _answer(self, connection: Connection, stream: Stream) -> None:
        try:
            status = await self._status(connection, stream)
            if not stream.closed:
                found = trailers(status)
                if stream.response is None:
                    found = [*_RESPONSE, *found]
                connection.headers(stream, found, end=True)
                if not stream.ended:
                    stream.reset(_NO_ERROR)
        except GrpcError:
            pass  # nobody waits for it any more
        finally:
            if not stream.closed:  # cancelled
                stream.reset(CANCEL)
            connection.forget(stream)

    async def _status(self, connection: Connection, stream: Stream) -> Status:
        headers = dict(stream.request)
        if headers.get(":method") != "POST" or not _GRPC.fullmatch(headers.get("content-type", "")):
            return Status(Code.INTERNAL, f"this is no gRPC request: content-type {headers.get('content-type', '')!r}")
        path = headers.get(":path", "")
        found = self._handlers.get(path)
        if found is None:
            service, _, name = path.removeprefix("/").rpartition("/")
            known = any(each.startswith(f"/{service}/") for each in self._handlers)
            text = f"unknown method {name} for service {service}" if known else f"unknown service {service}"
            return Status(Code.UNIMPLEMENTED, text)
        seconds = _seconds(headers.get("grpc-timeout"))
        incoming, handler = found
        call: Call[Any, Any] = _ServerCall(connection, stream, incoming)
        try:
            async with asyncio.timeout(seconds) as limit:
                await handler(call)
            return Status()
        except GrpcError as error:
            return _status_of(error)
        except TimeoutError as error:
            if limit.expired():
                return Status(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
            return self._mistake(path, error)
        except Exception as error:
            return self._mistake(path, error)

    def _mistake(self, path: str, error: Exception) -> Status:
        known = self._translate(error)
        if known is not None:
            return _status_of(known)
        log.error("%s failed", path, exc_info=error)
        return Status(Code.UNKNOWN, "internal error, see the engine's log")


class _ServerCall(Call[Any, Any]):
    """Answers before its first message."""

    def __init__(self, connection: Connection, stream: Stream, incoming: type[Message]) -> None:
        super().__init__(stream, incoming, client=False)
        self._connection = connection

    def begin(self, metadata: Metadata = ()) -> None:
        if self._stream.response is None:
            self._stream.response = found = [*_RESPONSE, *metadata]
            self._connection.headers(self._stream, found)

    async def send(self, message: Message, *, end: bool = False) -> None:
        await super().send(message)


_RESPONSE = [(":status", "200"), ("content-type", "application/grpc")]


def _status_of(error: GrpcError) -> Status:
    return Status(int(error.code), error.message, list(error.details))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = _TIMEOUT.fullmatch(text)
    return None if match is None else int(match[1]) * _UNITS[match[2]]
