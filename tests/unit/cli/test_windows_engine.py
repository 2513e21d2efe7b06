"""`cove` as a process of Windows, and an engine on a named pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from told_engine import COVE, engine_at

if sys.platform != "win32":
    pytest.skip("of Windows", allow_module_level=True)


def cove(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVE_")}
    return subprocess.run([*COVE, *words], env=kept | more, capture_output=True, text=True, timeout=100)


def test_an_engine_is_named_by_its_pipe(tmp_path: Path) -> None:
    with engine_at(tmp_path / "engine.sock") as engine:
        assert engine.url.startswith("npipe:////./pipe/")
        engine.answers["GET", "/containers/json"] = 200, []
        for done in (cove("-H", engine.url, "ps", "-q"), cove("ps", "-q", COVE_HOST=engine.url)):
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert [request.path for request in engine.requests] == ["/containers/json"] * 2


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (
            "npipe:////./pipe/nosuch",
            "Cannot connect to the Docker daemon at npipe:////./pipe/nosuch. Is the docker daemon running?",
        ),
        ("unix:///c/docker.sock", "it must be a named pipe: COVE_HOST=npipe:////./pipe/NAME"),
        ("npipe:////other/pipe/engine", "it must be a named pipe: COVE_HOST=npipe:////./pipe/NAME"),
    ],
)
def test_what_is_no_engine_is_told(host: str, words: str) -> None:
    done = cove("-H", host, "ps")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
