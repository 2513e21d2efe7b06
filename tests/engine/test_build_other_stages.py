"""Builds for several platforms whose stages are not the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.native]

DOCKERFILE = """\
FROM scratch AS of-amd64
COPY a /file
FROM scratch AS of-arm64
COPY b /file
FROM of-$TARGETARCH
"""


def test_each_platform_has_the_files_that_its_stages_take(engine: Any, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    for name in "ab":
        (context / name).write_text(name)
    (context / "Dockerfile").write_text(DOCKERFILE)
    words = [
        sys.executable,
        "-m",
        "cove",
        "--host",
        engine.url,
        "build",
        "--progress=plain",
        "-o",
        str(tmp_path / "out"),
    ]
    platforms = ["linux/amd64", "linux/arm64"]
    done = subprocess.run(
        [*words, f"--platform={','.join(platforms)}", str(context)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = [(tmp_path / "out" / one.replace("/", "_") / "file").read_text() for one in platforms]
    assert found == ["a", "b"]
