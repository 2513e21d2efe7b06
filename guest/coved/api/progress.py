"""Answers with the messages of work that goes on meanwhile: pulls, pushes, loads."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from coved.api.http import Response, json_stream
from coved.errors import EngineError, no_room
from coved.finishing import Closing

log = logging.getLogger(__name__)

Message = dict[str, Any]

_BACKLOG = 256
"""Messages for a client that reads slowly, after which it is not told how far things are any more."""
_ROOM = 1 << 20
"""Bytes of text for a client that reads slowly, after which those who can are to wait."""
_OVERHEAD = 512
"""Bytes of a message, about, beside its text."""


class Report:
    """Messages on their way to a client; to call it sends one. It never blocks, but see ``room``."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self._size = 0
        self._full: asyncio.Future[None] | None = None

    def __call__(self, message: Message) -> None:
        if self._messages.qsize() < _BACKLOG or "current" not in message.get("progressDetail", ()):
            self._size += _size(message)
            self._messages.put_nowait(message)

    def room(self) -> asyncio.Future[None] | None:
        """What to wait for before more is sent, when much waits for the client."""
        if self._size > _ROOM and self._full is None:
            self._full = asyncio.get_running_loop().create_future()
        return self._full

    def end(self) -> None:
        self._messages.put_nowait(None)

    async def next(self) -> Message | None:
        """None is the end."""
        message = await self._messages.get()
        if message is not None:
            self._size -= _size(message)
            if self._full is not None and self._size <= _ROOM // 2:
                self._full.set_result(None)
                self._full = None
        return message


def _size(message: Message) -> int:
    return len(message.get("stream", "")) + _OVERHEAD


Work = Callable[[Report], Awaitable[object]]


async def streamed(work: Work) -> Response:
    """Answers with the messages of ``work`` as they come. What it raises before the first is the answer's status.

    It ends with its client.
    """
    task, messages = _begun(work)
    try:
        first = await messages.next()
        if first is None:
            await task
            messages.end()
    except BaseException:
        await _end(task)
        raise
    told = _follow(task, messages, *([first] if first is not None else ()))
    return json_stream(Closing(told, task.cancel))


async def following(work: Work) -> AsyncIterator[object]:
    """The messages of ``work`` as they come; whatever it raises is told by the last of them."""
    task, messages = _begun(work)
    async with contextlib.aclosing(_follow(task, messages)) as told:
        async for message in told:
            yield message


def _begun(work: Work) -> "tuple[asyncio.Task[None], Report]":
    report = Report()

    async def run() -> None:
        try:
            await work(report)
        finally:
            report.end()

    return asyncio.get_running_loop().create_task(run()), report


async def _follow(task: "asyncio.Task[None]", messages: Report, *first: Message) -> AsyncGenerator[object, None]:
    try:
        for message in first:
            yield message
        while (more := await messages.next()) is not None:
            yield more
        await task
    except EngineError as error:
        code = {} if error.exit_code is None else {"code": error.exit_code}
        yield {"errorDetail": {**code, "message": str(error)}, "error": str(error)}
    except Exception as error:
        if (full := no_room(error)) is not None:
            words = str(full)
        else:
            log.exception("what a client was told of failed")
            words = "internal error, see the engine's log"
        yield {"errorDetail": {"message": words}, "error": words}
    finally:
        await _end(task)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
