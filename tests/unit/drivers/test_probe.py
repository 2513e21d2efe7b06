"""The accelerator's probe, with the real QEMU."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from cove.drivers.qemu import binary, firmware, probe
from cove.errors import DriverError, HypervisorMissing
from cove.machine.architecture import AMD64, ARM64


def test_software_emulation_runs_the_firmware() -> None:
    assert probe.run(binary.find("", AMD64), AMD64, ["tcg"]).accelerator == "tcg"


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")
def test_what_qemu_has_started_may_go_on(tmp_path: Path) -> None:
    """It has the same standard streams, whose end is not waited for."""
    program, left = tmp_path / "qemu", tmp_path / "left"
    program.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! >{left}\nexit {firmware.of(AMD64).status}\n")
    program.chmod(0o700)
    try:
        assert probe.run(program, AMD64, ["tcg"]).accelerator == "tcg"
    finally:
        os.kill(int(left.read_text()), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of a process is looked for")
def test_an_end_is_waited_for_and_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_later(_: float) -> None:
        raise AssertionError("somebody looks again and again")

    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o700)
    monkeypatch.setattr("time.sleep", look_later)
    with pytest.raises(DriverError, match="nosuch is there but ran no guest code within"):
        probe.run(program, AMD64, ["nosuch"], bound_s=0.2)


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")
def test_of_what_qemu_says_the_beginning_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def telling(lines: list[str]) -> list[str]:
        looked_at.append(sum(len(line) + 1 for line in lines))
        return lines

    monkeypatch.setattr(probe.lastwords, "telling", telling)
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nyes 'no such thing' | head -n 100000 >&2\nexit 1\n")
    program.chmod(0o700)
    with pytest.raises(DriverError, match="nosuch failed: no such thing"):
        probe.run(program, AMD64, ["nosuch"], bound_s=60)
    assert 0 < looked_at[0] <= probe.MAX_SAID + 1


def test_an_accelerator_that_does_not_exist_is_refused_with_its_reason() -> None:
    with pytest.raises(DriverError, match="no accelerator runs guest code here: nosuch failed"):
        probe.run(binary.find("", AMD64), AMD64, ["nosuch"])


def test_a_device_that_is_absent_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "KVM_DEVICE", Path("/dev/no-such-device"))
    found = probe.run(binary.find("", AMD64), AMD64, ["kvm", "tcg"])
    assert (found.accelerator, found.reason) == ("tcg", "/dev/no-such-device is absent")


def test_processors_are_accelerated_for_their_own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.sys, "platform", "darwin")
    for machine, own, other in (("arm64", ARM64, AMD64), ("x86_64", AMD64, ARM64)):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert probe.candidates("auto", own) == ["hvf", "tcg"]
        assert probe.candidates("auto", other) == ["tcg"]


def test_a_missing_qemu_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(HypervisorMissing) as error:
        binary.find("", AMD64)
    assert "install" in error.value.hint
