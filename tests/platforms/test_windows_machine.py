"""The Windows client, installed, with the QEMU for Windows that it brings, under Wine: a machine from its first start, for which it makes
the image, to the end of its last process. Real Windows has not seen it, nor has an accelerator.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cove.forward.ports import free_port
from cove.image import mirror
from machine_support import shared_cache
from platforms_wine import Wine

FOLDER = "AppData/Local/Programs/Cove"
DATA = "AppData/Local/cove"
START_S = 900.0
"""The image is made, and then Linux boots under QEMU's software emulation under Wine, of which a computer at rest takes a minute."""
STARTS = 3
ASK = """
import sys
with open(sys.argv[1], "r+b", buffering=0) as pipe:
    pipe.write(b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
    said = b""
    while data := pipe.read(1 << 16):
        said += data
print(said.decode())
"""
"""Of an engine at a named pipe, as any program on Windows opens one."""

pytestmark = pytest.mark.timeout(2400)


@dataclass(frozen=True, slots=True)
class Client:
    wine: Wine

    def cove(self, *words: str, status: int = 0, given: str = "", bound_s: float = 250.0) -> str:
        program = self.wine.home / FOLDER / "bin/cove.exe"
        return self.wine.call(program, *words, status=status, given=given, bound_s=bound_s)

    def status(self) -> dict[str, object]:
        told: dict[str, object] = json.loads(self.cove("machine", "status", "--json"))
        return told

    @property
    def machine(self) -> Path:
        return self.wine.home / DATA / "machines/default"


@pytest.fixture(scope="module")
def client(installers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    found = mirror.find()
    mirrors = {"COVE_DEBIAN_MIRROR": found.debian, "COVE_DEBIAN_SECURITY_MIRROR": found.debian_security}
    wine = Wine(tmp_path_factory.mktemp("wine") / "prefix", mirrors)
    wine.lay_primitives()
    (setup,) = installers.glob("*-windows-amd64.exe")
    wine.run(setup, "/S")
    if (
        packages := shared_cache() / "packages"
    ).is_dir():  # what this computer has downloaded, of which the image is made
        shutil.copytree(packages, wine.home / DATA / "Cache/packages")
    yield Client(wine)
    wine.end()


@pytest.fixture(scope="module")
def started(client: Client) -> str:
    return start(client)


def start(client: Client) -> str:
    """What a start says. On a computer with much else to do, the emulated one may not come up in the time that Cove gives it."""
    for tries_left in reversed(range(STARTS)):
        try:
            return client.cove("machine", "start", bound_s=START_S)
        except AssertionError as error:
            if not tries_left or "did not boot within" not in str(error):
                raise
    raise AssertionError("not reached")


def fetched(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60) as answer:
        return str(answer.read().decode())


def test_a_machine_starts_from_nothing(client: Client, started: str) -> None:
    assert "machine default is running; its docker socket is npipe:////./pipe/cove-" in started
    assert client.status()["accelerator"] == "tcg"


def test_a_container_runs(client: Client, started: str) -> None:
    assert client.cove("run", "--rm", "busybox", "uname", "-s") == "Linux\n"
    assert client.cove("run", "--rm", "-i", "busybox", "cat", given="from Windows\n") == "from Windows\n"
    client.cove("run", "--rm", "busybox", "sh", "-c", "exit 7", status=7)


def test_any_program_finds_the_engine_at_its_pipe(client: Client, started: str) -> None:
    (url,) = [word for word in started.split() if word.startswith("npipe:")]
    python = client.wine.home / FOLDER / "python/python.exe"
    said = client.wine.call(python, "-c", ASK, url.removeprefix("npipe://").replace("/", "\\"))
    assert said.startswith("HTTP/1.1 200 OK\n")
    assert said.endswith("\n\nOK\n")


def test_a_port_answers_though_the_agent_dies_and_the_machine_stops_in_order(client: Client, started: str) -> None:
    port = free_port("tcp", "127.0.0.1")
    client.cove("run", "-d", "--name", "web", "-p", f"{port}:80", "cove/starter")
    assert "Cove works" in fetched(port)
    vm = client.status()["pid"]
    client.wine.call("taskkill", "/f", "/pid", str(client.status()["agent_pid"]))
    # Another takes over QEMU, and what runs in it goes on.
    assert client.cove("ps", "--format", "{{.Names}}") == "web\n"
    assert client.status()["pid"] == vm
    assert "Cove works" in fetched(port)

    assert client.cove("machine", "stop") == "machine default is stopped\n"
    client.wine.wait()  # no process of Cove's is left, nor one of QEMU's
    assert "reboot: Power down" in (client.machine / "console.log").read_text()
    with pytest.raises(OSError):
        fetched(port)
    assert client.status()["state"] == "stopped"


def test_an_update_stops_the_machine_in_order_first(client: Client, installers: Path) -> None:
    (setup,) = installers.glob("*-windows-amd64.exe")
    start(client)
    before = (client.machine / "console.log").read_text().count("reboot: Power down")
    client.wine.call(setup, "/S")
    client.wine.wait()
    assert (client.machine / "console.log").read_text().count("reboot: Power down") == before + 1
    assert client.status()["state"] == "stopped"
