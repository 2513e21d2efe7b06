"""Steps as they are told."""

from __future__ import annotations

from typing import Any

import pytest
from coved.build.progress import Status, Vertex
from coved.build.vertices import Vertices
from coved.errors import EngineError


class Noted:
    def __init__(self) -> None:
        self.vertices: list[Vertex] = []
        self.statuses: list[Status] = []

    def vertex(self, vertex: Vertex) -> None:
        self.vertices.append(vertex)

    def status(self, status: Status) -> None:
        self.statuses.append(status)


def test_what_fails_ends_with_all_of_its_parts() -> None:
    noted = Noted()
    progress: Any = noted
    with pytest.raises(EngineError), Vertices(progress).doing("step") as doing, doing.part("part"):
        raise EngineError("went wrong")
    assert [status.completed_ns > 0 for status in noted.statuses] == [False, True]
    assert [vertex.completed_ns > 0 for vertex in noted.vertices] == [False, True]
    assert noted.vertices[-1].error == "went wrong"
