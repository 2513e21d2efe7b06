"""The limit of open files, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from cove.machine import descriptors
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
descriptors.allow_many()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("before", "after"), [("256 4096", "4096 4096"), ("4096 4096", "4096 4096"), ("300 9000", "9000 9000")]
)
def test_as_many_as_may_be(before: str, after: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *before.split()], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == after, done.stderr
