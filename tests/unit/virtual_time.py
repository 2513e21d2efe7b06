"""An event loop whose clock goes on only when there is nothing else to do: what waits for a time does so at once, and a computer
that stands still for seconds does not make it late."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    passed_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select(None)
        if not (ready := super().select(0)):
            self.passed_s += max(timeout, 0.0)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed_s


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, for what waits for the loop alone: not for threads, nor for other processes."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(scenario)
