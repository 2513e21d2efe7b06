"""Which files of a context a build asks its client for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from coved.build.client import Client, Tree
from coved.build.request import Request
from coved.build.stages.inputs import Inputs
from coved.build.stages.plan import plan
from coved.build.vertices import Vertices
from coved.dockerfile.parser import parse
from coved.images.documents import Platform


class FakeClient(Client):
    def __init__(self, path: Path) -> None:
        self._path = path
        self.asked: list[tuple[str, ...]] = []

    @asynccontextmanager
    async def tree(self, name: str, *, only: Sequence[str] = (), **options: Any) -> AsyncIterator[Tree]:
        self.asked.append((*only,))
        yield Tree(self._path, "")


class Silent:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.parametrize(
    ("copy", "wanted"),
    [
        ("COPY a /b/../c d*/e /", ("a", "c", "d*/e")),
        ("COPY a .\nADD /b /", ("a", "b")),
        ("COPY . /", ()),
        ('COPY "" /', ()),
        ("COPY 'a' b /", ()),
        ("COPY $WHAT b /", ()),
        ("COPY a\\\\[b /", ()),
    ],
)
def test_no_more_than_is_copied(tmp_path: Path, copy: str, wanted: tuple[str, ...]) -> None:
    client = FakeClient(tmp_path)

    async def main() -> None:
        request = Request()
        async with contextlib.AsyncExitStack() as stack:
            nobody: Any = None
            silent: Any = Silent()
            inputs = Inputs(request, client, Vertices(silent), nobody, nobody, stack)
            inputs.want(plan(parse(f"FROM scratch\n{copy}\n".encode()), request, Platform("linux", "amd64")))
            await inputs.context()

    asyncio.run(main())
    assert client.asked[-1] == wanted


@pytest.mark.parametrize(
    ("dockerfile", "asked"),
    [
        ("FROM scratch\nRUN long\nCOPY a /\n", True),
        ("FROM scratch\nRUN --mount=type=bind,target=/a long\n", True),
        ("FROM scratch\nRUN long\n", False),
        ("FROM scratch AS one\nCOPY a /\nFROM scratch\nRUN long\n", False),
    ],
)
def test_the_context_is_asked_for_before_any_step_needs_it(tmp_path: Path, dockerfile: str, asked: bool) -> None:
    client = FakeClient(tmp_path)

    async def main() -> None:
        request = Request()
        async with contextlib.AsyncExitStack() as stack:
            nobody: Any = None
            silent: Any = Silent()
            inputs = Inputs(request, client, Vertices(silent), nobody, nobody, stack)
            stack.push_async_callback(inputs.close)
            inputs.want(plan(parse(dockerfile.encode()), request, Platform("linux", "amd64")))
            inputs.ask()
            await asyncio.sleep(0)

    asyncio.run(main())
    assert bool(client.asked) == asked
