"""The accelerator's probe, with the real QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest
from cove.drivers.qemu import binary, probe
from cove.errors import DriverError, HypervisorMissing


def test_software_emulation_runs_the_firmware() -> None:
    assert probe.run(binary.find(), ["tcg"]).accelerator == "tcg"


def test_an_accelerator_that_does_not_exist_is_refused_with_its_reason() -> None:
    with pytest.raises(DriverError, match="no accelerator runs guest code here: nosuch failed"):
        probe.run(binary.find(), ["nosuch"])


def test_a_device_that_is_absent_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "KVM_DEVICE", Path("/dev/no-such-device"))
    found = probe.run(binary.find(), ["kvm", "tcg"])
    assert (found.accelerator, found.reason) == ("tcg", "/dev/no-such-device is absent")


def test_a_missing_qemu_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(HypervisorMissing) as error:
        binary.find()
    assert "install" in error.value.hint
