"""What the tests of the machine share with the engine's: engines, and the kill test's load, journal and checker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_support import Machine, running_machine

sys.path.append(str(Path(__file__).parent.parent / "engine"))


@pytest.fixture(scope="module")
def own_machine() -> Iterator[Machine]:
    """A machine for tests that remove all that is in it, and kill it again and again."""
    with running_machine() as made:
        yield made
