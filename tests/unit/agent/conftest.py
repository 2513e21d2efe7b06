"""A Cove of its own whose QEMU is a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fake_cove import Cove, cove_of_its_own


@pytest.fixture
def cove(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cove]:
    with cove_of_its_own(monkeypatch) as made:
        yield made


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """For what no event tells a test: look until it holds."""
    import time

    def look(holds: Callable[[], bool], timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.02)

    return look
