"""What an engine's machine holds: processes, files, mounts, cgroups, links and nft rules, as the kill test's checker wants them.

`look` runs on the machine itself, in the engine's network namespace, with the engine's own modules at hand: by `Netns` on this
computer, and by `VmLook` in the VM, to which this file's text is sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FOLDERS = ("containers", "volumes", "layers", "blobs/sha256", "trash", "tmp")


def processes(state: Path) -> Iterable[tuple[int, str]]:
    """Pids and names of shims and spawners of the engine with this state: their command line is the spawner's."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                if f"{state}/".encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                    name = Path(f"/proc/{entry}/comm").read_text().strip()
                    if name.startswith(("shim:", "cove-spawner")):
                        yield int(entry), name


def look(root: str, state: str, table: str, files: list[str], pids: list[int]) -> dict[str, Any]:
    """All of it at once. ``files``: below ``root``, whose texts are wanted; ``pids``: of which is told who is there."""
    from coved.networks.nftables import Nftables
    from coved.networks.rtnetlink import Netlink
    from coved.runtime.cgroups import mount_point

    def names(folder: str) -> list[str]:
        return os.listdir(folder) if os.path.isdir(folder) else []

    def text(path: str) -> str | None:
        try:
            return Path(path).read_text()
        except FileNotFoundError:
            return None

    with contextlib.closing(sqlite3.connect(f"file:{root}/metadata.db?mode=ro", uri=True)) as database:
        blobs = [
            row[0]
            for table_of in ("layer_blobs", "image_manifests")
            for row in database.execute(f"SELECT digest FROM {table_of}")
        ]
    with contextlib.closing(Netlink()) as netlink:
        links = [link.name for link in netlink.links()]
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    nft = Nftables()
    rules = nft.run(f"list table inet {table}")
    nft.close()
    return {
        "processes": list(processes(Path(state))),
        "alive": [pid for pid in pids if os.path.exists(f"/proc/{pid}")],
        "files": {path: text(f"{root}/{path}") for path in files},
        "folders": {name: names(f"{root}/{name}") for name in FOLDERS},
        "blobs": blobs,
        "shims": names(f"{state}/shims"),
        "netns": names(f"{state}/netns"),
        "sandboxes": [json.loads(text(f"{state}/sandboxes/{name}") or "null") for name in names(f"{state}/sandboxes")],
        "cgroups": names(f"{mount_point()}/cove"),
        # Folders of the computer that the machine runs on come and go with the machine.
        "mounts": [
            path
            for path in mounts
            if path.startswith((f"{root}/", f"{state}/")) and not path.startswith(f"{state}/host/")
        ],
        "links": [name for name in links if name != "lo" and not os.path.exists(f"/sys/class/net/{name}/device")],
        "rules": rules,
    }


class Netns:
    """A thread that lives in the network namespace of a process of this computer."""

    def __init__(self, pid: int) -> None:
        self._thread = ThreadPoolExecutor(1, "netns")
        self._thread.submit(_enter, f"/proc/{pid}/ns/net").result()

    def look(self, *arguments: Any) -> dict[str, Any]:
        return self._thread.submit(look, *arguments).result(30)

    def fetch(self, url: str) -> str:
        return self._thread.submit(fetch, url).result(30)

    def close(self) -> None:
        self._thread.shutdown()


class VmLook:
    """A Python that stays in the VM until that ends; the next look starts another."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._process: subprocess.Popen[str] | None = None

    def look(self, *arguments: Any) -> dict[str, Any]:
        for again in (True, False):
            if self._process is None:
                self._begin()
            assert self._process is not None and self._process.stdin and self._process.stdout
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(
                    json.dumps([str(one) if isinstance(one, Path) else one for one in arguments]) + "\n"
                )
                self._process.stdin.flush()
            if line := self._process.stdout.readline():
                return dict(json.loads(line))
            self.close()
            assert again, "the VM gives no answer"
        raise AssertionError

    def fetch(self, url: str) -> str:
        """The VM's published ports are this computer's."""
        return fetch(url)

    def _begin(self) -> None:
        program = "import sys, json; exec(json.loads(sys.stdin.readline()))"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cove", "machine", "ssh", f"PYTHONPATH=/usr/lib/cove python3 -u -c '{program}'"],
            env=self._machine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        loop = "\nfor line in sys.stdin: print(json.dumps(look(*json.loads(line))))\n"
        self._process.stdin.write(json.dumps(Path(__file__).read_text() + loop) + "\n")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None


def fetch(url: str) -> str:
    """Raises OSError."""
    import urllib.request

    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
        return str(answer.read().decode())


def _enter(path: str) -> None:
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) != 0:  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)
