"""What a shim tells its engine without being asked: out of memory, and ends, of which only the latest are kept."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from coved.runtime import wire
from coved.runtime.shim_client import ShimClient

STATE = {"event": "state", "pid": 5, "started": True, "warnings": [], "execs": {}, "exits": {}}


def told(messages: list[dict[str, Any]], look: Callable[[ShimClient, list[str]], None]) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        client = ShimClient("c", ours)
        heard: list[str] = []
        client.on_oom(lambda: heard.append("oom"))
        client.on_exit(lambda id, ended: heard.append(id))
        with theirs:
            for message in messages:
                await asyncio.get_running_loop().sock_sendall(theirs, wire.encode(message))
            await client.first_message(5)
            await client.wait("last")
            look(client, heard)
        client.close()

    asyncio.run(main())


def ended(id: str) -> dict[str, Any]:
    return {"event": "exit", "process_id": id, "code": 0, "oom_killed": False, "exited_at_ns": 1}


def test_every_kill_for_want_of_memory_is_told() -> None:
    def look(client: ShimClient, heard: list[str]) -> None:
        assert client.oom_killed
        assert heard == ["oom", "oom", "last"]

    told([STATE, {"event": "oom"}, {"event": "oom"}, ended("last")], look)


def test_a_later_engine_learns_of_it() -> None:
    def look(client: ShimClient, heard: list[str]) -> None:
        assert client.oom_killed
        assert heard == ["last"]  # it is no news

    told([{**STATE, "oom_killed": True}, ended("last")], look)


def test_only_the_latest_ends_are_kept_and_that_of_init() -> None:
    def look(client: ShimClient, heard: list[str]) -> None:
        assert len(heard) == 402
        assert len(client.exits) == wire.KEPT_EXITS
        assert "" in client.exits
        assert "last" in client.exits
        assert "0" not in client.exits

    told([STATE, ended(""), *(ended(str(number)) for number in range(400)), ended("last")], look)
