"""Whose keys are shown to a host: those of files, and of an SSH agent that may be silent."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cove.machine.remote import Address
from cove.remote import login, way
from cove.transport.ssh import make_key


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.fixture
def silent(home: Path) -> Iterator[socket.socket]:
    """An SSH agent that takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(home / "agent"))
        made.listen()
        yield made


def test_an_agent_that_is_silent_is_told_and_not_waited_for(silent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "_AGENT_S", 0.1)
    hints: list[str] = []
    with contextlib.ExitStack() as stack:
        assert login._of_agent(way.find(Address("far")).agent, hints, stack) == ()
    assert "does not answer" in hints[0]


class Key:
    """One that an SSH agent has."""

    comment = "of work"

    def __init__(self, public: str) -> None:
        self._blob = paramiko.PublicBlob.from_string(public).key_blob  # type: ignore[attr-defined]

    def asbytes(self) -> bytes:
        return bytes(self._blob)


def test_a_file_may_have_the_public_half_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, public = make_key()
    _, other = make_key()
    wanted, unwanted = Key(public), Key(other)
    (home / ".ssh/work.pub").write_text(f"{public} ann@work\n")
    (home / ".ssh/config").write_text("IdentityFile ~/.ssh/work.pub\nIdentitiesOnly yes\n")
    monkeypatch.setattr(login, "_of_agent", lambda *_given: (unwanted, wanted))
    with contextlib.ExitStack() as stack:
        offered = [*login._offered(way.find(Address("far")), [], [], stack)]
    assert [(name, key.asbytes()) for name, key in offered] == [
        (f"{home}/.ssh/work.pub (by the SSH agent)", wanted.asbytes())
    ]


def test_a_private_key_is_no_public_one(home: Path) -> None:
    private, public = make_key()
    file = home / ".ssh/id_ed25519"
    file.write_text(private)
    assert login._public(file) is None
    file.with_suffix(".pub").write_text(public)
    assert login._public(file) == Key(public).asbytes()
