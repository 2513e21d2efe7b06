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
from cove.machine import computer, lifecycle, policy, settings
from cove.machine.architecture import AMD64
from cove.machine.paths import MachinePaths
from cove.machine.settings import KNOWN
from cove.machine.tomlfile import Mistake

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePaths:
    for name in [name for name in os.environ if name.startswith("COVE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(policy, "place", lambda: tmp_path / "etc/policy.toml")
    monkeypatch.setattr(policy, "OWNER", getattr(os, "getuid", int)())
    monkeypatch.setattr(computer, "processors", lambda: 16)
    monkeypatch.setattr(computer, "memory", lambda: 32 << 30)
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
        assert err.startswith(f"cove: {paths.settings}:3:10: memory must be between 256MiB and ")
    status, out, _ = run("config", "validate", "--json")
    told = json.loads(out)
    assert (status, told["valid"]) == (1, False)
    assert ":3:10: memory" in told["error"]


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
        ["memory", "=", '"2GiB"', "file", "(the", "default)", "COVE_MEMORY"],
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
    ask = [sys.executable, "-m", "cove", "config", "set", "disk", "70GiB"]
    other: list[subprocess.Popen[bytes]] = []
    examined = settings.examined

    def meanwhile(text: str, file: Path | str) -> tuple[settings.Settings, list[Mistake]]:
        if not other:
            monkeypatch.setattr(settings, "examined", examined)
            other.append(subprocess.Popen(ask, stdout=subprocess.DEVNULL))
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for us
                other[0].wait(1.5)
        return examined(text, file)

    monkeypatch.setattr(settings, "examined", meanwhile)
    assert run("config", "set", "cpus", "5")[0] == 0
    assert other[0].wait(20) == 0
    assert (settings.load(paths.settings).cpus, settings.load(paths.settings).disk) == (5, 70 << 30)


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
    assert "cove: machine.toml:5:8: cpus must be a whole number" in out
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
    assert changed == one | {"value": "3GiB", "toml": '"3GiB"', "restart_needed": False, "warnings": []}


@pytest.mark.parametrize(
    ("key", "value", "said", "way"),
    [
        ("memory", "64GiB", "memory: 64GiB is more than this computer has (32.0 GiB)", "cove config set memory 16GiB"),
        (
            "accelerator",
            "hvf",
            "accelerator: hvf is of macOS, and this computer has Linux",
            "cove config set accelerator auto",
        ),
        (
            "qemu",
            "/etc/passwd",
            "qemu: /etc/passwd, which the setting qemu names, is not a program",
            "name a qemu-system-",
        ),
        ("qemu", "/bin/true", "qemu: /bin/true does not tell its version", "cove config set qemu ''"),
    ],
)
def test_what_this_computer_cannot_hold_is_refused_whoever_says_it(
    key: str, value: str, said: str, way: str, paths: MachinePaths, run: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("cove.agent.fit.sys.platform", "linux")
    before = paths.settings.read_text()
    status, out, err = run("config", "set", key, value)
    assert (status, out) == (1, "")
    assert err.startswith(f"cove: {said}")
    assert way in err
    assert paths.settings.read_text() == before
    editor(tmp_path, monkeypatch, f'sed -i \'s|^{key}.*|{key} = "{value}"|\' "$2"')
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, out, _ = run("config", "edit")
    assert (status, f"cove: {said}" in out, paths.settings.read_text()) == (1, True, before)
    paths.settings.write_text(f'{key} = "{value}"\n')
    assert run("config", "validate")[2].startswith(f"cove: {paths.settings}:1:{len(key) + 4}: {said}")
    paths.settings.write_text(before)
    monkeypatch.setenv(f"COVE_{key.upper()}", value)
    status, out, _ = run("config", "validate", "--json")
    told = json.loads(out)
    assert (status, told["error"].startswith(f"COVE_{key.upper()}: {said}")) == (1, True)
    assert told["hint"].startswith(f"unset COVE_{key.upper()}")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "cpus",
            "17",
            "cpus: 17 are more than this computer has (16), which makes a machine slower (cove config set cpus 16)",
        ),
        ("memory", "31GiB", "memory: 31GiB is nearly all that this computer has (32.0 GiB): "),
        ("bind_address", "203.0.113.9", "bind_address: 203.0.113.9 is none of this computer's addresses now: "),
        ("shared_folders", "/no/such", "shared_folders: /no/such is not shared: there is no such folder"),
        ("disk", "64TiB", "disk: 64TiB is more than the disk that "),
    ],
)
def test_what_is_unwise_is_taken_with_a_warning(
    key: str, value: str, said: str, paths: MachinePaths, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = run("config", "set", key, value)
    assert (status, out.startswith(f"machine default: {key} = ")) == (0, True)
    assert err.startswith(f"cove: warning: {said}")
    told = json.loads(run("config", "set", key, value, "--json")[1])
    assert [one.startswith(said) for one in told["warnings"]] == [True]
    status, out, err = run("config", "validate")
    assert (status, out) == (0, f"{paths.settings} is in order\n")
    assert f"cove: warning: {paths.settings}:" in err
    assert said in err
    assert json.loads(run("config", "validate", "--json")[1])["valid"] is True
    run("config", "unset", key)
    monkeypatch.setenv(f"COVE_{key.upper()}", value)
    assert run("config", "validate")[2].startswith(f"cove: warning: COVE_{key.upper()}: {said.partition(' (')[0]}")


def test_an_accelerator_that_may_come_is_taken_with_a_warning(
    paths: MachinePaths, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cove.agent.fit.sys.platform", "linux")
    monkeypatch.setattr("cove.drivers.qemu.probe.KVM_DEVICE", tmp_path / "kvm")
    status, _, err = run("config", "set", "accelerator", "kvm")
    assert status == 0
    assert err.startswith(f"cove: warning: accelerator: kvm does not work here now: {tmp_path}/kvm is absent")


@pytest.mark.parametrize(("key", "value", "other"), [("accelerator", "kvm", "arm64"), ("architecture", "arm64", "kvm")])
def test_processors_of_another_kind_are_not_accelerated(
    key: str, value: str, other: str, paths: MachinePaths, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cove.agent.fit.sys.platform", "linux")
    monkeypatch.setattr("cove.agent.fit.here", lambda: AMD64)
    settings.set_value(paths.settings, "architecture" if key == "accelerator" else "accelerator", other)
    said = "cove: accelerator: kvm runs processors of this computer's kind (amd64), and architecture is arm64\n"
    assert run("config", "set", key, value) == (1, "", f"{said}      cove config set accelerator auto\n")


def test_folders_that_cannot_be_shared_together_are_refused(paths: MachinePaths, run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    status, _, err = run("config", "set", "shared_folders", f"{tmp_path},{tmp_path}/in:ro")
    assert status == 1
    assert "cannot be read-only within" in err
    assert err.count("\n") == 2


def test_a_machine_is_not_made_with_more_than_there_is(paths: MachinePaths, run: Run) -> None:
    status, _, err = run("machine", "init", "other", "--memory", "64GiB")
    assert (status, lifecycle.names()) == (1, ["default"])
    assert err == ("cove: memory: 64GiB is more than this computer has (32.0 GiB)\n      make it with --memory 16GiB\n")
    assert "(cove config set -m other cpus 16)" in run("machine", "init", "other", "--cpus", "20")[2]
    assert settings.load(MachinePaths("other").settings).cpus == 20


def test_a_disk_cannot_become_smaller(paths: MachinePaths, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.disk.touch()
    monkeypatch.setattr("cove.drivers.qemu.qcow2.virtual_size", lambda _: 60 << 30)
    status, _, err = run("config", "set", "disk", "20GiB")
    assert status == 1
    assert err.startswith("cove: the disk of machine default has 60GiB and cannot become smaller: 20GiB")
    monkeypatch.setenv("COVE_DISK", "20GiB")
    assert run("config", "validate")[2].startswith("cove: COVE_DISK: the disk of machine default has 60GiB")


def test_what_is_set_to_what_it_was_is_no_change(paths: MachinePaths, run: Run) -> None:
    assert run("config", "set", "cpus", "2") == (0, "machine default: cpus = 2, as it was\n", "")
    assert run("config", "unset", "no_proxy") == (0, "machine default: no_proxy = [], as it was\n", "")


def test_sizes_are_written_in_one_form(paths: MachinePaths, run: Run) -> None:
    for typed, written in (("4gb", "4GiB"), ("4294967296", "4GiB"), ("1.5GiB", "1536MiB"), ("1.3GB", "1331MiB")):
        assert f'memory = "{written}",' in run("config", "set", "memory", typed)[1]
        assert f'\nmemory = "{written}"\n' in paths.settings.read_text()
    _, _, err = run("config", "set", "memory", "4XB")
    assert err.startswith("cove: memory '4XB' is not a size such as 2GiB, 1.5g, 512MB or 2147483648\n")
    assert "not 4 bytes: a number without a unit counts those" in run("config", "set", "memory", "4")[2]


def test_mistakes_are_mended_one_by_one(paths: MachinePaths, run: Run) -> None:
    file = paths.settings
    file.write_text('# mine\ncpus = 0\ncpu = 2\nmemory = "1"\n[colours]\nx = 1\n')
    wrong = [
        f"{file}:2:8: cpus must be a whole number from 1 to 256, not 0",
        f"{file}:3:1: cpu is not a setting; did you mean cpus?",
        f"{file}:4:10: memory must be between 256MiB and 16TiB, not 1 bytes: a number without a unit counts those",
        f"{file}:5:2: colours is not a setting",
    ]
    told = "".join(f"cove: {one}\n" for one in wrong) + "      mend it with: cove config edit\n"
    # Told by the places in the file as it is, also when the change would have moved them.
    assert run("config", "set", "disk", "70GiB") == run("config", "validate") == (1, "", told)
    status, out, err = run("config", "set", "cpus", "3")
    assert (status, out) == (0, "machine default: cpus = 3, in effect from its next start\n")
    assert err == "".join(f"cove: warning: {one}\n" for one in wrong[1:])
    assert run("config", "unset", "cpu")[:2] == (
        0,
        "machine default: cpu, which is no setting, has been taken out of the file\n",
    )
    assert run("config", "unset", "colours")[0] == 0
    assert json.loads(run("config", "unset", "memory", "--json")[1])["value"] == "2GiB"
    assert run("config", "validate") == (0, f"{file} is in order\n", "")
    assert file.read_text() == '# mine\ncpus = 3\n# memory = "2GiB"\n'
    assert run("config", "unset", "cpu")[2].startswith("cove: cpu is not a setting; did you mean cpus?\n")


@pytest.mark.parametrize("answer", ["", "\n"])
def test_what_was_edited_is_kept_when_nobody_says_what_is_to_become_of_it(
    answer: str, paths: MachinePaths, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = paths.settings.read_text()
    editor(tmp_path, monkeypatch, 'sed -i "s/^cpus.*/cpus = 0/" "$2"')
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    status, _, err = run("config", "edit")
    assert (status, paths.settings.read_text()) == (1, before)
    assert err.startswith("cove: nothing has been changed: what you wrote has a mistake\n")
    assert f"what you wrote is kept: {paths.settings_draft}" in err
    assert paths.settings_draft.read_text() == before.replace("cpus = 2", "cpus = 0")
    assert stat.S_IMODE(paths.settings_draft.stat().st_mode) == 0o600
    editor(tmp_path, monkeypatch, 'sed -i "s/^cpus.*/cpus = 3/" "$2"')
    assert run("config", "edit")[0] == 0
    assert not paths.settings_draft.exists()


def test_what_was_edited_is_kept_when_the_editor_fails(
    paths: MachinePaths, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, "exit 3")
    status, _, err = run("config", "edit")
    assert (status, "what you wrote" in err, paths.settings_draft.exists()) == (1, False, False)
    editor(tmp_path, monkeypatch, 'echo "# more" >> "$2"; exit 3')
    assert f"what you wrote is kept: {paths.settings_draft}" in run("config", "edit")[2]
    assert paths.settings_draft.read_text().endswith("# more\n")


def test_without_a_terminal_editing_needs_an_editor_of_its_own(
    paths: MachinePaths, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    status, _, err = run("config", "edit")
    assert (status, err.splitlines()[0]) == (1, "cove: there is no terminal to edit the settings in")
    assert "cove config set KEY VALUE" in err
    assert str(paths.settings) in err


def test_help_lists_the_settings(paths: MachinePaths, run: Run) -> None:
    for verb in ("get", "set", "unset"):
        lines = run("config", verb, "--help")[1].splitlines()
        listed = [line.split()[0] for line in lines[-len(settings.SCHEMA) :]]
        assert listed == [*settings.SCHEMA]
