"""A connection that has been given away is closed when nothing comes of the attachment."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coved.api import containers
from coved.api.http import Hijacked
from coved.api.query import Query


def test_a_past_that_cannot_be_read_closes_the_connection() -> None:
    ours, theirs = socket.socketpair()

    class Request:
        match = {"id": "x"}  # noqa: RUF012
        query = Query("stream=1&stdout=1&logs=1")

        async def hijack(self, *, raw_stream: bool) -> Hijacked:
            return Hijacked(theirs.detach(), b"")

    def fail(container: Any) -> Path:
        raise RuntimeError("no such place")

    container = SimpleNamespace(
        config={"Tty": False, "OpenStdin": False},
        host_config={"LogConfig": {"Type": "json-file"}},
        state=SimpleNamespace(status="running"),
    )
    engine: Any = SimpleNamespace(
        containers=SimpleNamespace(
            get=lambda reference: container, must_be_attachable=lambda container: None, log_path=fail
        )
    )
    request: Any = Request()
    with ours:
        ours.settimeout(30)
        with pytest.raises(RuntimeError, match="no such place"):
            asyncio.run(containers.attach(engine, request))
        assert ours.recv(1) == b""
