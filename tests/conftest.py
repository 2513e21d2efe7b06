"""The machine that all tests of a session share: a real VM, booted once when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_support import Machine, running_machine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--native", action="store_true", help="run the engine's tests on an engine on this computer, not on the VM's"
    )
    parser.addoption(
        "--part",
        choices=("vm", "host", "platforms"),
        help="only the tests that need the VM, or only those of other systems' clients and of installers, or only the others",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if part := config.getoption("--part"):
        config.hook.pytest_deselected(items=[item for item in items if part_of(item) != part])
        items[:] = [item for item in items if part_of(item) == part]


def part_of(item: pytest.Item) -> str:
    if item.path.relative_to(Path(__file__).parent).parts[0] == "platforms":
        return "platforms"
    return "vm" if needs_vm(item) else "host"


def needs_vm(item: pytest.Item) -> bool:
    kind = item.path.relative_to(Path(__file__).parent).parts[0]
    if kind != "engine":
        return kind in ("e2e", "machine")
    fixtures = getattr(item, "fixturenames", ())
    native = item.config.getoption("--native") or item.get_closest_marker("native")
    return "machine" in fixtures or ("engine" in fixtures and not native)


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    with running_machine() as made:
        yield made
