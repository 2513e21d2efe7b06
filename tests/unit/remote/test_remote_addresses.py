"""How hosts are written, and what is kept of a machine that is one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cove.errors import CoveError, SettingsError
from cove.machine import remote
from cove.machine.paths import MachinePaths
from cove.machine.remote import Address, Remote

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPDrYk3DbhMRJh9tzqQbJYKK3m2p8wEeCKrw5nAD9lPc"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ann@far.example", Address("far.example", "ann")),
        ("far", Address("far")),
        ("ann@far.example:2222", Address("far.example", "ann", 2222)),
        ("ssh://ann@far.example:2222", Address("far.example", "ann", 2222)),
        ("ssh://far.example/", Address("far.example")),
        ("root@192.0.2.7", Address("192.0.2.7", "root")),
        ("root@[2001:db8::7]:2222", Address("2001:db8::7", "root", 2222)),
        ("[2001:db8::7]", Address("2001:db8::7")),
        ("root@2001:db8::7", Address("2001:db8::7", "root")),
        ("root@[fe80::1%eth0]", Address("fe80::1%eth0", "root")),
    ],
)
def test_an_address_is_written_as_ssh_has_it(text: str, address: Address) -> None:
    assert remote.address(text) == address
    assert remote.address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "@far", "ann@", "far:0", "far:65536", "far:x", "-oProxyCommand=x", "a@-v", "a b@far", "http://far", "far/x"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(CoveError, match="is no address of a host"):
        remote.address(text)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePaths:
    monkeypatch.setenv("COVE_HOME", str(tmp_path))
    made = MachinePaths("far")
    made.folder.mkdir(parents=True)
    return made


def test_what_is_kept_comes_back(paths: MachinePaths) -> None:
    assert remote.load(paths) is None
    kept = Remote(Address("far.example", "ann", 2222), KEY, "podman", "/run/podman/podman.sock")
    remote.save(paths, kept)
    assert remote.load(paths) == kept
    assert stat.S_IMODE(paths.remote.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": 3}', '{"address": {"host": "x"}, "other": 1}'])
def test_a_file_that_is_damaged_is_told_of(paths: MachinePaths, text: str) -> None:
    paths.remote.write_text(text)
    with pytest.raises(SettingsError, match="cannot be read"):
        remote.load(paths)


def test_settings_of_vms_mean_nothing_there(paths: MachinePaths) -> None:
    remote.save(paths, Remote(Address("far"), KEY, "docker", "/run/docker.sock"))
    remote.refuse_setting(paths, "bind_address")
    for setting in ("cpus", "shared_folders", "suspend_after"):
        with pytest.raises(SettingsError, match=f"{setting} means nothing for the machine far"):
            remote.refuse_setting(paths, setting)
    remote.save(paths, Remote(Address("far"), KEY, "cove", instance="00" * 8))
    remote.refuse_setting(paths, "shared_folders")
    with pytest.raises(SettingsError):
        remote.refuse_setting(paths, "memory")


def test_a_fingerprint_is_that_of_ssh_keygen() -> None:
    shown = "SHA256:" + "+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    github = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    assert remote.fingerprint(github) == shown
