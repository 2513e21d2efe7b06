"""How long a build waits for its client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from coved.errors import Unavailable

T = TypeVar("T")

STALL_S = 600.0
"""How long a client may say nothing when it is its turn."""


async def answer(waiting: Awaitable[T]) -> T:
    """What the client says next. Raises Unavailable when it says nothing for ``STALL_S``."""
    try:
        async with asyncio.timeout(STALL_S):
            return await waiting
    except TimeoutError:
        raise Unavailable("the client of the build does not answer") from None
