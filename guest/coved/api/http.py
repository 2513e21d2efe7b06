"""What handlers see of HTTP: requests, responses and hijacked connections.

The wire is in ``coved.api.connection``; a handler is ``async (Engine, Request) -> Response | None`` and answers None
only when it has hijacked the connection.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from coved.api import json_body
from coved.api.query import Query
from coved.errors import EngineError, InvalidParameter
from coved.versions import NEWEST, ApiVersion

if TYPE_CHECKING:
    from coved.engine import Engine

JSON_LIMIT = 16 * 1024 * 1024
# A body that is read whole has to come within this time; one that is streamed may take as long as it goes on.
READ_SECONDS = 120.0

RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"


class RequestTooLarge(EngineError):
    """A body beyond what the call can possibly need (413)."""

    status = 413


class ClientTooSlow(EngineError):
    """A request that did not arrive in the time that there is for it (408)."""

    status = 408


@dataclass
class Response:
    """``body`` is sent whole, or chunk by chunk as the client takes it; an iterator is closed when the client goes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""


def json_response(value: object, status: int = 200) -> Response:
    return Response(status, {"Content-Type": "application/json"}, encode_json(value))


def encode_json(value: object) -> bytes:
    """One JSON document and a line feed, as Go's encoder writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def json_stream(values: AsyncIterator[object]) -> Response:
    """One JSON document a line, each sent as it comes (events, pull and load progress)."""
    return Response(200, {"Content-Type": "application/json"}, _JsonLines(values))


class _JsonLines:
    """No generator: one that is closed before it has begun would not close ``values``."""

    def __init__(self, values: AsyncIterator[object]) -> None:
        self._values = values

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return encode_json(await anext(self._values))

    async def aclose(self) -> None:
        await aclose(self._values)


async def aclose(iterator: AsyncIterator[Any]) -> None:
    """Ends an async generator now, so that its cleanup does not wait for the garbage collector."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


@dataclass
class Hijacked:
    """A connection that is no longer HTTP.

    ``fd`` is the caller's to close; it is a non-blocking stream socket. ``pending`` are the bytes which the client sent
    together with its request and which nobody has read.
    """

    fd: int
    pending: bytes


class Exchange(Protocol):
    """The connection's side of one request."""

    def body(self) -> AsyncIterator[bytes]: ...

    async def hijack(self, head: bytes) -> Hijacked: ...


class Request:
    """One request. ``path`` has no version prefix; ``headers`` have lower-case names; ``match`` is from the route."""

    __slots__ = ("_exchange", "headers", "match", "method", "path", "query", "version")

    def __init__(
        self,
        method: str,
        path: str,
        exchange: Exchange,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        version: ApiVersion = NEWEST,
        match: Mapping[str, str] | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query or Query()
        self.headers = dict(headers or {})
        self.version = version
        self.match = dict(match or {})
        self._exchange = exchange

    def body(self) -> AsyncIterator[bytes]:
        """The request's body as it arrives; to be read once."""
        return self._exchange.body()

    async def read(self, limit: int = JSON_LIMIT) -> bytes:
        """The whole body, at most ``limit`` bytes; raises ``RequestTooLarge`` (413) beyond, ``ClientTooSlow``."""
        chunks: list[bytes] = []
        total = 0
        try:
            async with asyncio.timeout(READ_SECONDS):
                async for chunk in self.body():
                    total += len(chunk)
                    if total > limit:
                        raise RequestTooLarge(f"request body is larger than {limit} bytes")
                    chunks.append(chunk)
        except TimeoutError:
            raise ClientTooSlow("the request's body did not arrive in time") from None
        return b"".join(chunks)

    async def json(self, limit: int = JSON_LIMIT, *, required: bool = False) -> dict[str, Any]:
        """The body as a JSON object; an empty body is {} unless ``required``, null is {}.

        Raises ``InvalidParameter`` in dockerd's words.
        """
        document = await self.json_value(limit, required=required)
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise InvalidParameter(f"invalid JSON: expected an object, got {type(document).__name__}")
        return document

    async def json_value(self, limit: int = JSON_LIMIT, *, required: bool = False) -> Any:
        """The body as any JSON value; None for an empty one."""
        data = await self.read(limit)
        if not data:
            if required:
                raise InvalidParameter(json_body.EMPTY)
            return None
        content_type = self.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if not media_type:
            raise InvalidParameter(f"malformed Content-Type header ({content_type}): mime: no media type")
        if media_type != "application/json":
            raise InvalidParameter(f"unsupported Content-Type header ({content_type}): must be 'application/json'")
        return json_body.decode(data)

    async def hijack(self, *, raw_stream: bool) -> Hijacked:
        """Ends HTTP on this connection and hands it over (Engine API, "Hijacking").

        Args:
            raw_stream: The bytes are a terminal's, without Docker's 8-byte frames.

        A client that asks for ``Upgrade: tcp`` gets 101, an older one 200; the body is read to its end before.
        """
        multiplexed = not raw_stream and self.version >= (1, 42)
        content_type = MULTIPLEXED_STREAM if multiplexed else RAW_STREAM
        if self.headers.get("upgrade", "").lower() == "tcp":
            head = (
                f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
        else:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"
        return await self._exchange.hijack(head.encode("ascii"))

    async def upgrade(self, head: bytes) -> Hijacked:
        """The same for another protocol: ``head`` is the whole answer, with its empty line."""
        return await self._exchange.hijack(head)


Handler = Callable[["Engine", Request], Awaitable[Response | None]]
