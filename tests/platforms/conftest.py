"""What clients and installers of other systems do, as far as it runs here (docs/decisions/0057)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from platforms_wine import Wine

ROOT = Path(__file__).parents[2]
sys.path += [
    str(ROOT / "installers"),
    str(ROOT / "tests/engine"),
]  # of what makes installers, and of this computer's engine


@pytest.fixture(scope="session")
def installers() -> Path:
    """What `make installers` has made; COVE_INSTALLERS names another folder than build/installers."""
    folder = Path(os.environ.get("COVE_INSTALLERS", ROOT / "build/installers"))
    assert (folder / "SHA256SUMS").exists(), "make them first: make installers"
    return folder


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wine]:
    wine = Wine(tmp_path_factory.mktemp("wine") / "prefix")
    wine.set_path(r"C:\other")  # another program's, which must outlive Cove's installers
    yield wine
