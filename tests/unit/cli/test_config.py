"""`cove config`: what a user sees of settings, and what becomes of the file."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cove.cli import main as cli
from cove.machine import lifecycle, policy, settings
from cove.machine.paths import MachinePaths
from cove.machine.settings import KNOWN

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePaths:
    for name in [name for name in os.environ if name.startswith("COVE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(policy, "place", lambda: tmp_path / "etc/policy.toml")
    monkeypatch.setattr(policy, "OWNER", os.getuid())
    return lifecycle.init("default")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        statuses: list[int] = []
        monkeypatch.setattr("os._exit", statuses.append)
        cli.main(words)
        out, err = capsys.readouterr()
        return statuses[0], out, err

    return call


def administer(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "etc/policy.toml"
    file.parent.mkdir(mode=0o755, exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)
    return file


def test_get_set_unset(paths: MachinePaths, run: Run) -> None:
    before = paths.settings.read_text()
    assert run("config", "get", "cpus") == (0, "2\n", "")
    assert run("config", "set", "cpus", "5") == (0, "machine default: cpus = 5, in effect from its next start\n", "")
    assert paths.settings.read_text() == before.replace("cpus = 2", "cpus = 5")
    assert run("machine", "config", "get", "cpus") == (0, "5\n", "")
    assert run("config", "unset", "cpus") == (0, "machine default: cpus = 2, in effect from its next start\n", "")
    assert paths.settings.read_text() == before.replace("cpus = 2", "# cpus = 2")
    assert run("config", "path") == (0, f"{paths.settings}\n", "")


def test_mistakes_name_key_and_file(paths: MachinePaths, run: Run) -> None:
    assert run("config", "get", "cpu")[::2] == (
        1,
        f"cove: cpu is not a setting; did you mean cpus?\n      {KNOWN}\n",
    )
    status, _, err = run("config", "set", "cpus", "many")
    assert (status, err) == (
        1,
        "cove: cpus must be a whole number from 1 to 256, not 'many'\n      allowed: whole number, 1 to 256\n",
    )
    assert run("config", "validate") == (0, f"{paths.settings} is in order\n", "")
    paths.settings.write_text('disk = "60GiB"\n\nmemory = "1"\n')
    for command in (("validate",), ("list",), ("get", "cpus")):
        status, out, err = run("config", *command)
        assert (status, out) == (1, "")
        assert err.startswith(f"cove: {paths.settings}, line 3: memory must be between 256MiB and ")
    status, out, _ = run("config", "validate", "--json")
    told = json.loads(out)
    assert (status, told["valid"]) == (1, False)
    assert "line 3: memory" in told["error"]


def test_the_environment_is_told(paths: MachinePaths, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVE_CPUS", "7")
    status, out, err = run("config", "get", "cpus")
    assert (status, out) == (0, "7\n")
    assert err == "cove: this is not from the file: environment COVE_CPUS\n"
    status, out, err = run("config", "set", "cpus", "4")
    assert "cpus = 4" in out
    assert "COVE_CPUS is set in the environment, and counts before the file" in err
    lines = run("config", "list", "--origin")[1].splitlines()
    assert [line.split() for line in lines if line.startswith(("cpus", "memory", "registry"))] == [
        ["cpus", "=", "7", "environment", "COVE_CPUS", "COVE_CPUS"],
        ["memory", "=", '"2GiB"', "file", "COVE_MEMORY"],
        ["registry_mirrors", "=", "[]", "default", "COVE_REGISTRY_MIRRORS"],
    ]
    told = {one["key"]: one for one in json.loads(run("config", "list", "--json")[1])}
    assert (told["cpus"]["value"], told["cpus"]["origin"], told["cpus"]["place"]) == (7, "environment", "COVE_CPUS")
    monkeypatch.setenv("COVE_CPUS", "0")
    assert run("config", "validate")[2].startswith("cove: the environment variable COVE_CPUS: cpus must be")


def test_what_is_locked_cannot_be_changed(paths: MachinePaths, run: Run, tmp_path: Path) -> None:
    file = administer(tmp_path, "[locked]\ncpus = 1\n")
    before = paths.settings.read_text()
    assert run("config", "get", "cpus")[1] == "1\n"
    for words in (("set", "cpus", "4"), ("unset", "cpus")):
        status, _, err = run("config", *words)
        assert (status, err.splitlines()[0]) == (
            1,
            f"cove: cpus is locked to 1 by your administrator's policy ({file})",
        )
    assert paths.settings.read_text() == before
    file.chmod(0o666)
    status, _, err = run("config", "list")
    assert status == 1
    assert "others than root may write" in err


def test_two_changes_at_a_time_are_both_made(paths: MachinePaths, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = [sys.executable, "-m", "cove", "config", "set", "memory", "5GiB"]
    other: list[subprocess.Popen[bytes]] = []
    parse = settings.parse

    def meanwhile(text: str, file: Path | str) -> settings.Settings:
        if not other:
            monkeypatch.setattr(settings, "parse", parse)
            other.append(subprocess.Popen(ask, stdout=subprocess.DEVNULL))
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for us
                other[0].wait(1.5)
        return parse(text, file)

    monkeypatch.setattr(settings, "parse", meanwhile)
    assert run("config", "set", "cpus", "5")[0] == 0
    assert other[0].wait(20) == 0
    assert (settings.load(paths.settings).cpus, settings.load(paths.settings).memory) == (5, 5 << 30)


@pytest.mark.parametrize("answer", ["y", "n"])
def test_edit_asks_before_it_undoes_what_others_did(
    answer: str, paths: MachinePaths, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, f'sed -i "s/^cpus.*/cpus = 6/" "$2"; sed -i "s/^cpus.*/cpus = 7/" "{paths.settings}"')
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    status, out, err = run("config", "edit")
    assert "has been changed by somebody else meanwhile. Write over it?" in out + err
    assert (status, settings.load(paths.settings).cpus) == ((0, 6) if answer == "y" else (1, 7))


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "an editor"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VISUAL", f"'{program}' -w")


def test_edit_takes_what_is_right(
    paths: MachinePaths, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, 'test "$1" = -w && sed -i "s/^cpus = 2/cpus = 6  # six/" "$2"')
    status, out, _ = run("config", "edit")
    assert (status, out) == (0, "machine default: the settings have been changed, in effect from its next start\n")
    assert "\ncpus = 6  # six\n" in paths.settings.read_text()
    assert run("config", "edit")[1] == "machine default: nothing has been changed\n"


def test_edit_refuses_what_is_locked_only_when_it_was_touched(
    paths: MachinePaths, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    administer(tmp_path, "[locked]\ncpus = 1\n")
    editor(tmp_path, monkeypatch, 'sed -i "s/^memory.*/memory = \\"3GiB\\"/" "$2"')
    assert run("config", "edit")[:2] == (
        0,
        "machine default: the settings have been changed, in effect from its next start\n",
    )
    before = paths.settings.read_text()
    assert "\ncpus = 2\n" in before
    assert '\nmemory = "3GiB"\n' in before
    for script in ("s/^cpus.*/cpus = 3/", "/^cpus/d"):  # without it its default counts
        paths.settings.write_text(before.replace("cpus = 2", "cpus = 4"))
        editor(tmp_path, monkeypatch, f'sed -i "{script}" "$2"')
        monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
        status, out, err = run("config", "edit")
        assert status == 1
        assert "cpus is locked to 1 by your administrator's policy" in out + err
        assert "\ncpus = 4\n" in paths.settings.read_text()
    editor(tmp_path, monkeypatch, 'sed -i "s/^cpus.*/cpus = 1/" "$2"')
    assert run("config", "edit")[0] == 0


def test_a_machine_is_not_made_with_what_is_locked(paths: MachinePaths, run: Run, tmp_path: Path) -> None:
    file = administer(tmp_path, "[locked]\ncpus = 1\n")
    status, _, err = run("machine", "init", "other", "--cpus", "8")
    assert (status, err.splitlines()[0]) == (1, f"cove: cpus is locked to 1 by your administrator's policy ({file})")
    assert lifecycle.names() == ["default"]
    assert run("machine", "init", "other", "--memory", "1GiB")[0] == 0


@pytest.mark.parametrize("answer", ["y", "n"])
def test_edit_does_not_take_mistakes(
    answer: str, paths: MachinePaths, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = paths.settings.read_text()
    # The first time it makes a mistake, the second it mends it.
    editor(
        tmp_path,
        monkeypatch,
        'grep -q "^cpus = 0" "$2" && sed -i s/^cpus.*/cpus=9/ "$2" || sed -i s/^cpus.*/cpus\\ =\\ 0/ "$2"',
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    status, out, err = run("config", "edit")
    assert "cove: machine.toml, line 4: cpus must be a whole number" in out or "cpus must be a whole number" in out
    if answer == "y":
        assert status == 0
        assert "\ncpus=9\n" in paths.settings.read_text()
    else:
        assert status == 1
        assert "nothing has been changed" in err
        assert paths.settings.read_text() == before


def test_edit_prints_one_document_when_json_is_wanted(
    paths: MachinePaths, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(
        tmp_path,
        monkeypatch,
        'grep -q "^cpus = 0" "$2" && sed -i s/^cpus.*/cpus=9/ "$2" || sed -i s/^cpus.*/cpus\\ =\\ 0/ "$2"',
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    status, out, err = run("config", "edit", "--json")
    assert (status, json.loads(out)["changed"]) == (0, ["cpus"])
    assert "cpus must be a whole number" in err
    assert "Edit it again?" in err


@pytest.mark.parametrize("words", [("machine", "rm"), ("machine", "reset")])
def test_nothing_is_asked_when_json_is_wanted(
    words: tuple[str, ...], paths: MachinePaths, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    status, out, err = run(*words, "--json")
    assert (status, out) == (1, "")
    assert f"cove {' '.join(words)} --force default" in err
    assert paths.settings.exists()
    status, out, _ = run(*words, "--json", "--force")
    assert (status, json.loads(out)["machine"]) == (0, "default")


def test_edit_without_an_editor(paths: MachinePaths, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "/no/such/editor")
    assert run("config", "edit")[2].startswith("cove: the editor /no/such/editor is not there\n")


def test_json_is_one_shape(paths: MachinePaths, run: Run) -> None:
    one = json.loads(run("config", "get", "memory", "--json")[1])
    assert one == {
        "key": "memory", "value": "2GiB", "toml": '"2GiB"', "origin": "file", "place": str(paths.settings),
        "default": "2GiB", "variable": "COVE_MEMORY", "takes_effect": "next start",
    }  # fmt: skip
    assert one in json.loads(run("config", "list", "--json")[1])
    changed = json.loads(run("config", "set", "memory", "3GiB", "--json")[1])
    assert changed == one | {"value": "3GiB", "toml": '"3GiB"', "restart_needed": False}
