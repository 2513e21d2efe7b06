"""The list of builds, as JSON (``/cove/builds``)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from coved.api import build_history
from coved.api.http import aclose
from coved.buildkit import records
from coved.buildkit.history import History
from coved.buildkit.status import StatusLog


def test_one_build_that_cannot_be_told_of_does_not_end_the_list(tmp_path: Path) -> None:
    history = History(tmp_path)

    def begin(ref: str, created_ns: int = 1) -> None:
        history.begin(records.begun(ref, "", {}, [], created_ns), StatusLog())

    async def body() -> None:
        begin("one")
        begin("never", 1 << 80)
        begin("two")
        told = build_history._told(cast("Any", SimpleNamespace(build_history=history)), follow=True)
        assert await some(told, 3) == ["one", "two", True]
        begin("again", 1 << 80)
        begin("three")
        assert await some(told, 1) == ["three"]
        await aclose(told)

    async def some(told: Any, count: int) -> list[object]:
        async with asyncio.timeout(30):
            found = [await anext(told) for _ in range(count)]
        return [each["Build"]["Ref"] if "Build" in each else each["Ready"] for each in found]

    asyncio.run(body())
