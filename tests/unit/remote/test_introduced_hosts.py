"""Whose key is taken when a machine of another computer is made, and what the system's ssh is given of it."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from cove.cli import remote_machines
from cove.errors import RemoteError
from cove.machine import remote
from cove.machine.paths import MachinePaths
from cove.machine.remote import COVE, Remote, fingerprint
from cove.remote import trust
from cove.transport.ssh import make_key
from ssh_server import LIMIT_S, Server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "cove"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519").write_text(make_key()[0])
    return tmp_path


@pytest.fixture
def host(home: Path) -> Iterator[Server]:
    made = Server(paramiko.ECDSAKey.generate(), paramiko.Ed25519Key.from_private_key(io.StringIO(make_key()[0])))
    yield made
    made.close()


def known(home: Path, server: Server, key: paramiko.PKey) -> None:
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} {trust.as_text(key)}\n")


def introduced(server: Server, host_key: str = "", *, accepted: bool = False) -> str:
    """The key of the connection."""
    made = remote_machines._introduced(str(server.address), host_key, accepted, asks=False)
    made.close()
    return made.host_key


@pytest.mark.parametrize("kind", [0, 1])
def test_the_key_whose_fingerprint_is_given_is_taken(home: Path, host: Server, kind: int) -> None:
    wanted = trust.as_text(host.keys[kind])
    assert introduced(host, fingerprint(wanted)) == wanted
    known(home, host, host.keys[1 - kind])  # known by a key of another kind
    assert introduced(host, fingerprint(wanted)) == wanted


def test_what_is_given_counts_and_not_known_hosts(home: Path, host: Server) -> None:
    known(home, host, paramiko.ECDSAKey.generate())  # as it was before it was installed anew
    with pytest.raises(RemoteError, match="shows another host key than before"):
        introduced(host)
    for kind in (0, 1):
        wanted = trust.as_text(host.keys[kind])
        assert introduced(host, fingerprint(wanted)) == wanted
    assert introduced(host, accepted=True) in map(trust.as_text, host.keys)


def test_a_host_without_that_key_is_refused(host: Server) -> None:
    with pytest.raises(RemoteError) as told:
        introduced(host, "SHA256:other", accepted=True)
    for key in host.keys:
        assert fingerprint(trust.as_text(key)) in str(told.value)
    assert "and not SHA256:other" in str(told.value)


def test_a_revoked_key_is_refused_even_when_it_is_given(home: Path, host: Server) -> None:
    revoked = trust.as_text(host.keys[0])
    (home / ".ssh/known_hosts").write_text(f"@revoked * {revoked}\n")
    with pytest.raises(RemoteError, match="which your known_hosts has revoked"):
        introduced(host, fingerprint(revoked))


@pytest.mark.parametrize("options", [{"accepted": True}, {"host_key": "SHA256:other"}, {}])
def test_a_host_on_the_way_is_not_taken_for_the_one_behind_it(
    home: Path, host: Server, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = f"Host between\n HostName 127.0.0.1\n Port {host.port}\nHost far\n ProxyJump between\n"
    (home / ".ssh/config").write_text(config)
    monkeypatch.setattr(remote_machines, "agreed", lambda words: pytest.fail(f"it is asked: {words}"))
    given = {"host_key": "", "accepted": False, **options}
    with pytest.raises(trust.UnknownHost, match="nobody has said yet that between is who it says") as told:
        remote_machines._introduced("far", asks=True, **given)  # type: ignore[arg-type]
    assert "--host-key" not in told.value.hint
    assert told.value.hint.endswith("connect once with: ssh between")


def test_an_unknown_key_is_taken_when_the_user_agrees(host: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(remote_machines, "agreed", lambda words: asked.append(words) or True)
    made = remote_machines._introduced(str(host.address), "", False, asks=True)
    made.close()
    assert fingerprint(made.host_key) in asked[0]
    with pytest.raises(trust.UnknownHost) as told:
        introduced(host)
    assert f"ssh -p {host.port} ann@127.0.0.1" in told.value.hint


def test_ssh_makes_a_connection_of_its_own(home: Path, host: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    paths = MachinePaths("far")
    paths.folder.mkdir(parents=True)
    words = remote_machines.ssh_words(paths, Remote(host.address, trust.as_text(host.keys[0]), COVE))
    assert "ControlPath=none" in words
    assert words[-5:] == ["-l", "ann", "-p", str(host.port), "127.0.0.1"]


def test_the_key_of_a_host_that_was_installed_anew_is_pinned(home: Path, host: Server) -> None:
    paths, old, new = MachinePaths("far"), paramiko.ECDSAKey.generate(), trust.as_text(host.keys[0])
    paths.folder.mkdir(parents=True)
    paths.settings.touch()
    known(home, host, old)
    remote.save(paths, Remote(host.address, trust.as_text(old), COVE))
    assert remote_machines.pinned_anew("far", str(host.address), "", False) is None
    found = remote_machines.pinned_anew("far", str(host.address), fingerprint(new), False)
    assert found == remote.load(paths) == Remote(host.address, new, COVE)
    assert remote_machines.pinned_anew("far", str(host.address), fingerprint(new), False) is None  # it has it


def test_a_refusal_is_all_that_is_told(home: Path, host: Server) -> None:
    words = ["machine", "init", "--ssh", str(host.address), "--host-key", "SHA256:other", "far"]
    done = subprocess.run(
        [sys.executable, "-m", "cove", *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f"cove: {host.address} shows the host key SHA256:")
    assert len(done.stderr.splitlines()) == 2, done.stderr  # and nothing of paramiko's
