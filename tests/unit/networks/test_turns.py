"""Changes of a container's networks come one after another, and end with the container."""

from __future__ import annotations

import asyncio

import pytest
from coved.errors import NotFound
from coved.networks.turns import Turns


def test_a_turn_waits_for_the_one_before_and_not_for_other_containers() -> None:
    async def scenario() -> list[str]:
        turns, done = Turns(), []
        first_may_end = asyncio.Event()

        async def take(container: str, name: str, until: asyncio.Event | None = None) -> None:
            async with turns.of(container):
                done.append(f"{name} begins")
                if until is not None:
                    await until.wait()
                done.append(f"{name} ends")

        first = asyncio.create_task(take("a", "first", first_may_end))
        second = asyncio.create_task(take("a", "second"))
        await take("b", "other")
        first_may_end.set()
        await asyncio.gather(first, second)
        return done

    done = asyncio.run(scenario())
    own = [one for one in done if not one.startswith("other")]
    assert own == ["first begins", "first ends", "second begins", "second ends"]
    assert done.index("other ends") < done.index("first ends")


def test_whoever_waits_while_the_container_is_removed_is_told_so() -> None:
    async def scenario() -> None:
        turns = Turns()
        async with turns.of("a"):
            late = asyncio.create_task(turns.of("a").__aenter__())
            await asyncio.sleep(0)
            turns.end("a")
        with pytest.raises(NotFound, match="No such container: a"):
            await late

    asyncio.run(scenario())
