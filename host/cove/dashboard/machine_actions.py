"""Starting, stopping, suspending the machine for the page, with progress. What has been begun goes on when the page leaves."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from cove.agent import ending, launch, unattended
from cove.dashboard.background import Background
from cove.dashboard.engine import Engine
from cove.dashboard.http import Answer, Events, Gone, unless_gone
from cove.dashboard.refusal import Refused
from cove.errors import CoveError
from cove.machine import lifecycle
from cove.machine.paths import MachinePaths
from cove.progress import REACHABLE, Event, Report

log = logging.getLogger(__name__)

ACTIONS = ("start", "stop", "suspend", "restart")


class Actions:
    """``used`` as of `cove.dashboard.site.Site`."""

    def __init__(self, paths: MachinePaths, engine: Engine, used: Callable[[int], None]) -> None:
        self._paths = paths
        self._engine = engine
        self._used = used
        self._under_way = ""

    async def answer(self, answer: Answer) -> None:
        """Raises `Refused`, `Gone`."""
        action = answer.request.path.rpartition("/")[2]
        async for _ in answer.body():
            raise Refused(400, "this request has no body")
        if self._under_way:  # from here on until it is set nobody else has a turn
            raise Refused(409, f"another page has asked for something already: {self._under_way}", "wait for its end")
        events = Events(answer)
        forced = answer.request.query.get("force") == "1"
        work = self._begin(action, forced=forced)
        await events.begin()
        await unless_gone(answer, _tell(work, events))
        await events.end()

    def _begin(self, action: str, *, forced: bool) -> Background[Event]:
        shut = contextlib.ExitStack()
        if action == "suspend":
            shut.enter_context(self._engine.shut())  # ours would be connections that keep it from that

        def over() -> None:
            self._under_way = ""
            shut.close()
            self._used(-1)

        self._under_way = action
        self._used(1)
        return Background(lambda tell: self._do(action, tell, forced=forced), f"{action} of the machine", over)

    def _do(self, action: str, report: Report, *, forced: bool) -> None:
        """In a thread. Raises `CoveError`."""
        if action == "start":
            launch.ensure_running(self._paths.name, report)
            return
        lifecycle.existing(self._paths.name)
        if action == "suspend":
            if unattended.state(self._paths) not in ("suspended", "stopped"):
                self._engine.wait_reached()
                ending.suspend_once_left(self._paths, report, anyway=forced)
            return
        if action == "restart":
            ending.check_restartable(self._paths)
        ending.stop(self._paths, report)
        if action == "restart":
            launch.ensure_running(self._paths.name, report)


async def _tell(work: Background[Event], events: Events) -> None:
    last: dict[str, Any] = {"done": True}
    try:
        async for event in work.told():
            if event.phase != REACHABLE:
                await events.send({"progress": event.to_json()})
    except CoveError as error:
        last = {"error": error.message, "hint": error.hint}
    except Gone:
        raise
    except Exception as error:
        log.exception("what the page has asked for failed")
        last = {
            "error": f"this is a bug in Cove: {type(error).__name__}: {error}",
            "hint": "the dashboard's log has more of it",
        }
    await events.send(last)
