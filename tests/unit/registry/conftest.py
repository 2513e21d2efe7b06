from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from faulty import Faulty


@pytest.fixture
def server() -> Iterator[Faulty]:
    made = Faulty()
    yield made
    made.close()


@pytest.fixture
def another() -> Iterator[Callable[[], Faulty]]:
    """Further servers: other hosts, as far as a client knows."""
    made: list[Faulty] = []

    def make() -> Faulty:
        made.append(Faulty())
        return made[-1]

    yield make
    for one in made:
        one.close()
