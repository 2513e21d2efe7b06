"""Long work in a thread that may be left behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_PREFIX = "abandonable "


async def abandonable(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """What `work` returns or raises. Whoever is cancelled here does not wait for it, nor does the event loop at its end, as it
    would for `asyncio.to_thread`: the thread ends by itself or with the process, so what it does must bear that.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
            loop.call_soon_threadsafe(lambda: None if done.done() else settle(value))

    def run() -> None:
        try:
            result = work(*args, **options)
        except BaseException as error:
            tell(done.set_exception, error)
        else:
            tell(done.set_result, result)

    threading.Thread(target=run, name=_PREFIX + getattr(work, "__name__", "work"), daemon=True).start()
    return await done


def linger(timeout_s: float) -> None:
    """Give what was left behind this long to tidy up, before the process ends."""
    deadline = time.monotonic() + timeout_s
    for thread in threading.enumerate():
        if thread.name.startswith(_PREFIX):
            thread.join(max(0.0, deadline - time.monotonic()))
