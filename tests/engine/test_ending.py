"""What is left to do after a container's end: one step that fails keeps no other from being done."""

from __future__ import annotations

from typing import Any

from life_support import ask


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
