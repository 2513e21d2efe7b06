"""A shim that dies while the engine sends to it: who asks is told, and the event loop has nothing left of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from coved.runtime.errors import ShimGone
from coved.runtime.shim_client import ShimClient


def die(shim: ShimClient, other: socket.socket) -> None:
    other.close()


def let_go(shim: ShimClient, other: socket.socket) -> None:
    shim.close()


@pytest.mark.parametrize("end", [die, let_go])
def test_who_waits_to_send_is_told_and_the_descriptor_is_free(end: Callable[[ShimClient, socket.socket], None]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        number = ours.fileno()
        shim = ShimClient("c", ours)
        asking = [loop.create_task(shim._request("exec", {"much": "y" * 2_000_000})) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in asking)
        end(shim, theirs)
        async with asyncio.timeout(30):
            for task in asking:
                with pytest.raises(ShimGone):
                    await task
        again, other = socket.socketpair()
        with again, other:
            assert number in (again.fileno(), other.fileno())
            came = asyncio.Event()
            loop.add_reader(number, came.set)  # what is new is nothing that the loop believes to know
            (other if again.fileno() == number else again).send(b"x")
            async with asyncio.timeout(30):
                await came.wait()
            loop.remove_reader(number)
        theirs.close()

    asyncio.run(scenario())
