"""The Windows client, installed, with the QEMU for Windows that it brings, under Wine: a machine from its first start, for which it makes
the image, to the end of its last process. Real Windows has not seen it, nor has an accelerator.
"""

from __future__ import annotations

import json
import shutil
import time
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
EVENT_S = 120.0
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

CONTAINER = """
set -e
cat /x/told; cat "/x/with a space/é"
echo back > /x/made; mkdir -p /x/deep/er
echo one > /x/old; mv /x/old /x/deep/new; ln /x/deep/new /x/hard
echo more >> /x/told; rm /x/going
dd if=/dev/zero of=/x/big bs=1M count=3 2>/dev/null; wc -c < /x/big
mkdir /x/emptied; rmdir /x/emptied
"""
OUT_OF_IT = """
cd /x
cat '..\\secret.txt' 'C:\\secret.txt' '\\secret.txt' 'told:stream' 'told::$DATA'
echo x > 'told:stream'; echo x > con; echo x > NUL.txt; echo x > 'dot.'; echo x > 'a\\b'; mkdir 'C:'
mv told 'told:moved'; ln told '..\\linked'
ln -s ../../secret.txt link; cat link
ls
"""
EVENTS = """
import ctypes, os, struct
names = {2: "modify", 8: "close", 64: "moved from", 128: "moved to", 256: "create", 512: "delete"}
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(0)
assert libc.inotify_add_watch(fd, b"/w", sum(names)) >= 0
print("ready", flush=True)
while data := os.read(fd, 65536):
    while data:
        _, mask, _, length = struct.unpack_from("iIII", data)
        print(names.get(mask & sum(names)), data[16 : 16 + length].rstrip(bytes(1)).decode(), sep=":", flush=True)
        data = data[16 + length :]
"""
"""By the VM's Python, which the container is lent."""
LENT = [word for each in ("/usr", "/lib", "/lib64") for word in ("-v", f"{each}:{each}:ro")]

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

    def windows(self, path: Path) -> str:
        """A file of the user's, as Windows names it."""
        return "C:\\" + str(path.relative_to(self.wine.prefix / "drive_c")).replace("/", "\\")

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


@pytest.fixture
def folder(client: Client) -> Path:
    """Beside which, in the home that is shared, and above which, where nothing is, lies what is nobody's in the container."""
    folder = client.wine.home / "work"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "with a space").mkdir(parents=True)
    (folder / "told").write_text("hello\n")
    (folder / "going").touch()
    (folder / "with a space/é").write_text("accent\n")
    for secret in (client.wine.home / "secret.txt", client.wine.prefix / "drive_c/secret.txt"):
        secret.write_text("nobody may read this")
    return folder


def test_a_folder_is_read_and_written(client: Client, started: str, folder: Path) -> None:
    (shared,) = client.status()["folders"]  # type: ignore[misc]
    assert (shared["driver"], shared["access"], shared["state"]) == ("Cove's own 9p", "read-write", "shared")
    path = client.windows(folder)
    said = client.cove("run", "--rm", "-v", f"{path}:/x", "busybox", "sh", "-c", CONTAINER)
    assert said.split() == ["hello", "accent", "3145728"]
    assert (folder / "made").read_text() == "back\n"
    assert (folder / "told").read_text() == "hello\nmore\n"
    assert (folder / "deep/new").samefile(folder / "hard")
    assert sorted(one.name for one in folder.iterdir()) == ["big", "deep", "hard", "made", "told", "with a space"]
    # As docker's users write it, too; -v makes what is missing, and what Windows changes is seen.
    (folder / "told").write_text("changed\n")
    for spelled in (path.replace("C:", "/c").replace("\\", "/"), path.replace("\\", "/").upper()):
        assert client.cove("run", "--rm", "-v", f"{spelled}:/x:ro", "busybox", "cat", "/x/told") == "changed\n"
    client.cove("run", "--rm", "-v", f"{path}\\new\\er:/n", "busybox", "touch", "/n/there")
    assert (folder / "new/er/there").exists()


def test_nothing_but_the_folder_is_reached(client: Client, started: str, folder: Path) -> None:
    """By names that mean something to Windows; links and junctions are refused in tests of the server, for Wine 8 has none."""
    said = client.cove("run", "--rm", "-v", f"{client.windows(folder)}:/x", "busybox", "sh", "-c", OUT_OF_IT)
    assert said.split("\n") == ["going", "told", "with a space", ""]
    assert sorted(one.name for one in folder.iterdir()) == ["going", "told", "with a space"]
    assert (folder / "told").read_text() == "hello\n"
    for outside in ("C:\\secret.txt", "C:\\windows", client.windows(folder) + "\\..\\..\\..\\secret.txt"):
        with pytest.raises(AssertionError, match="is not in a folder that this computer shares"):
            client.cove("run", "--rm", "-v", f"{outside}:/x", "busybox", "ls", "/x")


def test_what_windows_changes_is_an_event(client: Client, started: str, folder: Path) -> None:
    """In the folder itself; of those below it Wine 8 tells nothing (ReadDirectoryChangesW)."""
    (client.wine.home / "events.py").write_text(EVENTS)
    words = ["-v", f"{client.windows(folder)}:/w", "-v", f"{client.windows(client.wine.home / 'events.py')}:/events.py"]
    client.cove("run", "-d", "--name", "hears", *words, *LENT, "busybox", "python3", "-u", "/events.py")

    def heard(last: str) -> list[str]:
        deadline = time.monotonic() + EVENT_S
        while last not in (said := client.cove("logs", "hears").split("\n")):
            assert time.monotonic() < deadline, said
        return list(dict.fromkeys(said))  # a change may be told twice

    heard("ready")
    python = client.wine.home / FOLDER / "python/python.exe"
    for step, last in (
        ("open('new', 'w').write('1')", "close:new"),
        ("import os; os.rename('new', 'renamed')", "moved to:renamed"),
        ("import os; os.unlink('renamed')", "delete:renamed"),
    ):
        client.wine.call(python, "-c", f"import os; os.chdir({client.windows(folder)!r}); {step}")
        said = heard(last)
    assert [one for one in said if one.endswith(("new", "renamed"))] == [
        "create:new", "modify:new", "close:new", "moved from:new", "moved to:renamed", "delete:renamed",
    ]  # fmt: skip
    client.cove("rm", "-f", "hears")


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


def test_the_end_of_the_session_stops_the_machine_in_order_first(client: Client) -> None:
    client.wine.have_windows()
    start(client)
    before = (client.machine / "console.log").read_text().count("reboot: Power down")
    client.wine.call("wineboot", "--end-session")
    client.wine.wait()
    assert (client.machine / "console.log").read_text().count("reboot: Power down") == before + 1
    assert client.status()["state"] == "stopped"
