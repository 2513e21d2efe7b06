"""What clients and installers of other systems do, as far as it runs here (docs/decisions/0057)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def installers() -> Path:
    """What `make installers` has made; COVE_INSTALLERS names another folder than build/installers."""
    folder = Path(os.environ.get("COVE_INSTALLERS", ROOT / "build/installers"))
    assert (folder / "SHA256SUMS").exists(), "make them first: make installers"
    return folder
