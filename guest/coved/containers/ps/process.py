"""One process, or one of its threads, as proc(5) tells it; files are read when a column asks for them."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIMIT = 1 << 17
"""Bytes read of a file: a process chooses how long its command line is."""


class Machine:
    """What columns compare processes with: one moment of the machine."""

    def __init__(self) -> None:
        self.uptime = float(Path("/proc/uptime").read_text().split()[0])
        self.now = time.time()
        lines = Path("/proc/stat").read_text().splitlines()
        self.booted = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        self.memory = os.sysconf("SC_PHYS_PAGES") * _PAGE
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        """The name of a user of the machine; the number of one that it does not know."""
        import pwd

        if uid not in self._users:
            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = str(uid)
        return self._users[uid]

    def group(self, gid: int) -> str:
        import grp

        if gid not in self._groups:
            try:
                self._groups[gid] = grp.getgrgid(gid).gr_name
            except KeyError:
                self._groups[gid] = str(gid)
        return self._groups[gid]


class Process:
    """Raises OSError (from the constructor) when it has ended; what cannot be read later is empty."""

    def __init__(self, machine: Machine, pid: int, thread: int | None = None) -> None:
        self.machine = machine
        self.pid = pid
        self.thread = pid if thread is None else thread
        self._folder = f"/proc/{pid}" if thread is None else f"/proc/{pid}/task/{thread}"
        head, _, tail = Path(self._folder, "stat").read_bytes().rpartition(b")")
        self.name = printable(head.partition(b"(")[2])
        self.stat = tail.split()
        """Fields of proc_pid_stat(5) from the state on."""

    def number(self, field: int) -> int:
        """Field ``field`` of proc_pid_stat(5), counted from 1 as there."""
        return int(self.stat[field - 3])

    @property
    def state(self) -> str:
        return self.stat[0].decode("ascii", "replace")

    @property
    def parent(self) -> int:
        return self.number(4)

    @property
    def used_s(self) -> float:
        """Seconds of processor time."""
        return (self.number(14) + self.number(15)) / _TICKS

    @property
    def age_s(self) -> float:
        return max(0.0, self.machine.uptime - self.number(22) / _TICKS)

    @property
    def started(self) -> int:
        """Unix seconds."""
        return self.machine.booted + self.number(22) // _TICKS

    @property
    def resident(self) -> int:
        """Bytes; its status has them exactly, its stat does not."""
        return self.kilobytes("VmRSS") * 1024

    @property
    def pages(self) -> int:
        """Pages of its address space."""
        return self.number(23) // _PAGE

    @functools.cached_property
    def status(self) -> dict[str, str]:
        """The lines of proc_pid_status(5)."""
        pairs = (line.partition(":") for line in self.text("status").splitlines())
        return {key: value.strip() for key, _, value in pairs}

    def kilobytes(self, line: str) -> int:
        """A size in its status; 0 for a kernel thread and for one that has ended."""
        return int(self.status.get(line, "0 kB").split()[0])

    def ids(self, kind: str) -> list[int]:
        """Real, effective, saved and file system id; ``kind`` is Uid or Gid."""
        return [int(value) for value in self.status.get(kind, "0 0 0 0").split()]

    @functools.cached_property
    def words(self) -> list[bytes]:
        """Its command line."""
        return self._bytes("cmdline").rstrip(b"\0").split(b"\0")

    def command(self, *, name_only: bool = False) -> str:
        """The command line; the name in brackets when there is none, as of a kernel thread."""
        defunct = " <defunct>" if self.state == "Z" else ""
        if name_only:
            return self.name + defunct
        line = printable(b" ".join(self.words)).rstrip()
        return line or f"[{self.name}]{defunct}"

    def environment(self) -> str:
        return printable(self._bytes("environ").rstrip(b"\0").replace(b"\0", b" "))

    def text(self, name: str) -> str:
        """A file of its folder; empty when it cannot be read."""
        return self._bytes(name).decode("utf-8", "replace")

    def link(self, name: str) -> str:
        try:
            return os.readlink(f"{self._folder}/{name}")  # noqa: PTH115 -- text is what is wanted
        except OSError:
            return ""

    def threads(self) -> Iterator[Process]:
        """All its threads that are still there."""
        try:
            names = [entry.name for entry in Path(f"/proc/{self.pid}/task").iterdir()]
        except OSError:
            return
        for thread in sorted(map(int, names)):
            try:
                yield Process(self.machine, self.pid, thread)
            except OSError:
                continue

    def _bytes(self, name: str) -> bytes:
        try:
            with Path(self._folder, name).open("rb") as file:
                return file.read(_LIMIT)
        except OSError:
            return b""


def printable(data: bytes) -> str:
    """Text without what would move a terminal's cursor, for a process may call itself anything: as ps replaces it."""
    text = data.decode("utf-8", "replace").replace("\n", " ")
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)
