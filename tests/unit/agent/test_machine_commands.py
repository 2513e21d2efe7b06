"""`cove machine` on a stand-in for QEMU: what users see when things go well, and when they do not."""

from __future__ import annotations

from typing import Any


def test_start_status_stop(cove: Any) -> None:
    cove.make()
    assert "is running" in cove.run("machine", "start").stdout
    assert cove.status()["state"] == "running"
    cove.run("machine", "stop")
    assert cove.status()["state"] == "stopped"
