"""An administrator's policy: whose file it must be, what it may say, and what counts before what."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from cove.errors import SettingsError
from cove.machine import effective, policy, settings

TEXT = """
# ours
allowed_registries = ["docker.io", "*.corp.example:5000"]

[locked]
cpus = 3
memory = "1GiB"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy that whoever runs the tests may own."""
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    made = folder / "policy.toml"
    made.write_text(TEXT)
    made.chmod(0o644)
    monkeypatch.setattr(policy, "place", lambda: made)
    monkeypatch.setattr(policy, "OWNER", getattr(os, "getuid", int)())
    if sys.platform == "win32":
        monkeypatch.setattr(
            policy, "_check_windows", lambda file: None
        )  # it is not the administrators', as it has to be
    return made


@pytest.mark.skipif(sys.platform != "win32", reason="of Windows")
def test_what_is_not_the_administrators_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "policy.toml"
    mine.write_text(TEXT)
    with pytest.raises(SettingsError, match="is not used: it does not belong to the administrators"):
        policy._check_windows(mine)


def test_a_policy_is_read(file: Path) -> None:
    found = policy.load()
    assert found == policy.Policy(file, {"cpus": 3, "memory": 1 << 30}, ("docker.io", "*.corp.example:5000"))


def test_no_policy_locks_nothing(file: Path) -> None:
    file.unlink()
    assert policy.load() == policy.Policy(None, {}, None)
    file.parent.rmdir()
    assert policy.load() == policy.Policy(None, {}, None)


@pytest.mark.parametrize(("mode", "which"), [(0o666, "file"), (0o664, "file"), (0o777, "folder"), (0o775, "folder")])
def test_what_others_may_write_is_refused(file: Path, mode: int, which: str) -> None:
    path = file if which == "file" else file.parent
    path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"others than root may write to {path} \(mode 0{mode:o}\)") as told:
        policy.load()
    assert told.value.hint == f"take that from them: sudo chmod go-w '{path}'"
    path.chmod(0o755)


def test_what_is_not_roots_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "OWNER", os.getuid() + 1)
    with pytest.raises(SettingsError, match=f"is not used: {file} belongs to user {os.getuid()}, not to root"):
        policy.load()


def test_a_link_or_a_pipe_is_no_policy(file: Path, tmp_path: Path) -> None:
    file.rename(tmp_path / "mine.toml")
    file.symlink_to(tmp_path / "mine.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        policy.load()
    file.unlink()
    os.mkfifo(file, 0o600)  # whoever waited for a writer would wait for ever
    with pytest.raises(SettingsError, match="is not a file"):
        policy.load()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "allowed_registry = []\n",
            r"policy.toml:1:1: allowed_registry is not known to policies; did you mean allowed_registries\?",
        ),
        ("\n[locked]\n\ncpu = 1\n", r"policy.toml:4:\d+: cpu is not a setting; did you mean cpus\?"),
        ("[locked]\ndisk = '60GiB'\ncpus = 'many'\n", r"policy.toml:3:\d+: cpus must be a whole number"),
        ("locked = 3\n", r"policy.toml:1:\d+: locked must be a table"),
        ("allowed_registries = 'docker.io'\n", r"policy.toml:1:\d+: allowed_registries must be a list of hosts"),
        ("allowed_registries = ['https://x']\n", r"must be a list of hosts .* not 'https://x'"),
        ("[locked\n", r"policy.toml:1:\d+: not valid TOML"),
    ],
)
def test_mistakes_are_named(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        policy.load()


def test_policy_before_environment_before_file_before_default(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "machine.toml"
    kept.write_text('cpus = 1\nmemory = "4GiB"\ndisk = "20GiB"\nbind_address = "0.0.0.0"\n')
    environment = {"COVE_CPUS": "7", "COVE_DISK": "30GiB", "COVE_INSECURE_REGISTRIES": "a:1,b:2"}
    found = effective.values(kept, environment)
    assert {name: (each.value, each.origin, each.place) for name, each in found.items()} == {
        "cpus": (3, "policy", str(file)),
        "memory": (1 << 30, "policy", str(file)),
        "disk": (30 << 30, "environment", "COVE_DISK"),
        "bind_address": ("0.0.0.0", "file", str(kept)),
        "insecure_registries": (("a:1", "b:2"), "environment", "COVE_INSECURE_REGISTRIES"),
        **{
            name: (settings.SCHEMA[name].default, "default", "")
            for name in settings.SCHEMA
            if name not in ("cpus", "memory", "disk", "bind_address", "insecure_registries")
        },
    }


def test_a_wrong_variable_is_named(file: Path, tmp_path: Path) -> None:
    file.unlink()
    kept = tmp_path / "machine.toml"
    kept.write_text("")
    with pytest.raises(
        SettingsError, match=r"^the environment variable COVE_CPUS: cpus must be a whole number .*'many'"
    ):
        effective.values(kept, {"COVE_CPUS": "many"})
    with pytest.raises(SettingsError) as told:
        effective.values(kept, {"COVE_CPUS": "many", "COVE_DISK": "1XB"})
    assert [line.split()[3] for line in told.value.message.splitlines()] == ["COVE_CPUS:", "COVE_DISK:"]
    assert [line.rpartition(" ")[2] for line in told.value.hint.splitlines()] == ["COVE_CPUS", "COVE_DISK"]


def test_all_mistakes_are_told_each_on_its_line(file: Path) -> None:
    file.write_text("mine = 1\nallowed_registries = 3\n[locked]\ncpu = 1\ncpus = 0\n")
    with pytest.raises(SettingsError) as told:
        policy.load()
    said = [line.removeprefix(f"{file}:") for line in told.value.message.splitlines()]
    assert [line.partition(" ")[0] for line in said] == ["1:1:", "2:22:", "4:1:", "5:8:"]
    assert told.value.hint == f"edit {file}"


def test_no_variable_of_a_setting_means_something_else() -> None:
    """Those that Cove knows already, but for settings."""
    others = {
        "COVE_HOME",
        "COVE_MACHINE",
        "COVE_HOST",
        "COVE_DEBUG",
        "COVE_DEBIAN_MIRROR",
        "COVE_DEBIAN_SECURITY_MIRROR",
    }
    assert not others & {effective.variable(name) for name in settings.SCHEMA}
