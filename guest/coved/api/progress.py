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
Report = Callable[[Message], None]
Work = Callable[[Report], Awaitable[object]]

_BACKLOG = 256
"""Messages for a client that reads slowly, after which it is not told how far things are any more."""


async def streamed(work: Work) -> Response:
    """Answers with the messages of ``work`` as they come. What it raises before the first is the answer's status.

    It ends with its client.
    """
    task, messages = _begun(work)
    try:
        first = await messages.get()
        if first is None:
            await task
            messages.put_nowait(None)
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


def _begun(work: Work) -> "tuple[asyncio.Task[None], asyncio.Queue[Message | None]]":
    messages: asyncio.Queue[Message | None] = asyncio.Queue()

    def report(message: Message) -> None:
        if messages.qsize() < _BACKLOG or "current" not in message.get("progressDetail", ()):
            messages.put_nowait(message)

    async def run() -> None:
        try:
            await work(report)
        finally:
            messages.put_nowait(None)

    return asyncio.get_running_loop().create_task(run()), messages


async def _follow(
    task: "asyncio.Task[None]", messages: "asyncio.Queue[Message | None]", *first: Message
) -> AsyncGenerator[object, None]:
    try:
        for message in first:
            yield message
        while (more := await messages.get()) is not None:
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
