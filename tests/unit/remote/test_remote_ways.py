"""The way to a host by ~/.ssh/config, and whose key is known by known_hosts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cove.errors import RemoteError
from cove.machine.remote import Address
from cove.remote import connection, trust, way

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPDrYk3DbhMRJh9tzqQbJYKK3m2p8wEeCKrw5nAD9lPc"


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


def test_files_that_are_included_count_in_their_places(home: Path) -> None:
    parts = home / ".ssh/config.d"
    parts.mkdir()
    (parts / "a").write_text("Host big\n HostName 192.0.2.7\n User ann\n Port 2222\n")
    (parts / "b").write_text("Include ~/.ssh/deeper 'no such file'\n")
    (parts / ".b.swp").write_text("Host *\n User nobody\n")
    (home / ".ssh/deeper").write_text("Host small\n User bob\n")
    config(home, "# Include nothing\ninclude=config.d/*\nUser other\nHost big small\n Port 2200\n")
    found = way.find(Address("big"))
    assert (found.host, found.user, found.port) == ("192.0.2.7", "ann", 2222)
    assert (way.find(Address("small")).user, way.find(Address("small")).port) == ("bob", 2200)
    assert (way.find(Address("else")).user, way.find(Address("else")).port) == ("other", 22)


def test_what_a_section_includes_is_of_that_section(home: Path) -> None:
    (home / ".ssh/work").write_text(
        "Port 2222\nHost *.a !x.a\n User ann\nMatch user ann\n IdentityFile ~/ann\nMatch all\n ProxyJump on\n"
    )
    config(home, "Host *.a *.b\n Include work\n HostKeyAlias same\n")
    found = way.find(Address("1.a"))
    assert (found.port, found.user, found.keys, found.jumps) == (2222, "ann", (home / "ann",), (Address("on"),))
    for host in ("x.a", "1.b"):
        found = way.find(Address(host))
        assert (found.port, found.user, found.jumps, found.alias) == (2222, "me", (Address("on"),), "same")
    found = way.find(Address("c"))
    assert (found.port, found.user, found.jumps, found.alias) == (22, "me", (), "c")


def test_files_that_include_themselves_are_told(home: Path) -> None:
    config(home, "Include config\n")
    with pytest.raises(RemoteError, match="more than 16 deep"):
        way.find(Address("far"))


def test_known_hosts_are_where_the_configuration_says(home: Path) -> None:
    config(home, "Host far\n UserKnownHostsFile ~/a '~/b c'\nHost none\n UserKnownHostsFile none\n")
    assert way.find(Address("far")).known_files == (home / "a", home / "b c", trust.OF_ALL)
    assert way.find(Address("none")).known_files == (trust.OF_ALL,)
    assert way.find(Address("other")).known_files == tuple(trust.known_files())


def test_a_host_that_is_on_the_way_to_itself_is_told(home: Path) -> None:
    config(home, "Host *\n ProxyJump bastion\n")
    with pytest.raises(RemoteError, match="the way to big goes in a circle: bastion is behind itself") as told:
        connection.connect(Address("big"))
    assert "Host * !bastion" in told.value.hint


def test_known_hosts_are_known(home: Path) -> None:
    file = home / ".ssh/known_hosts"
    file.write_text(f"# a comment\n@revoked gone {KEY}\nother {KEY}\nnonsense\n[far]:2222,192.0.2.7 {KEY} me@there\n")
    assert trust.known("[far]:2222", [file]) == trust.known("192.0.2.7", [file]) == [KEY]
    assert trust.known("far", [file]) == trust.known("gone", [file]) == []
    assert trust.known("far", [home / "absent"]) == []


def test_all_keys_of_a_host_are_known(home: Path) -> None:
    file, second = home / "known", home / "second"
    file.write_text(f"far {KEY}\nfar {OTHER}\n*.wild,!not.wild {KEY}\n")
    second.write_text(f"Far.Example {KEY}\n")
    assert trust.known("far", [file, second]) == [KEY, OTHER]
    assert trust.known("far.EXAMPLE", [file, second]) == [KEY]
    assert (trust.known("a.wild", [file]), trust.known("not.wild", [file])) == ([KEY], [])


@pytest.mark.parametrize("revoked", ["far", "*", "f?r,other"])
def test_a_revoked_key_is_not_known(home: Path, revoked: str) -> None:
    file, second = home / "known", home / "second"
    file.write_text(f"far {KEY}\nfar {OTHER}\n")
    second.write_text(f"@revoked {revoked} {KEY}\n@cert-authority far {KEY}\n")
    assert trust.known("far", [file, second]) == [OTHER]
    with pytest.raises(RemoteError, match="which your known_hosts has revoked"):
        trust.refuse_revoked("ann@far", KEY, "far", [file, second])
    trust.refuse_revoked("ann@far", OTHER, "far", [file, second])
    trust.refuse_revoked("ann@far", KEY, "far", [file])


def test_hashed_names_are_known(home: Path) -> None:
    file = home / "known"
    file.write_text(f"far.example {KEY}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True, timeout=30)
    assert "far.example" not in file.read_text()
    assert trust.known("far.example", [file]) == [KEY]


def test_an_rsa_key_is_shown_by_newer_algorithms() -> None:
    assert trust.kinds("ssh-rsa AAAA") == ("rsa-sha2-512", "rsa-sha2-256")
    assert trust.kinds(KEY) == ("ssh-ed25519",)
