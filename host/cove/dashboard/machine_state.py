"""The machine's state for the page, as it changes, with figures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from cove.agent.threads import abandonable
from cove.dashboard.figures import Figures, Meter
from cove.dashboard.http import Answer, Events, reply_json, unless_gone
from cove.machine import lifecycle
from cove.machine.paths import MachinePaths
from cove.support.watching import changes, shown

log = logging.getLogger(__name__)

FIGURES_S = 2.0


class State:
    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths

    async def machines(self, answer: Answer) -> None:
        def told() -> list[dict[str, Any]]:
            return [{"name": name, "state": shown(MachinePaths(name))["state"]} for name in lifecycle.names()]

        await reply_json(answer, await abandonable(told))

    async def machine(self, answer: Answer) -> None:
        await reply_json(answer, await abandonable(shown, self._paths))

    async def watch(self, answer: Answer) -> None:
        events = Events(answer)
        await events.begin()
        await unless_gone(answer, self._tell(events))

    async def _tell(self, events: Events) -> None:
        sending = asyncio.Lock()
        pid: int | None = None
        meter = Meter(self._paths)

        async def measure() -> None:
            while True:
                try:
                    found = await abandonable(meter.look, pid)
                except Exception:
                    log.exception("what the machine takes of this computer could not be measured")
                    found = Figures()
                async with sending:
                    await events.send({"figures": found.shown()})
                await asyncio.sleep(FIGURES_S)

        measuring: asyncio.Task[None] | None = None
        try:
            async with contextlib.aclosing(changes(self._paths)) as changing:
                async for change in changing:
                    if "state" in change:
                        pid = change["state"].get("pid")
                    async with sending:
                        await events.send(change)
                    measuring = measuring or asyncio.ensure_future(measure())
        finally:
            if measuring is not None:
                measuring.cancel()
                await asyncio.gather(measuring, return_exceptions=True)
