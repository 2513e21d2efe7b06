"""The machine that all tests of a session share: a real VM, booted once when the first test asks for it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_support import Machine, running_machine

ASKED_FOR = ("platforms", "dashboard", "clients", "cluster")
NOTHING_FOR = {"vm": ("unit", *ASKED_FOR), "host": ("e2e", "machine", *ASKED_FOR)}
"""Folders without a test of the part."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--native", action="store_true", help="run the engine's tests on an engine on this computer, not on the VM's"
    )
    parts = (
        "only the tests that need the VM, only the others, or what runs when asked for: other platforms' (all or some), the dashboard's,"
        " other people's programs, Kubernetes'"
    )
    parser.addoption("--part", choices=("vm", "host", "smoke", *ASKED_FOR), help=parts)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the dashboard's tests, and of other people's programs, not even imports are to be there when they are not asked for; and what
    has nothing for a part is not read for it: thousands of tests take half a minute."""
    if collection_path.parent != Path(__file__).parent:
        return None
    part, kind = config.getoption("--part"), collection_path.name
    if kind in ("dashboard", "clients"):
        return True if part != kind else None
    return True if kind in NOTHING_FOR.get(part, ()) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("--part")
    if part == "smoke":
        kept = [item for item in items if item.get_closest_marker("smoke")]
    else:
        kept = [item for item in items if part_of(item) == part or (part is None and part_of(item) not in ASKED_FOR)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def pytest_collection_finish() -> None:
    """What was imported and collected stays: looking for garbage among it again and again took a quarter of the time of small tests."""
    gc.freeze()


def part_of(item: pytest.Item) -> str:
    kind = item.path.relative_to(Path(__file__).parent).parts[0]
    if kind in ASKED_FOR:
        return kind
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
