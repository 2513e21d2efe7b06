"""Clients that attach while a container is being started."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from coved.containers.config import Request
from coved.containers.container import Container
from coved.containers.life import Life
from coved.errors import EngineError
from coved.runtime.spec import Attachment


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

    shim: Any = SimpleNamespace(attach=attach, on_oom=ignore, on_detach=ignore, on_gone=ignore)

    class Launcher:
        linked = outward = None

        async def start(self, container: Container, attachments: list[Attachment], on_exit: Any) -> None:
            assert attachments == [early.attachment]
            assert container.starting
            container.pending.add(container.id, late.attachment)
            await asyncio.sleep(0)
            if fails:
                raise EngineError("it was not to be")
            container.shim, container.state.status = shim, "running"

    async def nothing(*words: Any) -> None:
        pass

    async def scenario() -> None:
        config = {"Labels": {}, "Healthcheck": None}
        host_config = {"AutoRemove": False, "RestartPolicy": {"Name": "no"}}
        container = Container("c" * 64, "x", "sha256:0", "busybox", Request(config, host_config, ()), [], 0)
        registry: Any = SimpleNamespace(get=lambda reference: container, save=lambda container, lasting: None)
        other: Any = SimpleNamespace(publish=lambda *words: None, sandboxes=SimpleNamespace(close=nothing))
        life = Life(
            registry=registry, launcher=Launcher(), execs=other, networks=other, spawner=other, events=other, remove=nothing  # type: ignore[arg-type]
        )  # fmt: skip
        container.pending.add(container.id, early.attachment)
        if fails:
            with pytest.raises(EngineError, match="it was not to be"):
                await life.start("x")
        else:
            await life.start("x")
        assert len(container.pending) == 0

    asyncio.run(scenario())
    assert (early.hung_up(), late.hung_up()) == (True, True)  # a shim has duplicates of its own
    assert handed == ([] if fails else [late.attachment.fd])


def ignore(callback: Any) -> None:
    pass
