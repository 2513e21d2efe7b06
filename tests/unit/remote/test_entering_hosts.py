"""What an engine on a host has of the host's files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

_PROGRAM = """
import sys
from coved.remote import entering
from coved.runtime import syscalls
syscalls.unshare(0x00020000)
syscalls.mount(None, "/", None, 1 << 14 | 1 << 18)
entering.bind(sys.argv[1], sys.argv[2])
entering.seal(sys.argv[2])
try:
    open(f"{sys.argv[2]}/written", "w")
except OSError as error:
    print(error.strerror)
"""


def test_what_is_sealed_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "hosts").mkdir()
    words = [sys.executable, "-c", _PROGRAM, str(tmp_path / "hosts"), str(tmp_path / "engines")]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (said.stdout, said.stderr) == ("Read-only file system\n", "")
    assert not [*(tmp_path / "hosts").iterdir()]
