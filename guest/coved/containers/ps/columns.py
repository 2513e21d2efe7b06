"""The columns of ps: the names that ``-o`` knows, their titles, and how each is read from a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coved.containers.ps.process import Process

Cell = Callable[[Process], str]
_CLASSES = {0: "TS", 1: "FF", 2: "RR", 3: "B", 4: "ISO", 5: "IDL", 6: "DLN"}
_REAL_TIME = (1, 2)
_DAY = 86400


@dataclass(frozen=True)
class Column:
    """``width``: where a cell is cut, 0 for never."""

    name: str
    title: str
    cell: Cell
    width: int = 0

    def of(self, process: Process, *, last: bool = False) -> str:
        """Its cell; that of a line's last column has all the room there is."""
        text = self.cell(process)
        if last or not self.width or len(text) <= self.width:
            return text
        if self.name in _ACCOUNTS:  # told to be cut
            return f"{text[: self.width - 1]}+"
        return text[: self.width]


def _clock(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day}-{hour:02}:{minute:02}:{second:02}" if day else f"{hours:02}:{minute:02}:{second:02}"


def _elapsed(process: Process) -> str:
    text = _clock(int(process.age_s))
    return text.removeprefix("00:")


def _bsd_time(process: Process) -> str:
    minutes, seconds = divmod(int(process.used_s), 60)
    return f"{minutes}:{seconds:02}"


def _started(today: str, before: str) -> Cell:
    """The time of a start within the last day, the day of an earlier one."""

    def cell(process: Process) -> str:
        return time.strftime(today if process.age_s < _DAY else before, time.localtime(process.started)).strip()

    return cell


def _stime(process: Process) -> str:
    started, now = time.localtime(process.started), time.localtime(process.machine.now)
    if started.tm_year != now.tm_year:
        return time.strftime("%Y", started)
    return time.strftime("%H:%M" if started.tm_yday == now.tm_yday else "%b%d", started)


def _processor(process: Process, parts: int) -> int:
    return int(process.used_s * parts / process.age_s) if process.age_s else 0


