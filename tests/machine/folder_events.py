"""Changes of this computer in a container: the events that they are there, how soon, and that nothing old is read."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from queue import Empty, Queue
from statistics import median
from typing import Any

SOON_S = 60.0
"""A busy computer's; how soon they are on an idle one is in docs/benchmarks.md."""
LISTEN = """
import ctypes, os, struct
names = {2: "modify", 4: "attrib", 8: "close", 64: "moved from", 128: "moved to", 256: "create", 512: "delete"}
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(0)
assert libc.inotify_add_watch(fd, b"/w", sum(names)) >= 0
print("ready", flush=True)
while data := os.read(fd, 65536):
    while data:
        _, mask, _, length = struct.unpack_from("iIII", data)
        name = data[16 : 16 + length].rstrip(bytes(1)).decode()
        print(names[mask & sum(names)], name, sep=":", flush=True)
        data = data[16 + length :]
"""
"""Debian's busybox has no inotifyd, but the VM has Python, which a container may be lent."""
LENT = ("-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro")


class Heard:
    """The events of /w in a container: (kind, name), with when they came."""

    def __init__(self, machine: Any, container: str) -> None:
        command = ["docker", "exec", container, "python3", "-u", "-c", LISTEN]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**machine.environment, "DOCKER_HOST": machine.docker_host}
        )
        self._lines: Queue[tuple[float, tuple[str, str]]] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, _, name = line.rstrip("\n").partition(":")
            self._lines.put((time.monotonic(), (kind, name)))

    def until(self, last: tuple[str, str], *, each: bool = False) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        while last not in found:
            found.append(self._lines.get(timeout=SOON_S)[1])
        return (
            found if each else list(dict.fromkeys(found))
        )  # a change is told twice when the first time may have been too early

    def quiet(self, for_s: float) -> list[tuple[str, str]]:
        try:
            return [self._lines.get(timeout=for_s)[1]]
        except Empty:
            return []

    def settle(self) -> None:
        while self.quiet(1):
            pass

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def they_arrive(machine: Any, work: Path) -> None:
    """Changes on this computer, as events of the right kind in a container."""
    watched = work / "watched"
    watched.mkdir()
    (watched / "a").write_text("old")
    machine.docker("run", "-d", "--name", "watches", "-v", f"{watched}:/w", *LENT, "busybox", "sleep", "1000")
    assert machine.docker("exec", "watches", "cat", "/w/a").stdout == "old"
    heard = Heard(machine, "watches")
    try:
        heard.until(("ready", ""))
        heard.settle()
        (watched / "a").write_text("newer")
        seen = heard.until(("modify", "a"))
        assert ("create", "a") not in seen
        assert machine.docker("exec", "watches", "cat", "/w/a").stdout == "newer"
        kinds_are_right(machine, watched, heard)
        heard.settle()
        machine.docker("exec", "watches", "sh", "-c", "echo mine > /w/own; mv /w/own /w/theirs; rm /w/theirs")
        own = heard.until(("delete", "theirs"), each=True)
        assert own.count(("create", "own")) == own.count(("moved to", "theirs")) == 1
        assert heard.quiet(2) == [], "what a container does comes back to it"
    finally:
        heard.close()
        machine.docker("rm", "-f", "watches")


def kinds_are_right(machine: Any, watched: Path, heard: Heard) -> None:
    heard.settle()
    (watched / "new").write_text("x")
    assert heard.until(("close", "new")) == [("create", "new"), ("modify", "new"), ("close", "new")]
    heard.settle()
    (watched / "new").chmod(0o600)
    assert heard.until(("attrib", "new")) == [("attrib", "new")]
    heard.settle()
    (watched / "new").replace(watched / "a")  # as editors save
    assert heard.until(("moved to", "a")) == [("moved from", "new"), ("moved to", "a")]
    assert machine.docker("exec", "watches", "cat", "/w/a").stdout == "x"
    heard.settle()
    (watched / "a").unlink()
    assert heard.until(("delete", "a")) == [("delete", "a")]
    assert machine.docker("exec", "watches", "ls", "/w").stdout == ""


def latencies(heard: Heard, watched: Path, count: int) -> tuple[float, float]:
    """Median and longest, in seconds, from a write to its event."""
    took = []
    for number in range(count):
        begin = time.monotonic()
        (watched / "a").write_text(str(number))
        while True:
            came, event = heard._lines.get(timeout=SOON_S)
            if event[0] in ("modify", "attrib"):
                took.append(came - begin)
                break
        while heard.quiet(0.1):
            pass
    return median(took), max(took)
