"""The client's unit tests with a real Python for Windows, under Wine. What they leave out, and why, tests/unit/not_on_windows.py says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import windows_python
from platforms_wine import Wine

ROOT = Path(__file__).parents[2]
MEANT_FOR_WINDOWS = ("local", "machine", "cli", "forward", "share")
"""Folders of tests/unit."""
BOUND_S = 900
AT_LEAST = 600
"""Tests that pass. With fewer, something keeps many of them from being run at all."""

pytestmark = pytest.mark.timeout(2000)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Wine:
    made = Wine(tmp_path_factory.mktemp("wine") / "prefix")
    made.lay_primitives()
    return made


def test_the_clients_unit_tests_pass_on_windows(installers: Path, wine: Wine, tmp_path: Path) -> None:
    python, folders = windows_python.make(installers)
    said = wine.run(
        python, "-m", "pytest", "-q", "-p", "wine_lacks", "-p", "no:cacheprovider", "--timeout=120",
        *(f"tests/unit/{each}" for each in MEANT_FOR_WINDOWS),
        cwd=ROOT, bound_s=BOUND_S, **windows_python.importing(*folders, Path(__file__).parent),
    )  # fmt: skip
    print(said)
    passed = re.search(r"^(\d+) passed, ", said.splitlines()[-1])
    assert passed and int(passed[1]) >= AT_LEAST, said
