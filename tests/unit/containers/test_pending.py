"""Those who wait for a container's start, when the first of them could not be watched."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest
from coved.containers.pending import Pending
from coved.runtime.spec import Attachment


def test_one_that_cannot_be_watched_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        pending = Pending()

        def refuse(fd: int, callback: Any, *arguments: Any) -> None:
            raise FileNotFoundError

        given, other = socket.socketpair()
        with monkeypatch.context() as patched:
            patched.setattr(loop, "add_reader", refuse)
            with pytest.raises(FileNotFoundError):
                pending.add("c", Attachment(given.detach()))
        other.close()
        assert len(pending) == 0
        given, other = socket.socketpair()
        fd = given.detach()
        pending.add("c", Attachment(fd))
        assert len(pending) == 1
        other.close()
        async with asyncio.timeout(30):
            while len(pending):  # noqa: ASYNC110 - the loop is to tell of its leaving
                await asyncio.sleep(0.01)
        with pytest.raises(OSError):
            os.fstat(fd)

    asyncio.run(scenario())
