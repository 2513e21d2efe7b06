"""Which folders a machine has, by its settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cove.drivers.qemu import devices
from cove.errors import SettingsError
from cove.machine.settings import Settings
from cove.share import choice, folders, starting


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "me"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):  # as systems call it
        monkeypatch.setenv(name, str(home))
    return home


def paths(settings: Settings) -> dict[str, bool]:
    return {str(one.path): one.read_only for one in folders.wanted(settings)[0]}


def test_the_home_is_shared_unless_it_is_not_to_be(home: Path) -> None:
    assert paths(Settings()) == {str(home): False}
    assert paths(Settings(share_home="read-only")) == {str(home): True}
    assert paths(Settings(share_home="no")) == {}


def test_folders_in_folders_come_with_them(home: Path, tmp_path: Path) -> None:
    for name in ("src", "data/mine"):
        (home / name).mkdir(parents=True)
    other = tmp_path / "other"
    (other / "in").mkdir(parents=True)
    asked = ("~/src", str(other), f"{other}/in", f"{other}:ro")
    assert paths(Settings(shared_folders=asked)) == {str(home): False, str(other): True, f"{other}/in": False}
    assert paths(Settings(share_home="read-only", shared_folders=("~/src",))) == {
        str(home): True,
        str(home / "src"): False,
    }
    with pytest.raises(SettingsError, match="cannot be read-only within"):
        folders.wanted(Settings(shared_folders=("~/src:ro",)))


def test_what_is_not_there_is_told_and_no_trouble(home: Path) -> None:
    (home / "file").write_text("x")
    listed, said = folders.wanted(Settings(shared_folders=("/nosuch", f"{home}/file")))
    assert [one.path for one in listed] == [home]
    assert said == [
        "/nosuch is not shared: there is no such folder",
        f"{home}/file is not shared: it is a file, and folders are shared whole: name the one that it lies in",
    ]


def test_a_folder_may_be_named_by_a_link(home: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    listed, _ = folders.wanted(Settings(share_home="no", shared_folders=(str(link),)))
    assert folders.names(listed) == [(listed[0], str(real)), (listed[0], str(link))]


def test_a_link_that_containers_can_change_names_no_folder(home: Path, tmp_path: Path) -> None:
    project, other = tmp_path / "p", tmp_path / "other"
    for one in (project / "in", other):
        one.mkdir(parents=True)
    (project / "data").symlink_to("/")
    (project / "same").symlink_to("in")
    (tmp_path / "way").symlink_to("p/data")
    for named in (project / "data", tmp_path / "way", tmp_path / "way" / "usr"):
        listed, said = folders.wanted(Settings(share_home="no", shared_folders=(str(project), f"{named}:ro")))
        assert [one.path for one in listed] == [project]
        assert len(said) == 1 and f"a symbolic link in {project}, which containers can change" in said[0]
        listed, said = folders.wanted(Settings(share_home="no", shared_folders=(f"{project}:ro", f"{named}:ro")))
        assert len(listed) in (1, 2) and not said, "who cannot change the link may be shared it"
    assert paths(Settings(share_home="no", shared_folders=(str(project), str(project / "same")))) == {
        str(project): False
    }


def test_whose_files_are_in_containers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000, raising=False)
    monkeypatch.setattr(os, "getgid", lambda: 100, raising=False)

    def owner(**settings: Any) -> tuple[int, int]:
        return folders.wanted(Settings(**settings))[0][0].owner

    monkeypatch.setattr(sys, "platform", "linux")
    assert owner() == (1000, 100)
    assert owner(folder_owner="root") == (0, 0)
    assert owner(folder_owner="501:20") == (501, 20)
    monkeypatch.setattr(sys, "platform", "win32")
    assert owner() == (0, 0)


def test_too_many_are_refused(home: Path, tmp_path: Path) -> None:
    many = [tmp_path / f"f{index}" for index in range(folders.MAX_FOLDERS)]
    for one in many:
        one.mkdir()
    with pytest.raises(SettingsError, match="more than the 8"):
        folders.wanted(Settings(shared_folders=tuple(map(str, many))))


def test_what_carries_folders_is_coves_own_server_unless_another_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"9p": "n is missing"}
    monkeypatch.setattr(choice, "unusable", lambda name, program: missing.get(name, ""))
    chosen = [choice.choose(wanted, Path("/q")) for wanted in ("auto", "agent", "virtiofs")]
    assert chosen == ["agent", "agent", "virtiofs"]
    with pytest.raises(SettingsError, match="folder_driver: 9p does not work here: n is missing"):
        choice.choose("9p", Path("/q"))


def test_only_qemus_own_server_needs_the_folders_on_its_command_line(home: Path) -> None:
    listed, _ = folders.wanted(Settings())
    assert [(one.tag, one.path) for one in starting.of_hypervisor(listed, "9p")] == [("folder0", home)]
    assert starting.of_hypervisor(listed, "virtiofs") == starting.of_hypervisor(listed, "agent") == ()


def test_only_virtiofs_needs_the_guests_memory_and_only_with_folders(home: Path) -> None:
    listed, _ = folders.wanted(Settings())
    assert [starting.need_memory(listed, name) for name in ("virtiofs", "9p", "agent")] == [True, False, False]
    assert not starting.need_memory([], "virtiofs")


def test_qemu_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr("sys.platform", "linux")
    program, asked = tmp_path / "qemu", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$2" >> {asked}\ncase $2 in virtio-9p*) exit 0; esac; exit 1\n')
    program.chmod(0o755)
    for _ in range(2):
        assert choice.unusable("9p", program) == ""
        assert not choice.has_virtiofs(program)
    assert asked.read_text().split() == ["virtio-9p-pci,help", "vhost-user-fs-pci,help"]
    program.write_text("#!/bin/sh\nexit 1\n")
    assert "built without its 9p server" in choice.unusable("9p", program)
    assert choice.unusable("9p", tmp_path / "nowhere")


def test_a_machine_starts_with_what_its_setting_names_or_not_at_all(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has", lambda program, device: False)
    listed, carrier, said = starting.settle(Settings(), Path("/q"))
    assert ([one.path for one in listed], carrier, said) == ([home], "agent", [])
    with pytest.raises(SettingsError, match="folder_driver: 9p does not work here"):
        starting.settle(Settings(folder_driver="9p"), Path("/q"))
