"""Execs that are created and never started: there is a bound to them, and those that run have nothing to do with it."""

from __future__ import annotations

from typing import Any

import pytest
from coved.containers.execs import UNSTARTED

from life_support import ask

pytestmark = [pytest.mark.root, pytest.mark.native]


def create(engine: Any, container: Any, *words: str) -> tuple[int, Any]:
    return ask(engine, "POST", f"/containers/{container.id}/exec", {"Cmd": [*words]})


def test_there_is_a_bound_to_execs_that_nobody_starts(engine: Any, make: Any) -> None:
    container, other = make(), make()
    running = create(engine, container, "sleep", "300")[1]["Id"]
    assert ask(engine, "POST", f"/exec/{running}/start", {"Detach": True})[0] == 200
    made = [create(engine, container, "true") for _ in range(UNSTARTED)]
    assert {status for status, _ in made} == {201}
    status, answer = create(engine, container, "true")
    assert status == 409
    assert answer["message"].startswith(
        f"Container {container.id} has {UNSTARTED} execs already that were created and not started"
    )
    assert create(engine, other, "true")[0] == 201
    assert ask(engine, "POST", f"/exec/{made[0][1]['Id']}/start", {"Detach": True})[0] == 200
    assert create(engine, container, "true")[0] == 201
    assert ask(engine, "GET", f"/exec/{running}/json")[1]["Running"] is True
