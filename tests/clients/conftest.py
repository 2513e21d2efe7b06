"""Other people's programs, as their users run them, before Cove's engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / "engine")]  # of an engine on this computer

from laptop import Laptop, laptop_of, native_laptop


@pytest.fixture(scope="session")
def laptop(request: pytest.FixtureRequest) -> Iterator[Laptop]:
    """Before the VM; with --native before an engine on this computer."""
    if request.config.getoption("--native"):
        with native_laptop() as made:
            yield made
    else:
        yield laptop_of(request.getfixturevalue("machine"))
