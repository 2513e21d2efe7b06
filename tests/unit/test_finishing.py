"""What is done to its end although its caller is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from coved.finishing import to_the_end


def test_a_cancelled_caller_waits_for_the_end_however_often_it_is_cancelled() -> None:
    async def scenario() -> None:
        may_end, ended = asyncio.Event(), []

        async def work() -> None:
            await may_end.wait()
            ended.append(True)

        caller = asyncio.create_task(to_the_end(work()))
        for _ in range(3):
            await asyncio.sleep(0)
            caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended == [True]

    asyncio.run(scenario())


def test_result_and_error_are_the_works() -> None:
    async def give() -> int:
        return 7

    async def fail() -> None:
        raise ValueError("no")

    assert asyncio.run(to_the_end(give())) == 7
    with pytest.raises(ValueError, match="no"):
        asyncio.run(to_the_end(fail()))
