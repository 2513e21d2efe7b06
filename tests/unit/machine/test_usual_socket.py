"""The link at the place where Docker Desktop has its socket: made for the default machine, and never over what is another's."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.agent import launch
from cove.errors import CoveError
from cove.machine import lifecycle, usual_socket
from cove.machine.paths import MachinePaths
from cove.support import leftovers


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cove-u", dir="/tmp") as folder:
        monkeypatch.setenv("HOME", folder)
        monkeypatch.setenv("COVE_HOME", f"{folder}/c")
        monkeypatch.delenv("DOCKER_CONFIG", raising=False)
        yield Path(folder)


@pytest.fixture
def machine(home: Path) -> MachinePaths:
    return lifecycle.init("default")


def test_programs_that_look_there_reach_the_default_machine(machine: MachinePaths, home: Path) -> None:
    usual_socket.create(machine)
    with socket.socket(socket.AF_UNIX) as engine, socket.socket(socket.AF_UNIX) as client:
        engine.bind(str(machine.docker_socket))
        engine.listen()
        client.connect(f"{home}/.docker/run/docker.sock")
    usual_socket.create(lifecycle.init("other"))
    assert usual_socket.leads_to(machine)


def test_it_is_there_before_the_agent_of_a_machine_of_any_age(
    machine: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def start(*_: object, **__: object) -> None:
        found.append(usual_socket.leads_to(machine))
        raise CoveError("no further")

    monkeypatch.setattr("cove.local.processes.start", start)
    with pytest.raises(CoveError, match="no further"):
        launch.start_agent(machine)
    assert found == [True]


def test_it_goes_with_its_machine(machine: MachinePaths, home: Path) -> None:
    usual_socket.create(machine)
    lifecycle.init("other")
    lifecycle.remove("other")
    assert usual_socket.leads_to(machine)
    lifecycle.remove("default")
    assert not (home / ".docker/run").exists()


ANOTHERS = {
    "which does not listen just now": "{home}/.colima/default/docker.sock",
    "relative": "../../.colima/default/docker.sock",
    "whose folder is away for now": "/run/user/4242/podman/podman.sock",
    "that looks like Cove's": "{home}/gone/run/default/docker.sock",
}


@pytest.mark.parametrize("there", ["a socket", *ANOTHERS])
def test_what_is_anothers_stays(there: str, machine: MachinePaths, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    place = home / ".docker/run/docker.sock"
    place.parent.mkdir(parents=True)
    (home / ".colima/default").mkdir(parents=True)
    if there in ANOTHERS:
        place.symlink_to(ANOTHERS[there].format(home=home))
    else:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(place))
    before = place.lstat()
    usual_socket.create(machine)
    usual_socket.remove(machine)
    assert place.lstat().st_ino == before.st_ino


def test_what_has_taken_the_place_of_coves_link_stays(machine: MachinePaths, home: Path) -> None:
    usual_socket.create(machine)
    place = home / ".docker/run/docker.sock"
    place.unlink()
    place.symlink_to("/run/user/4242/podman/podman.sock")
    usual_socket.create(machine)
    usual_socket.remove(machine)
    assert place.readlink() == Path("/run/user/4242/podman/podman.sock")


def test_a_link_of_a_machine_that_is_gone_is_made_anew(
    machine: MachinePaths, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual_socket.create(machine)
    shutil.rmtree(home / "c")  # by hand
    monkeypatch.setenv("COVE_HOME", f"{home}/d")
    second = lifecycle.init("default")
    usual_socket.create(second)
    assert usual_socket.leads_to(second)


def test_nothing_is_made_for_who_has_dockers_files_elsewhere(
    machine: MachinePaths, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", f"{home}/elsewhere")
    usual_socket.create(machine)
    assert not (home / ".docker/run").exists()


def test_a_place_that_cannot_be_had_stops_nobody(machine: MachinePaths, home: Path) -> None:
    shutil.rmtree(home / ".docker")
    (home / ".docker").write_text("a file")
    usual_socket.create(machine)
    assert not usual_socket.leads_to(machine)


def test_an_uninstall_tells_of_it_and_takes_it_away(machine: MachinePaths, home: Path) -> None:
    usual_socket.create(machine)
    gone = leftovers.of_uninstall(keep_data=True)
    assert usual_socket.path() in [one.path for one in gone]
    leftovers.uninstall(gone, keep_data=True)
    assert not (home / ".docker").exists()
