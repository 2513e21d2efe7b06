"""Work that is not to be left half done when whoever waits for it is cancelled, or leaves before it has begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Does ``work`` to its end, however often the caller is cancelled meanwhile, and raises CancelledError after it.

    Unlike ``asyncio.shield``, which lets the caller go on, and release its locks, while the work is still going on. What
    ``work`` raises is raised to a caller that was not cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # nobody is left to be told
        raise cancelled
    return task.result()


class Closing(Generic[T]):
    """What a generator gives, and ``close`` at its end or when it is given up.

    The ``finally`` of a generator that is closed before anybody has asked it for its first value is never reached (PEP 525):
    that will not do for what has been taken before the generator was made.
    """

    def __init__(self, values: AsyncGenerator[T, None], close: Callable[[], object]) -> None:
        self._values = values
        self._close = close

    def __aiter__(self) -> Closing[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await anext(self._values)
        except BaseException:
            self._close()
            raise

    async def aclose(self) -> None:
        try:
            await self._values.aclose()
        finally:
            self._close()


async def all_of(works: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Does all of it at the same time. Raises what the first that fails raises, when the others have been ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
