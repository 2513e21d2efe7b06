"""The side that calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from coved.grpc.call import Call
from coved.grpc.codec import Message
from coved.grpc.connection import MESSAGE_LIMIT, Connection
from coved.grpc.method import Method
from coved.grpc.status import Code, GrpcError, Metadata
from coved.grpc.stream import CANCEL, Stream

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


class Channel:
    """A connection whose HTTP/2 client we are.

    It belongs to the event loop it was made on. ``await start()`` is not needed: the preface goes out with ``Channel(...)``.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        pending: bytes = b"",
        authority: str = "localhost",
        limit: int = MESSAGE_LIMIT,
    ) -> None:
        """``pending`` is what the server sent and somebody else has read."""
        self._connection = Connection(reader, writer, client=True, pending=pending, limit=limit)
        self._authority = authority
        self._connection.start()

    async def wait_lost(self) -> None:
        """Returns when the server has gone, or the channel was closed."""
        await self._connection.wait_lost()

    async def close(self) -> None:
        await self._connection.close()

    @asynccontextmanager
    async def open(
        self, method: Method[Q, R], *, metadata: Metadata = (), timeout: float | None = None
    ) -> AsyncIterator[Call[R, Q]]:
        """One call, of any kind; what has not ended by the end of the context is given up.

        Args:
            timeout: seconds for the whole call, which the server is told; DEADLINE_EXCEEDED after them.

        Raises ``GrpcError``.
        """
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method.path),
            (":authority", self._authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "cove"),
        ]
        if timeout is not None:
            headers.append(("grpc-timeout", _timeout(timeout)))
        stream: Stream | None = None
        try:
            async with asyncio.timeout(timeout) as limit:
                stream = await self._connection.begin([*headers, *metadata])
                yield Call(stream, method.reply, client=True)
        except TimeoutError:
            if not limit.expired():
                raise
            raise GrpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from None
        finally:
            if stream is not None:
                if not (stream.ended and stream.closed):
                    stream.reset(CANCEL)
                self._connection.forget(stream)

    async def unary(
        self, method: Method[Q, R], request: Q, *, metadata: Metadata = (), timeout: float | None = None
    ) -> R:
        """One message for another. Raises ``GrpcError``."""
        async with self.open(method, metadata=metadata, timeout=timeout) as call:
            await call.send(request, end=True)
            reply = await call.one()
            if await call.receive() is not None:
                raise GrpcError(Code.INTERNAL, "the server sent more than one message")
            return reply


def _timeout(seconds: float) -> str:
    """At most eight digits and a unit."""
    micros = max(1, int(seconds * 1e6))
    for unit, size in (("u", 1), ("m", 1000), ("S", 1_000_000), ("M", 60_000_000), ("H", 3_600_000_000)):
        if micros // size < 10**8:
            return f"{max(1, micros // size)}{unit}"
    return "99999999H"