def _percent(thousandths: int) -> str:
    return str(thousandths // 10) if thousandths > 999 else f"{thousandths // 10}.{thousandths % 10}"


def _stat(process: Process) -> str:
    session, foreground, group = process.number(6), process.number(8), process.number(5)
    nice = process.number(19)
    return (
        process.state
        + ("<" if nice < 0 else "N" if nice > 0 else "")
        + ("L" if process.status.get("VmLck", "0 kB") != "0 kB" else "")
        + ("s" if session == process.pid else "")
        + ("l" if process.number(20) > 1 else "")
        + ("+" if foreground == group else "")
    )


def _terminal(process: Process) -> str:
    """The controlling terminal, by the numbers of the kernel's admin-guide/devices.txt."""
    device = process.number(7)
    major, minor = (device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xFFF00)
    if 136 <= major <= 143:
        return f"pts/{minor + (major - 136) * 256}"
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    return {(5, 0): "tty", (5, 1): "console", (204, 64): "ttyAMA0", (229, 0): "hvc0"}.get((major, minor), "?")


def _wait_channel(process: Process) -> str:
    name = process.text("wchan").strip()
    return name if name not in ("", "0") else "-"


def _cgroups(process: Process) -> str:
    return ",".join(line for line in process.text("cgroup").split() if not line.endswith(":/")) or "-"


def _label(process: Process) -> str:
    return process.text("attr/current").strip("\0\n ") or "-"


def _nice(process: Process) -> str:
    return "-" if process.number(41) in _REAL_TIME else str(process.number(19))


def _real_time_priority(process: Process) -> str:
    return str(process.number(40)) if process.number(41) in _REAL_TIME else "-"


def _namespace(kind: str) -> Cell:
    return lambda process: process.link(f"ns/{kind}").partition("[")[2].rstrip("]") or "-"


def _field(number: int) -> Cell:
    return lambda process: str(process.number(number))


def _signals(*lines: str) -> Cell:
    return lambda process: f"{sum(int(process.status.get(line, '0'), 16) for line in lines):016x}"


def _hexadecimal(number: int) -> Cell:
    return lambda process: f"{process.number(number):016x}"


def _id(kind: str, which: int) -> Cell:
    return lambda process: str(process.ids(kind)[which])


def _user(which: int) -> Cell:
    return lambda process: process.machine.user(process.ids("Uid")[which])


def _group(which: int) -> Cell:
    return lambda process: process.machine.group(process.ids("Gid")[which])


def _groups(process: Process) -> str:
    names = [process.machine.group(int(gid)) for gid in process.status.get("Groups", "").split()]
    return ",".join(names) or "-"


def _text_size(process: Process) -> int:
    return max(0, process.number(27) - process.number(26))


def _pid(process: Process) -> str:
    return str(process.pid)


def _thread(process: Process) -> str:
    return str(process.thread)


def _name(process: Process) -> str:
    return process.command(name_only=True)


def _command(process: Process) -> str:
    return process.command()


def _cpu_percent(process: Process) -> str:
    return _percent(_processor(process, 1000))


def _memory_percent(process: Process) -> str:
    return _percent(min(999, process.resident * 1000 // process.machine.memory))


def _resident(process: Process) -> str:
    return str(process.resident // 1024)


def _virtual(process: Process) -> str:
    return str(process.number(23) // 1024)


def _time(process: Process) -> str:
    return _clock(int(process.used_s))


def _seconds(process: Process) -> str:
    return str(int(process.used_s))


_SPECIFIERS: dict[str, tuple[str, Cell]] = {
    # Ids
    "pid": ("PID", _pid), "tgid": ("TGID", _pid), "ppid": ("PPID", _field(4)), "pgid": ("PGID", _field(5)),
    "pgrp": ("PGRP", _field(5)), "sid": ("SID", _field(6)), "sess": ("SESS", _field(6)),
    "session": ("SESS", _field(6)), "tpgid": ("TPGID", _field(8)), "lwp": ("LWP", _thread), "spid": ("SPID", _thread),
    "tid": ("TID", _thread), "nlwp": ("NLWP", _field(20)), "thcount": ("THCNT", _field(20)),
    # Who
    "uid": ("UID", _id("Uid", 1)), "euid": ("EUID", _id("Uid", 1)), "ruid": ("RUID", _id("Uid", 0)),
    "suid": ("SUID", _id("Uid", 2)), "svuid": ("SVUID", _id("Uid", 2)), "fuid": ("FUID", _id("Uid", 3)),
    "fsuid": ("FSUID", _id("Uid", 3)), "gid": ("GID", _id("Gid", 1)), "egid": ("EGID", _id("Gid", 1)),
    "rgid": ("RGID", _id("Gid", 0)), "sgid": ("SGID", _id("Gid", 2)), "svgid": ("SVGID", _id("Gid", 2)),
    "fgid": ("FGID", _id("Gid", 3)), "fsgid": ("FSGID", _id("Gid", 3)),
    "user": ("USER", _user(1)), "uname": ("USER", _user(1)), "euser": ("EUSER", _user(1)), "ruser": ("RUSER", _user(0)),
    "suser": ("SUSER", _user(2)), "svuser": ("SVUSER", _user(2)), "fuser": ("FUSER", _user(3)),
    "fsuser": ("FSUSER", _user(3)), "group": ("GROUP", _group(1)), "egroup": ("EGROUP", _group(1)),
    "rgroup": ("RGROUP", _group(0)), "sgroup": ("SGROUP", _group(2)), "svgroup": ("SVGROUP", _group(2)),
    "fgroup": ("FGROUP", _group(3)), "fsgroup": ("FSGROUP", _group(3)),
    "supgid": ("SUPGID", lambda process: ",".join(process.status.get("Groups", "").split()) or "-"),
    "supgrp": ("SUPGRP", _groups),
    # What
    "args": ("COMMAND", _command), "command": ("COMMAND", _command), "cmd": ("CMD", _command),
    "comm": ("COMMAND", _name), "ucomm": ("COMMAND", _name), "ucmd": ("CMD", _name),
    "fname": ("COMMAND", lambda process: process.name[:8]), "exe": ("EXE", lambda process: process.link("exe") or "-"),
    "label": ("LABEL", _label), "context": ("CONTEXT", _label), "cgroup": ("CGROUP", _cgroups),
    # State and scheduling
    "s": ("S", lambda process: process.state), "state": ("S", lambda process: process.state), "stat": ("STAT", _stat),
    "f": ("F", lambda process: f"{process.number(9) >> 6 & 7:o}"),
    "flag": ("F", lambda process: f"{process.number(9) >> 6 & 7:o}"),
    "flags": ("F", lambda process: f"{process.number(9) >> 6 & 7:o}"),
    "pri": ("PRI", lambda process: str(39 - process.number(18))),
    "opri": ("PRI", lambda process: str(60 + process.number(18))),
    "intpri": ("PRI", lambda process: str(60 + process.number(18))), "priority": ("PRI", _field(18)),
    "ni": ("NI", _nice), "nice": ("NI", _nice), "rtprio": ("RTPRIO", _real_time_priority),
    "cls": ("CLS", lambda process: _CLASSES.get(process.number(41), "?")),
    "class": ("CLS", lambda process: _CLASSES.get(process.number(41), "?")),
    "policy": ("POL", lambda process: _CLASSES.get(process.number(41), "?")), "sched": ("SCH", _field(41)),
    "psr": ("PSR", _field(39)), "cpuid": ("CPUID", _field(39)), "wchan": ("WCHAN", _wait_channel),
    "wname": ("WCHAN", _wait_channel), "addr": ("ADDR", lambda process: "-"),
    "oom": ("OOM", lambda process: process.text("oom_score").strip() or "-"),
    "oomadj": ("OOMADJ", lambda process: process.text("oom_score_adj").strip() or "-"),
    # Time
    "time": ("TIME", _time), "cputime": ("TIME", _time), "atime": ("TIME", _time), "bsdtime": ("TIME", _bsd_time),
    "times": ("TIME", _seconds), "cputimes": ("TIME", _seconds), "etime": ("ELAPSED", _elapsed),
    "etimes": ("ELAPSED", lambda process: str(int(process.age_s))), "stime": ("STIME", _stime),
    "start_time": ("START", _stime), "bsdstart": ("START", _started("%H:%M", "%b %d")),
    "start": ("STARTED", _started("%H:%M:%S", "%b %d")),
    "lstart": ("STARTED", lambda process: time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(process.started))),
    "c": ("C", lambda process: str(min(99, _processor(process, 100)))),
    "util": ("C", lambda process: str(min(99, _processor(process, 100)))),
    "cp": ("CP", lambda process: str(min(999, _processor(process, 1000)))),
    "pcpu": ("%CPU", _cpu_percent), "%cpu": ("%CPU", _cpu_percent),
    # Memory
    "pmem": ("%MEM", _memory_percent), "%mem": ("%MEM", _memory_percent), "rss": ("RSS", _resident),
    "rssize": ("RSS", _resident), "rsz": ("RSZ", _resident), "vsz": ("VSZ", _virtual), "vsize": ("VSZ", _virtual),
    "sz": ("SZ", lambda process: str(process.pages)),
    "size": ("SIZE", lambda process: str(process.kilobytes("VmData") + process.kilobytes("VmStk"))),
    "trs": ("TRS", lambda process: str(_text_size(process) // 1024)),
    "drs": ("DRS", lambda process: str(max(0, process.number(23) - _text_size(process)) // 1024)),
    "min_flt": ("MINFL", _field(10)), "minflt": ("MINFLT", _field(10)), "maj_flt": ("MAJFL", _field(12)),
    "majflt": ("MAJFLT", _field(12)), "pagein": ("PAGEIN", _field(12)),
    # Terminals
    "tname": ("TTY", _terminal), "tty": ("TT", _terminal), "tt": ("TT", _terminal), "tty4": ("TTY", _terminal),
    "tty8": ("TTY", _terminal), "longtname": ("TTY", _terminal),
    # Signals, registers and namespaces
    "pending": ("PENDING", _signals("ShdPnd")), "sig": ("PENDING", _signals("ShdPnd")),
    "blocked": ("BLOCKED", _signals("SigBlk")), "sigmask": ("BLOCKED", _signals("SigBlk")),
    "ignored": ("IGNORED", _signals("SigIgn")), "sigignore": ("IGNORED", _signals("SigIgn")),
    "caught": ("CAUGHT", _signals("SigCgt")), "sigcatch": ("CAUGHT", _signals("SigCgt")),
    "stackp": ("STACKP", _hexadecimal(28)), "esp": ("ESP", _hexadecimal(29)), "eip": ("EIP", _hexadecimal(30)),
    "cgroupns": ("CGROUPNS", _namespace("cgroup")), "ipcns": ("IPCNS", _namespace("ipc")),
    "mntns": ("MNTNS", _namespace("mnt")), "netns": ("NETNS", _namespace("net")),
    "pidns": ("PIDNS", _namespace("pid")), "timens": ("TIMENS", _namespace("time")),
    "userns": ("USERNS", _namespace("user")), "utsns": ("UTSNS", _namespace("uts")),
}  # fmt: skip

_ACCOUNTS = frozenset(name for name in _SPECIFIERS if name.endswith(("user", "group", "uname")) and name != "cgroup")
_WIDTHS = {**dict.fromkeys(_ACCOUNTS, 8), "wchan": 6, "wname": 6}
COMMANDS = frozenset({"args", "command", "cmd"})
"""The columns of command lines, which some options change."""
_ORDERED = frozenset({"comm", "ucomm", "ucmd", "args", "command", "cmd", "fname", "exe", *_ACCOUNTS})


def column(name: str, title: str | None = None, width: int | None = None) -> Column | None:
    """The column that ``-o name`` means; None when ps has no such, or this one has not."""
    known = _SPECIFIERS.get(name)
    if known is None:
        return None
    return Column(
        name, known[0] if title is None else title, known[1], _WIDTHS.get(name, 0) if width is None else width
    )


def sort_key(name: str) -> Callable[[Process], Any] | None:
    """How ``--sort name`` compares processes; None for what cannot be sorted by."""
    times: dict[str, Callable[[Process], Any]] = {
        **dict.fromkeys(("time", "cputime", "atime", "bsdtime", "times", "cputimes"), lambda process: process.used_s),
        **dict.fromkeys(("pcpu", "%cpu", "c", "cp", "util"), lambda process: process.used_s / max(process.age_s, 1)),
        **dict.fromkeys(("etime", "etimes"), lambda process: process.age_s),
        **dict.fromkeys(("start", "start_time", "stime", "lstart", "bsdstart"), lambda process: process.started),
        **dict.fromkeys(("pmem", "%mem"), lambda process: process.resident),
    }
    known = _SPECIFIERS.get(name)
    if name in times or known is None:
        return times.get(name)
    cell = known[1]
    if name in _ORDERED:
        return cell

    def number(process: Process) -> tuple[float, str]:
        text = cell(process)
        return (float(text), "") if text.lstrip("-").replace(".", "", 1).isdecimal() else (0.0, text)

    return number
