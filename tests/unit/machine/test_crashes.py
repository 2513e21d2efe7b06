"""How a machine ended without being told to is kept: the last time, how often, and whoever came meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cove.agent import unattended
from cove.machine import crashes, lifecycle
from cove.machine.paths import MachinePaths

DAY = 86400.0
RUN = {
    "boot_id": "x", "ssh_port": 1, "image": "i", "accelerator": "tcg", "accelerator_reason": "", "qemu_version": "9",
    "cpus": 1, "memory": 1,
}  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePaths:
    monkeypatch.setenv("COVE_HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return lifecycle.init("default")


def test_the_last_one_is_kept_and_all_are_counted(paths: MachinePaths) -> None:
    assert crashes.load(paths) is None
    now = time.time()
    crashes.note(paths, "VM", "QEMU ended", [], "a", now - 40 * DAY)
    crashes.note(paths, "engine", "SIGKILL", [], "b", now - 2 * DAY)
    last = crashes.load(paths)
    assert last is not None
    assert (last.what, last.count, last.is_fresh) == ("engine", 1, False)  # the first is too long ago to be counted
    assert "engine.log" in last.see(paths)
    crashes.note(paths, "engine", "SIGKILL", [], "b")
    crashes.note(paths, "VM", "QEMU was killed by SIGKILL", ["last", "words"], "b")
    last = crashes.load(paths)
    assert last is not None
    assert (last.count, last.is_fresh, last.words) == (3, True, ("last", "words"))
    assert str(last) == (
        f"the VM ended by itself at {time.strftime('%H:%M', time.localtime(last.at))}: QEMU was killed by SIGKILL, 3 times"
        " within 30 days"
    )


def test_the_end_of_a_vm_is_noted_once(paths: MachinePaths) -> None:
    for _ in range(2):  # the agent sees it, and so does the next start
        crashes.note(paths, "VM", "QEMU ended", [], "a")
    last = crashes.load(paths)
    assert last is not None
    assert last.count == 1


@pytest.mark.parametrize("text", ["", "[]", '{"what": "VM"}', "\xff"])
def test_a_broken_file_is_none(paths: MachinePaths, text: str) -> None:
    paths.crash.write_text(text, "latin-1")
    assert crashes.load(paths) is None
    crashes.note(paths, "VM", "QEMU ended", [], "a")
    assert crashes.load(paths) is not None


def test_the_end_of_the_computer_is_no_crash(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.run_state.write_text(json.dumps({**RUN, "started_at": time.time()}))
    monkeypatch.setattr(crashes, "computer_began", lambda: time.time() + 1)
    unattended.note_crash(paths, seen=False)
    assert crashes.load(paths) is None
    assert unattended.status(paths) == {"state": "stopped", "ended_with_computer": True}
    monkeypatch.setattr(crashes, "computer_began", lambda: 0.0)
    unattended.note_crash(paths, seen=False)
    assert crashes.load(paths) is not None


def test_the_computer_was_switched_on_before_now() -> None:
    assert 0 < crashes.computer_began() < time.time()
