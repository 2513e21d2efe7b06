"""A spawner that does not answer: the wait for it is bounded, wherever it got stuck."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from coved.runtime import spawner_client
from coved.runtime.errors import RuntimeTimeout
from coved.runtime.spawner_client import SpawnerClient
from coved.runtime.spec import Stdio


@pytest.mark.parametrize("much", [0, 4_000_000])
@pytest.mark.parametrize("held", [False, True])
def test_a_create_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool, much: int) -> None:
    """``much`` is more than a socket takes of one whom nobody reads from."""
    monkeypatch.setattr(spawner_client, "CREATE_TIMEOUT_S", 0.3)

    async def scenario() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "spawner.sock"))
            listener.listen()
            client = SpawnerClient(tmp_path / "spawner.sock", tmp_path / "shims")
            after: asyncio.Future[Any] | None = asyncio.get_running_loop().create_future() if held else None
            spec: Any = {"process": {"args": ["x" * much]}}
            creating = asyncio.ensure_future(
                client.create(
                    "c",
                    spec,
                    stdio=Stdio(False, False, False, 0, 0),
                    log=None,
                    exit_file=tmp_path / "exit",
                    after=after,
                )
            )
            await asyncio.sleep(0.05)
            with listener.accept()[0] as taken:
                taken.setblocking(False)
                if held and not much:  # a shim ends when it is told that what it waits for will not come
                    asyncio.get_running_loop().call_later(0.5, taken.close)
                async with asyncio.timeout(30):
                    with pytest.raises(RuntimeTimeout, match="within 0 s"):
                        await creating

    asyncio.run(scenario())
