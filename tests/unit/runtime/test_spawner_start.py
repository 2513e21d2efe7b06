"""How the spawner is started, and that it loads no more than shims need: whatever it has, every fork copies and every shim holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import coved
import pytest
from coved.runtime import spawner

TOO_LARGE = {
    *("argparse", "ast", "asyncio", "base64", "dataclasses", "hashlib", "inspect", "logging", "pathlib", "platform"),
    *("random", "shutil", "sqlite3", "subprocess", "tempfile", "threading", "tokenize", "urllib.parse"),
}
PATHS = ["--socket", "/s", "--shims", "/f"]


@pytest.mark.parametrize("program", ["coved.runtime.spawner", "coved.boot.spawner"])
def test_it_loads_no_more_than_shims_need(program: str) -> None:
    guest = Path(coved.__file__).parent.parent
    code = f"import sys; sys.path.insert(0, {str(guest)!r}); import {program}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    loaded = {*done.stdout.split()}
    assert program in loaded, done.stderr
    assert loaded & TOO_LARGE == set()


def test_options_are_read() -> None:
    words = [*PATHS, "--foreground", "--listener-fd", "3", "--ready-fd", "4"]
    assert spawner._options(words) == {
        "--socket": "/s", "--shims": "/f", "--foreground": "", "--listener-fd": "3", "--ready-fd": "4"
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["--socket", "/s"],
        [*PATHS, "more"],
        [*PATHS, "-"],
        [*PATHS, "--ready-fd"],
        [*PATHS, "--ready-fd", "-1"],
        [*PATHS, "--listener-fd", "three"],
    ],
)
def test_what_it_does_not_know_ends_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="usage: coved-spawner"):
        spawner._options(words)
