"""A call as programs see it: messages of a type in both directions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Generic, TypeVar

from coved.grpc.codec import Message, WireError
from coved.grpc.status import Code, GrpcError, Metadata
from coved.grpc.stream import Stream

In = TypeVar("In", bound=Message)
Out = TypeVar("Out", bound=Message)


class Call(Generic[In, Out]):
    """All methods raise ``GrpcError`` when the call broke; a client's receiving ones also when the server ended it with an error."""

    def __init__(self, stream: Stream, incoming: type[In], *, client: bool) -> None:
        self._stream = stream
        self._incoming = incoming
        self._client = client

    @property
    def metadata(self) -> Metadata:
        """What a server was sent with the call."""
        return self._stream.request

    async def receive(self) -> In | None:
        """None: there are no more."""
        data = await self._stream.receive()
        if data is None:
            if self._client:
                self._must_be_well()
            return None
        return self._decode(data)

    async def several(self) -> list[In]:
        """What has come, one message at least and a window's worth at most; none when there are no more."""
        found = await self._stream.several()
        if not found and self._client:
            self._must_be_well()
        return [self._decode(each) for each in found]

    def _decode(self, data: bytes) -> In:
        try:
            return self._incoming.decode(data)
        except WireError as error:
            raise GrpcError(Code.INTERNAL, f"failed to unmarshal the received message: {error}") from None

    async def one(self) -> In:
        """The only message of a side that sends one."""
        message = await self.receive()
        if message is None:
            raise GrpcError(Code.INTERNAL, "the call ended without a message")
        return message

    async def __aiter__(self) -> AsyncIterator[In]:
        while (message := await self.receive()) is not None:
            yield message

    async def send(self, message: Out, *, end: bool = False) -> None:
        """``end``: it is a client's last (a server ends the call by its status). Waits while the peer has no room."""
        with self._well():
            await self._stream.send(message.encode(), end=end)

    async def send_all(self, messages: Iterable[Out]) -> None:
        """Many small messages at once: each takes as long on its way as one that is as long as all of them."""
        with self._well():
            await self._stream.send_all(each.encode() for each in messages)

    def begin(self, metadata: Metadata = ()) -> None:
        """A server's answer begins with these headers; its first message says so otherwise. A client's call has begun already."""

    @contextlib.contextmanager
    def _well(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        except GrpcError:
            if self._client and self._stream.ended:
                self._must_be_well()  # how it ended says more
            raise

    async def end(self) -> None:
        """A client has sent all."""
        await self._stream.finish()

    def _must_be_well(self) -> None:
        status = self._stream.status
        if status.code != Code.OK:
            raise GrpcError(status.code, status.message, status.details)
