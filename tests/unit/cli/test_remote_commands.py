"""Commands about machines of other computers: what is shown, and what is said before another computer is waited for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from cove.agent import client, ending, removal
from cove.cli import machine, remote_machines
from cove.cli.errors import CliError
from cove.errors import RemoteError
from cove.machine import lifecycle, remote, settings
from cove.machine.paths import MachinePaths
from cove.machine.remote import Remote

FAR = Remote(remote.address("me@there:2222"), "ssh-ed25519 AAAA", "cove", instance="ab12")


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePaths:
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "c"))
    monkeypatch.delenv("COVE_MACHINE", raising=False)
    lifecycle.init("default", settings.Settings())
    return lifecycle.init("far", settings.Settings(), FAR)


def ssh(*words: str, named: str | None = None) -> int:
    done = CliRunner().invoke(
        machine.group,
        ["ssh", *words],
        obj=SimpleNamespace(machine=named),
        standalone_mode=False,
        catch_exceptions=False,
    )
    if done.exception is not None:
        raise done.exception
    return int(done.return_value)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is called in place of the system's ssh."""
    calls: list[list[str]] = []

    def call(words: list[str]) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("subprocess.call", call)
    return calls


def test_a_machine_in_the_place_of_a_command_is_refused_before_anything_starts(
    far: MachinePaths, called: list[list[str]]
) -> None:
    with pytest.raises(
        CliError, match=r"far is a machine, .*: cove machine ssh -m far uname -r\n.* ssh -m default far uname -r"
    ):
        ssh("far", "uname", "-r")
    assert not called


@pytest.mark.parametrize(("words", "named"), [(("-m", "far", "default"), None), (("default",), "far")])
def test_a_command_that_is_called_like_a_machine_is_run_where_m_says(
    far: MachinePaths, called: list[list[str]], words: tuple[str, ...], named: str | None
) -> None:
    assert ssh(*words, named=named) == 0
    assert called[0][-2:] == ["there", "default"]


def test_another_computer_is_not_waited_for_without_end_nor_without_a_word(
    far: MachinePaths, called: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: dict[str, Any] = {"state": "running"}
    monkeypatch.setattr(client, "ask", lambda *_: told)
    remote_machines.tell_unreachable(far, FAR)
    assert not capsys.readouterr().err
    told |= {"state": "unreachable", "lost_because": "nobody answers"}
    remote_machines.tell_unreachable(far, FAR)
    assert capsys.readouterr().err == "cove: me@there:2222 was out of reach at the last try: nobody answers\n"
    ssh("-m", "far")
    assert "ConnectTimeout=15" in called[0]


def test_a_list_of_machines_says_on_which_computers_they_are() -> None:
    here = {"machine": "default", "state": "running", "accelerator": "kvm", "docker_socket": "/run/a"}
    there = {"machine": "far", "state": "stopped", "host": "ann@build.example", "docker_socket": "/run/b"}
    assert [line.split("  ")[-1] for line in machine._table([here, there])] == ["DOCKER SOCKET", "/run/a", "/run/b"]
    assert "  ssh ann@build.example  " in machine._table([here, there])[2]
    assert machine._table([]) == ["NAME                STATE       ACCELERATOR   DOCKER SOCKET"]


@pytest.mark.parametrize("has_run", [False, True])
def test_of_a_machine_that_never_ran_nothing_is_said_to_be_left(
    far: MachinePaths, has_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RemoteError("me@there cannot be reached")

    monkeypatch.setattr(ending, "stop", refuse)
    if has_run:
        far.agent_log.parent.mkdir(parents=True, exist_ok=True)
        far.agent_log.write_text("")
    said: list[str] = []
    removal.of_remote(far, said.append, forced=True)
    assert ("may be left: /var/lib/cove-remote/ab12" in said[0]) is has_run
    assert ("it has never run, and had nothing there" in said[0]) is not has_run
