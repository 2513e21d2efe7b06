"""`cove diagnose` for the page: findings as they are made."""

from __future__ import annotations

from collections.abc import Callable

from cove.dashboard.background import Background
from cove.dashboard.http import Answer, Events, unless_gone
from cove.machine.paths import MachinePaths
from cove.support import diagnose, findings
from cove.support.findings import PROBLEM, WARNING, Finding


class Diagnosis:
    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths

    async def answer(self, answer: Answer) -> None:
        """Raises `Gone`."""
        events = Events(answer)
        await events.begin()
        await unless_gone(answer, self._tell(events))
        await events.end()

    async def _tell(self, events: Events) -> None:
        found: list[Finding] = []
        async for finding in Background(self._look, "diagnosis").told():
            found.append(finding)
            await events.send({"finding": finding.shown()})
        problems, warnings = findings.count(found, PROBLEM), findings.count(found, WARNING)
        await events.send({"done": True, "problems": problems, "warnings": warnings})

    def _look(self, tell: Callable[[Finding], None]) -> None:
        for finding in findings.run(diagnose.checks_of(self._paths)):
            tell(finding)
