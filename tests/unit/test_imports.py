"""Imports point one way (docs/architecture.md): a package knows those below it, never one that knows it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import cove
import pytest

ROOT = Path(cove.__file__).parent
BELOW = {
    "cli": {"agent", "drivers", "image", "machine"},
    "agent": {"drivers", "forward", "image", "machine", "transport"},
    "forward": {"drivers", "transport"},
    "drivers": {"machine"},
    "image": {"machine"},
    "machine": {"transport"},
    "transport": set(),
}


def imported(package: str) -> Iterator[tuple[str, str]]:
    """(module, package that it imports), wherever the import stands."""
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                head, _, rest = name.partition(".")
                if head == "cove" and (ROOT / rest.partition(".")[0]).is_dir():
                    yield str(file.relative_to(ROOT)), rest.partition(".")[0]


def test_every_package_is_here() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(BELOW)


@pytest.mark.parametrize("package", BELOW)
def test_a_package_imports_those_below_it(package: str) -> None:
    wrong = [(module, other) for module, other in imported(package) if other not in BELOW[package] | {package}]
    assert not wrong


def test_no_package_is_below_itself() -> None:
    TopologicalSorter(BELOW).prepare()  # raises CycleError
