"""Who may be at a container's files together, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from coved.containers import files_turn
from coved.containers.files_turn import FilesTurn
from coved.errors import Conflict

A, B, C = object(), object(), object()


class Guests:
    """Callers that stay until they are told to go, or until they are hastened."""

    def __init__(self) -> None:
        self.turn = FilesTurn()
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._gone: dict[str, asyncio.Event] = {}

    async def come(self, name: str, mount: object, *, patient: bool = True) -> None:
        gone = self._gone[name] = asyncio.Event()

        async def stay() -> None:
            async with self.turn.among(mount) as place:
                self.inside.append(name)
                if not patient:
                    place.when_wanted(gone.set)
                await gone.wait()
                self.inside.remove(name)

        self.tasks[name] = asyncio.create_task(stay())
        await settled()

    async def urgent(self, name: str) -> None:
        gone = self._gone[name] = asyncio.Event()

        async def stay() -> None:
            async with self.turn.urgently():
                assert self.inside == []
                self.inside.append(name)
                await gone.wait()
                self.inside.remove(name)

        self.tasks[name] = asyncio.create_task(stay())
        await settled()

    async def go(self, name: str) -> None:
        self._gone[name].set()
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def run(scenario: Callable[[Guests], Awaitable[None]]) -> None:
    async def whole() -> None:
        guests = Guests()
        async with asyncio.timeout(10):
            await scenario(guests)
            for name in guests.tasks:
                await guests.go(name)
            await asyncio.gather(*guests.tasks.values(), return_exceptions=True)
        assert guests.inside == []
        async with asyncio.timeout(30), guests.turn.urgently():
            pass

    asyncio.run(whole())


def test_those_at_one_mount_are_there_together() -> None:
    async def scenario(guests: Guests) -> None:
        for name in "xyz":
            await guests.come(name, A)
        assert guests.inside == [*"xyz"]

    run(scenario)


def test_another_mount_waits_until_all_have_gone_and_nobody_joins_them() -> None:
    async def scenario(guests: Guests) -> None:
        await guests.come("stays", A)
        await guests.come("hastens", A, patient=False)
        await guests.come("other", B)
        assert guests.inside == ["stays"]
        await guests.come("late", A)
        await guests.come("third", C)
        await guests.come("other too", B)
        assert guests.inside == ["stays"]
        await guests.go("stays")
        assert guests.inside and {*guests.inside} in ({"other", "other too"}, {"other"})
        for name in ("other", "other too", "late", "third"):
            await guests.go(name)

    run(scenario)


def test_one_that_gives_up_waiting_leaves_the_door_open() -> None:
    async def scenario(guests: Guests) -> None:
        await guests.come("stays", A)
        await guests.come("other", B)
        await guests.come("late", A)
        assert guests.inside == ["stays"]
        guests.tasks["other"].cancel()
        await settled()
        assert guests.inside == ["stays", "late"]

    run(scenario)


def test_a_containers_life_comes_first_and_alone() -> None:
    async def scenario(guests: Guests) -> None:
        await guests.come("stays", A)
        await guests.come("hastens", A, patient=False)
        await guests.come("other", B)
        await guests.urgent("start")
        await guests.urgent("removal")
        await guests.come("late", A)
        assert guests.inside == ["stays"]
        await guests.go("stays")
        assert guests.inside == ["start"]
        await guests.go("start")
        assert guests.inside == ["removal"]
        await guests.go("removal")
        assert {*guests.inside} < {"other", "late"}

    run(scenario)


def test_who_works_at_a_clients_pace_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_turn, "GRACE_S", 0.05)

    async def scenario() -> None:
        turn = FilesTurn()
        inside = asyncio.Event()

        async def upload() -> None:
            async with turn.among(A) as place, place.at_a_clients_pace():
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(upload())
        await inside.wait()
        async with asyncio.timeout(30), turn.urgently():
            with pytest.raises(Conflict, match="the copy was broken off"):
                await task

    asyncio.run(scenario())
