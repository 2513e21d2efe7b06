"""Execs that nobody has started for long make room for others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from coved.containers import execs
from coved.containers.execs import GIVEN_UP_S, UNSTARTED, Execs
from coved.errors import Conflict, NotFound


def container() -> Any:
    """As much of a running container as the creation of an exec looks at."""
    return SimpleNamespace(
        id="c" * 64,
        config={"Env": [], "User": "", "WorkingDir": ""},
        state=SimpleNamespace(status="running"),
        shim=SimpleNamespace(pid=1),
        event_attributes=lambda **more: more,
    )


def test_those_that_were_never_started_are_given_up_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr(execs, "time", SimpleNamespace(monotonic=lambda: clock))
    events: Any = SimpleNamespace(publish=lambda *words: None)
    linked: Any = SimpleNamespace(environment=lambda container: [])
    proxies: Any = SimpleNamespace(environment=lambda env, pid: [])
    made, one = Execs(events, linked, proxies), container()

    def create() -> execs.Exec:
        return made.create(one, {"Cmd": ["true"]}, reference="name")

    first, ran, runs = create(), create(), create()
    runs.running, ran.exit_code = True, 0
    clock += GIVEN_UP_S - 1
    later = [create() for _ in range(UNSTARTED - 1)]
    with pytest.raises(Conflict, match="Container name has 256 execs already"):
        create()
    clock += 2
    create()
    with pytest.raises(NotFound):
        made.get(first.id)
    for kept in (ran, runs, *later):
        assert made.get(kept.id) is kept
    with pytest.raises(Conflict):
        create()
