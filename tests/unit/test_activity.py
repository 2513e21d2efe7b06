"""What the host is told of the engine's work: at once when there is some, and once when there is none any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import virtual_time
from coved.activity import Activity

SETTLE_S = 0.05


class Told:
    def __init__(self) -> None:
        self.running = False
        self.asked = 0
        self.levels: list[str] = []
        self.activity = Activity(self.look, SETTLE_S)

    def look(self) -> bool:
        self.asked += 1
        return self.running

    async def quiet(self) -> None:
        await asyncio.sleep(4 * SETTLE_S)


def followed(scenario: Callable[[Told], Awaitable[None]]) -> None:
    async def run() -> None:
        told = Told()
        told.activity.follow(told.levels.append)
        await scenario(told)
        told.activity.close()

    virtual_time.run(run())


def test_work_is_told_at_once_and_quiet_a_moment_later() -> None:
    async def scenario(told: Told) -> None:
        await told.quiet()
        assert told.levels == ["idle"]
        told.activity.begin()
        assert told.levels == ["idle", "busy"]
        await told.quiet()
        assert told.levels == ["idle", "busy"]
        told.activity.end()
        assert told.levels == ["idle", "busy"]
        await told.quiet()
        assert told.levels == ["idle", "busy", "idle"]

    followed(scenario)


def test_nobody_is_told_of_what_lies_between_requests() -> None:
    async def scenario(told: Told) -> None:
        for _ in range(1000):
            told.activity.begin()
            told.activity.end()
        assert told.asked == 0
        await told.quiet()
        assert (told.levels, told.asked) == (["idle"], 1)
        told.activity.begin()
        told.activity.begin()
        told.activity.end()
        await told.quiet()
        assert told.levels == ["idle", "busy"]

    followed(scenario)


def test_containers_that_run_are_told_and_their_end() -> None:
    async def scenario(told: Told) -> None:
        told.running = True
        await told.quiet()
        assert told.levels == ["running"]
        told.running = False
        told.activity.changed()
        await told.quiet()
        assert told.levels == ["running", "idle"]
        told.running = True  # its restart policy
        told.activity.changed()
        await told.quiet()
        assert told.levels == ["running", "idle", "running"]

    followed(scenario)


def test_without_a_host_nothing_is_looked_at() -> None:
    async def scenario() -> None:
        told = Told()
        told.activity.begin()
        told.activity.end()
        told.activity.changed()
        await told.quiet()
        assert told.asked == 0

    virtual_time.run(scenario())
