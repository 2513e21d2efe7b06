"""The way to a host by ~/.ssh/config, and whose key is known by known_hosts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cove.errors import RemoteError
from cove.machine.remote import Address
from cove.remote import trust, way

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent.sock")
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def config(home: Path, text: str) -> None:
    (home / ".ssh/config").write_text(text)


def test_without_a_configuration_there_are_defaults(home: Path) -> None:
    found = way.find(Address("far.example"))
    assert (found.host, found.port, found.user, found.alias) == ("far.example", 22, "me", "far.example")
    assert found.keys == tuple(home / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
    assert (found.agent, found.only_these, found.jumps, found.command) == ("/run/agent.sock", False, (), "")


def test_a_name_is_what_the_configuration_says(home: Path) -> None:
    config(
        home,
        "Host far\n HostName 192.0.2.7\n Port 2222\n User ann\n IdentityFile ~/.ssh/work\n IdentitiesOnly yes\n"
        " IdentityAgent ~/agent.sock\nHost *\n User other\n",
    )
    found = way.find(Address("far"))
    assert (found.host, found.port, found.user, found.alias) == ("192.0.2.7", 2222, "ann", "[192.0.2.7]:2222")
    assert (found.keys, found.only_these, found.agent) == ((home / ".ssh/work",), True, str(home / "agent.sock"))
    told = way.find(Address("far", "root", 22))  # what is written out counts
    assert (told.port, told.user, told.alias) == (22, "root", "192.0.2.7")


def test_hosts_between_are_in_order(home: Path) -> None:
    config(home, "Host far\n ProxyJump ann@one, two:2200\n ProxyCommand nc %h %p\nHost near\n ProxyCommand nc %h %p\n")
    assert way.find(Address("far")).jumps == (Address("one", "ann"), Address("two", port=2200))
    assert way.find(Address("far")).command == ""
    assert way.find(Address("near")).command == "nc near 22"


def test_what_is_not_understood_is_told(home: Path) -> None:
    config(home, "Host far\n Port many\n")
    with pytest.raises(RemoteError, match="'many' is no port"):
        way.find(Address("far"))
    config(home, "IdentityFile ~/x\nMatch host\n")
    with pytest.raises(RemoteError, match="does not understand"):
        way.find(Address("far"))


def test_known_hosts_are_known(home: Path) -> None:
    file = home / ".ssh/known_hosts"
    file.write_text(f"# a comment\n@revoked gone {KEY}\nother {KEY}\nnonsense\n[far]:2222,192.0.2.7 {KEY} me@there\n")
    assert trust.known("[far]:2222", [file]) == trust.known("192.0.2.7", [file]) == [KEY]
    assert trust.known("far", [file]) == trust.known("gone", [file]) == []
    assert trust.known("far", [home / "absent"]) == []


def test_hashed_names_are_known(home: Path) -> None:
    file = home / "known"
    file.write_text(f"far.example {KEY}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True, timeout=30)
    assert "far.example" not in file.read_text()
    assert trust.known("far.example", [file]) == [KEY]


def test_an_rsa_key_is_shown_by_newer_algorithms() -> None:
    assert trust.kinds("ssh-rsa AAAA") == ("rsa-sha2-512", "rsa-sha2-256")
    assert trust.kinds(KEY) == ("ssh-ed25519",)
