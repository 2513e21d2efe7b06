"""What is left to do after a container's end: one step that fails keeps no other from being done."""

from __future__ import annotations

import time
from typing import Any

import pytest

from isolation_support import shim_of
from life_support import ask

pytestmark = pytest.mark.native


def test_a_network_that_cannot_be_closed_keeps_nobody_from_the_next_start(engine: Any, make: Any) -> None:
    container = make("sleep", "300")
    container.reload()
    place = container.attrs["NetworkSettings"]["SandboxKey"]
    # A folder with something in it stands where the namespace was mounted: it can neither be unmounted nor removed.
    engine.sh(f"umount {place} && rm {place} && mkdir {place} && touch {place}/x")
    try:
        container.kill()
        assert container.wait()["StatusCode"] == 137
    finally:
        engine.sh(f"rm -r {place}")
    container.reload()
    assert container.status == "exited"
    assert container.attrs["NetworkSettings"]["SandboxKey"] == ""
    status, answer = ask(engine, "POST", f"/containers/{container.id}/start")
    assert status == 204, answer
    container.reload()
    assert container.status == "running"
    assert container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert b"\t00000000\t" in container.exec_run(["cat", "/proc/net/route"]).output  # the default route


def test_a_container_whose_shim_was_killed_has_ended_and_can_be_started_again(engine: Any, make: Any) -> None:
    container = make("sleep", "300")
    container.reload()
    pid = container.attrs["State"]["Pid"]
    engine.sh(f"kill -9 $(awk '/^PPid/ {{print $2}}' /proc/{pid}/status)")
    assert container.wait(timeout=30)["StatusCode"] == 137
    assert engine.sh(f"grep -s State /proc/{pid}/status || echo gone").strip() in ("gone", "State:	Z (zombie)")
    container.start()
    container.reload()
    assert container.status == "running"


def gone(engine: Any, pid: int) -> bool:
    return engine.sh(f"grep -s State /proc/{pid}/status || echo gone").strip() in ("gone", "State:	Z (zombie)")


def test_shims_that_do_not_answer_hold_no_engine_up_and_are_ended(engine: Any, make: Any) -> None:
    other, *containers = [make("sleep", "300") for _ in range(4)]
    for one in (other, *containers):
        one.reload()
    inits = [one.attrs["State"]["Pid"] for one in containers]
    shims = [shim_of(engine, one) for one in containers]
    engine.kill(meanwhile="kill -STOP " + " ".join(map(str, shims)))
    begun = time.monotonic()
    engine.start()
    took = time.monotonic() - begun
    assert took < 25, "each of them was waited for"
    assert all(gone(engine, pid) for pid in (*inits, *shims))
    for one in containers:
        one.reload()
        assert (one.status, one.attrs["State"]["ExitCode"]) == ("exited", 255)
        assert not engine.exists(engine.state / "shims" / one.id)
    containers[0].start()
    containers[0].reload()
    assert containers[0].status == "running"
    containers[1].remove()
    other.reload()
    assert other.status == "running"
    assert other.exec_run(["echo", "hi"]).output == b"hi\n"


def test_a_shim_that_is_left_is_in_nobodys_way(engine: Any, make: Any) -> None:
    """As after a shim that could not be taken away: that of a container which has ended, by what is on record."""
    container, removed = make("sleep", "300", start=False), make("sleep", "300", start=False)
    folder = engine.state / "shims"
    for one in (container, removed):
        engine.sh(f"mkdir {folder / one.id}")
    container.start()
    container.reload()
    assert container.status == "running"
    removed.remove()
    assert engine.names(folder).count(removed.id) == 0
