"""The machine that all tests of a session share: a real VM, booted once when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from machine_support import Machine, running_machine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--native", action="store_true", help="run the engine's tests on an engine on this computer, not on the VM's"
    )


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    with running_machine() as made:
        yield made
