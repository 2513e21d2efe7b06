"""What a build asks of the git repository that is its context."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coved.build.request import Request
from coved.build.stages.inputs import Inputs
from coved.build.vertices import Vertices
from test_wanted_paths import Silent


@pytest.mark.parametrize(
    ("value", "kept"), [("1", True), ("true", True), ("0", False), ("nonsense", False), (None, False)]
)
def test_a_repository_comes_with_its_history_where_that_is_wanted(
    tmp_path: Path, value: str | None, kept: bool
) -> None:
    asked: list[bool] = []

    async def context(url: str, doing: object, *, keep_git_dir: bool = False) -> Any:
        asked.append(keep_git_dir)
        (tmp_path / "Dockerfile").write_text("FROM scratch\n")
        return SimpleNamespace(path=tmp_path, dockerfile="Dockerfile")

    async def main() -> None:
        request = Request(context="https://host/x.git", build_args={"BUILDKIT_CONTEXT_KEEP_GIT_DIR": value})
        incoming: Any = SimpleNamespace(folder=lambda: contextlib.nullcontext(tmp_path))
        remote: Any = SimpleNamespace(context=context)
        silent: Any = Silent()
        async with contextlib.AsyncExitStack() as stack:
            inputs = Inputs(request, silent, Vertices(silent), remote, incoming, stack)
            assert await inputs.dockerfile() == b"FROM scratch\n"

    asyncio.run(main())
    assert asked == [kept]
