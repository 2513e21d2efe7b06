"""This computer's SSH agent, asked from within the machine: a real agent, by real ssh-add(1), through every part between them."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cove.forward import ssh_agent
from cove.transport.base import SERVICES
from cove.transport.ssh import SshTransport
from coved.link.services import HostService

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="OpenSSH's programs of a Unix")


@pytest.fixture
def agent(way: Any) -> Iterator[Path]:
    """The socket of one with one key, k."""
    folder = way.folder
    assert shutil.which("ssh-agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(folder / "a")], stdout=subprocess.DEVNULL)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "k", "-f", str(folder / "k")], check=True, timeout=20
    )
    for _ in range(200):
        if add(folder / "a", str(folder / "k")).returncode == 0:
            break
    yield folder / "a"
    process.terminate()
    process.wait(10)


def add(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh-add", *words], env={**os.environ, "SSH_AUTH_SOCK": str(path)}, capture_output=True, text=True, timeout=20
    )


class Guest:
    """The engine's end, in a loop of its own: ``socket`` is what a container has mounted."""

    def __init__(self, folder: Path, way: Path) -> None:
        self.socket = folder / "c"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen()
        self._way = way
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._service = HostService(self._listener, self._way)
        self._loop.call_soon(self._service.start)
        self._loop.run_forever()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._service.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def guest(way: Any) -> Iterator[Guest]:
    place = way.folder / "s"
    way.guest.targets[f"{SERVICES}/{ssh_agent.NAME}.sock"] = place
    made = Guest(way.folder, place)
    yield made
    made.close()


def connected(way: Any, place: Callable[[], str]) -> SshTransport:
    transport: SshTransport = way.transport()
    transport.serve(ssh_agent.NAME, ssh_agent.Service(place).serve)
    transport.connect()
    for _ in range(500):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(way.folder / "s")) == 0:
                break
        threading.Event().wait(0.01)
    return transport


def test_it_lists_keys_and_signs_and_does_nothing_else(way: Any, agent: Path, guest: Guest) -> None:
    transport = connected(way, lambda: str(agent))
    public = (way.folder / "k.pub").read_text()
    assert add(guest.socket, "-L").stdout == public
    assert add(guest.socket, "-T", str(way.folder / "k.pub")).returncode == 0  # signs with it
    for refused in (["-D"], ["-d", str(way.folder / "k.pub")], [str(way.folder / "k")]):
        assert add(guest.socket, *refused).returncode != 0
    assert add(agent, "-L").stdout == public
    transport.close()
    # The container keeps its socket: through the next connection it leads there again.
    assert add(guest.socket, "-L").returncode != 0
    (way.folder / "s").unlink()
    transport = connected(way, lambda: str(agent))
    assert add(guest.socket, "-L").stdout == public
    transport.close()


def test_without_an_agent_it_ends(way: Any, guest: Guest) -> None:
    for nowhere in ("", str(way.folder / "gone")):
        transport = connected(way, partial(str, nowhere))
        assert add(guest.socket, "-L").returncode != 0
        transport.close()


@pytest.mark.parametrize("after", ["", "/another/agent"])
def test_the_setting_counts_at_once_also_for_who_is_connected(after: str, way: Any, agent: Path, guest: Guest) -> None:
    places = [str(agent)]
    transport = connected(way, lambda: places[-1])
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(guest.socket))
        client.sendall(b"\0\0\0\1\x0b")
        assert client.recv(5)[4] == 12  # SSH_AGENT_IDENTITIES_ANSWER
        while client.recv(4096)[-1:] != b"k":  # the comment of its one key
            pass
        places.append(after)
        client.sendall(b"\0\0\0\1\x0b")
        assert client.recv(1) == b""
    transport.close()


def test_what_is_too_long_is_not_waited_for(way: Any, agent: Path, guest: Guest) -> None:
    transport = connected(way, lambda: str(agent))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(guest.socket))
        client.sendall(b"\xff\xff\xff\xff\x0b")
        assert client.recv(1) == b""
    transport.close()


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ssh_agent.place("none", {"SSH_AUTH_SOCK": "/a"}) == ""
    assert ssh_agent.place("system", {"SSH_AUTH_SOCK": "/a"}) == "/a"
    assert ssh_agent.place("/b", {"SSH_AUTH_SOCK": "/a"}) == "/b"
    assert ssh_agent.place("system", {}) == ""
    monkeypatch.setattr(ssh_agent.sys, "platform", "win32")
    assert ssh_agent.place("system", {}) == ssh_agent.PIPE
