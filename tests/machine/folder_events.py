"""Changes of this computer in a container: the events that they are there, how soon, and that nothing old is read."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from statistics import median
from typing import Any

SOON_S = 20.0
"""A busy computer's; how soon they are on an idle one is in docs/benchmarks.md."""
EVENTS = {"n": "create", "c": "modify", "w": "close", "e": "attrib", "d": "delete", "m": "moved from", "y": "moved to"}
"""What busybox's inotifyd calls them."""


class Heard:
    """What inotifyd in a container says, a line for each event: (kind, name), with when it came."""

    def __init__(self, machine: Any, container: str, path: str) -> None:
        command = ["docker", "exec", container, "inotifyd", "-", f"{path}:ncwedmy"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=machine.environment)
        self._lines: Queue[tuple[float, tuple[str, str]]] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kinds, _, *name = line.rstrip("\n").split("\t")
            for kind in kinds:
                self._lines.put((time.monotonic(), (EVENTS[kind], "".join(name))))

    def begun(self, touch: Callable[[], object]) -> None:
        """Returns when events come: inotifyd does not say that it watches."""
        for _ in range(int(SOON_S)):
            touch()
            try:
                self._lines.get(timeout=1)
            except Empty:
                continue
            self.settle()
            return
        raise AssertionError("no event came")

    def until(self, last: tuple[str, str]) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        while last not in found:
            found.append(self._lines.get(timeout=SOON_S)[1])
        return found

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


def they_arrive(machine: Any, work: Path, exact: bool) -> None:
    """Args: exact: of each kind; otherwise there is one event at least that names the file, or its folder."""
    watched = work / "watched"
    watched.mkdir()
    (watched / "a").write_text("old")
    machine.docker("run", "-d", "--name", "watches", "-v", f"{watched}:/w", "busybox", "sleep", "1000")
    assert machine.docker("exec", "watches", "cat", "/w/a").stdout == "old"
    heard = Heard(machine, "watches", "/w")
    try:
        heard.begun(lambda: (watched / "a").chmod(0o644))
        (watched / "a").write_text("newer")
        seen = heard.until(("modify", "a") if exact else ("attrib", "a"))
        assert ("create", "a") not in seen
        assert machine.docker("exec", "watches", "cat", "/w/a").stdout == "newer"
        if exact:
            kinds_are_right(machine, watched, heard)
        heard.settle()
        machine.docker("exec", "watches", "sh", "-c", "echo mine > /w/own; mv /w/own /w/theirs; rm /w/theirs")
        own = heard.until(("delete", "theirs"))
        assert own.count(("create", "own")) == own.count(("moved to", "theirs")) == 1
        if exact:
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
