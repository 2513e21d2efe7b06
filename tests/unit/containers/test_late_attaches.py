"""Clients that attach while a container is being started."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from coved.containers.container import Container
from coved.errors import EngineError
from coved.runtime.spec import Attachment
from lives import life_of, made, shim


class Ends:
    """A pair of sockets: what the engine has been given, and the client's."""

    def __init__(self) -> None:
        given, self.client = socket.socketpair()
        self.client.setblocking(False)
        self.attachment = Attachment(given.detach())

    def hung_up(self) -> bool:
        try:
            return self.client.recv(1) == b""
        except BlockingIOError:
            return False


@pytest.mark.parametrize("fails", [True, False])
def test_they_hear_of_a_start_that_failed(fails: bool) -> None:
    early, late = Ends(), Ends()
    handed: list[int] = []

    async def attach(process_id: str, attachment: Attachment) -> None:
        handed.append(attachment.fd)

    class Launcher:
        linked = proxies_and_certificates = None

        async def start(self, container: Container, attachments: list[Attachment], on_exit: Any) -> None:
            assert attachments == [early.attachment]
            assert container.starting
            container.pending.add(container.id, late.attachment)
            await asyncio.sleep(0)
            if fails:
                raise EngineError("it was not to be")
            container.shim, container.state.status = shim(attach=attach), "running"

    async def nothing(*words: Any) -> None:
        pass

    async def scenario() -> None:
        container = made("x")
        registry: Any = SimpleNamespace(get=lambda reference: container, save=lambda container, lasting: None)
        other: Any = SimpleNamespace(publish=lambda *words: None, sandboxes=SimpleNamespace(close=nothing))
        one = life_of(other, nothing, registry=registry, launcher=Launcher())
        container.pending.add(container.id, early.attachment)
        if fails:
            with pytest.raises(EngineError, match="it was not to be"):
                await one.start("x")
        else:
            await one.start("x")
        assert len(container.pending) == 0

    asyncio.run(scenario())
    assert (early.hung_up(), late.hung_up()) == (True, True)  # a shim has duplicates of its own
    assert handed == ([] if fails else [late.attachment.fd])
