"""Reset and uninstall: what they say goes is gone, what they say stays is there, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cove.machine import docker_context
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths


def below(folder: Path) -> dict[str, bytes]:
    """All files and links below a folder, with what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def test_a_reset_machine_is_as_new(cove: Any) -> None:
    paths = cove.make()
    cove.run("config", "set", "cpus", "3")
    kept = paths.settings.read_text()
    cove.run("machine", "start")
    before = {name: (paths.folder / name).read_bytes() for name in ("ssh_key", "host_key")}
    refused = cove.run("machine", "reset", status=1)
    assert "Reset machine default? All its containers, images and volumes are removed (" in refused.stdout
    assert "the reset of machine default has been cancelled" in refused.stderr
    assert cove.status()["state"] == "running"
    told = json.loads(cove.run("machine", "reset", "--force", "--json").stdout)
    assert (told["machine"], told["state"]) == ("default", "reset")
    assert told["freed_bytes"] > 0
    assert set(below(paths.folder)) == {"machine.toml", "systems.json", "settings.lock", "agent.lock", "vm.lock"}
    assert paths.settings.read_text() == kept
    assert cove.status()["state"] == "stopped"
    assert (cove.home / "data/images").is_dir()
    cove.run("machine", "start")
    assert all((paths.folder / name).read_bytes() != data for name, data in before.items())


def docker_config(home: Path) -> Path:
    """Docker's configuration of somebody who has used it before."""
    folder = home / "docker"
    other = folder / "contexts/meta/0123"
    other.mkdir(parents=True)
    (other / "meta.json").write_text('{"Name": "other"}')
    (folder / "config.json").write_text('{\n\t"auths": {"x": {"auth": "eHg="}},\n\t"HttpHeaders": {"A": "b"}\n}')
    return folder


def test_uninstall_leaves_nothing(cove: Any, tmp_path: Path) -> None:
    folder = docker_config(cove.home)
    before = below(folder)
    cove.qemu.rename(tmp_path / "qemu")  # the test's own
    cove.qemu = tmp_path / "qemu"
    cove.make()
    paths = cove.make("other")
    (paths.folder / "mine").symlink_to(tmp_path)
    (tmp_path / "precious").touch()
    shutil.copytree(
        paths.folder, paths.folder.with_name("other.bak"), symlinks=True
    )  # can be no machine, and goes all the same
    cove.run("machine", "start")
    cove.run("machine", "start", "other")
    assert below(folder) != before
    refused = cove.run("uninstall", status=1)
    for place in ("data/machines/default", "data/machines/other", "data/images", "run"):
        assert f"  {cove.home / place}  (" in refused.stdout
    assert "docker context cove-other" in refused.stdout
    assert "nothing has been removed" in refused.stderr
    assert cove.status()["state"] == "running"
    cove.run("uninstall", "--force")
    assert below(folder) == before
    assert [path.name for path in cove.home.iterdir()] == ["docker"]
    assert (tmp_path / "precious").exists()
    assert cove.run("uninstall").stdout.startswith("There is nothing of Cove's here.\n")


def test_uninstall_keeps_data(cove: Any) -> None:
    folder = docker_config(cove.home)
    before = below(folder)
    paths = cove.make()
    cove.run("machine", "start")
    (paths.folder / "data.qcow2").open("ab").close()
    done = cove.run("uninstall", "--keep-data", "--force")
    assert "This stays, with all that is in it: machine default\n" in done.stdout
    assert below(folder) == before
    assert {path.name for path in cove.home.iterdir()} == {"data", "docker", "qemu"}
    assert {path.name for path in (cove.home / "data").iterdir()} == {"machines"}
    assert paths.settings.exists() and paths.disk.exists()
    assert FileLock(paths.vm_lock).is_free()


def test_a_context_in_use_is_left(cove: Any) -> None:
    folder = docker_config(cove.home)
    config = json.loads((folder / "config.json").read_text())
    cove.make()
    (folder / "config.json").write_text(json.dumps(config | {"currentContext": "cove"}))
    cove.run("uninstall", "--force")
    assert json.loads((folder / "config.json").read_text()) == config


def test_dockers_folder_goes_when_nothing_but_coves_was_in_it(cove: Any) -> None:
    cove.make()
    assert docker_context.folder().is_dir()
    cove.run("uninstall", "--force", "--keep-data")
    assert not docker_context.folder().exists()


def test_contexts_of_others_stay(cove: Any) -> None:
    cove.make()
    meta = docker_context.meta_file("default")
    meta.write_text('{"Endpoints": {"docker": {"Host": "unix:///another/docker.sock"}}}')
    cove.run("uninstall", "--force")
    assert "/another/docker.sock" in meta.read_text()


@pytest.mark.parametrize("above", [False, True])
def test_a_home_that_is_not_coves_is_not_emptied(above: bool, cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cove.make()
    monkeypatch.setenv("HOME", str(cove.home / "joe" if above else cove.home))
    refused = cove.run("uninstall", "--force", status=1)
    assert f"COVE_HOME is {cove.home}, which has other things in it than Cove's: nothing is removed" in refused.stderr
    assert MachinePaths("default").settings.exists()
