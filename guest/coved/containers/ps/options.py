"""The command line of ps: options with a dash (Unix), without one (BSD), and long ones (GNU)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coved.containers.ps.columns import COMMANDS, Column, column, sort_key
from coved.containers.ps.process import Process


class PsError(Exception):
    """What ps would say on its first line."""


@dataclass
class Listing:
    """What to list of the processes, and how."""

    columns: list[Column] = field(default_factory=list)
    header: bool = True
    threads: bool = False
    """A line for every thread."""
    tree: bool = False
    chosen: list[Callable[[Process], bool]] = field(default_factory=list)
    """Any of them lets a process in; all come in when there are none."""
    running_only: bool = False
    order: list[tuple[Callable[[Process], Any], bool]] = field(default_factory=list)
    """Keys to sort by, the first counts most; True for descending."""


_BSD_FORMATS = {
    "u": "user pid %cpu %mem vsz rss tname stat bsdstart bsdtime args",
    "l": "f uid pid ppid priority ni vsz rss wchan stat tname bsdtime args",
    "j": "ppid pid pgid sid tname tpgid stat uid bsdtime args",
    "v": "pid tname stat bsdtime maj_flt trs drs rss %mem args",
    "s": "uid pid pending blocked ignored caught stat tname bsdtime args",
}
_BSD_DEFAULT = "pid tname stat bsdtime args"
_BSD_MODIFIERS = frozenset("acefghnrwxHSZ")
_ITEM = re.compile(r"(?P<name>[^:=]+)(?::(?P<width>\d+))?(?:=(?P<title>.*))?")
_UNSUPPORTED = "error: {} is not supported here: the engine reads /proc itself, as ps does for -ef, aux and -o"


def parse(words: Sequence[str]) -> Listing:
    """What ``words`` ask for. Raises PsError."""
    return _Parser(words).parse()


class _Parser:
    def __init__(self, words: Sequence[str]) -> None:
        self._rest = list(words)
        self._listing = Listing()
        self._unix: set[str] = set()
        """Letters that choose a Unix format: f F l y j c P M L T."""
        self._bsd: set[str] = set()
        self._own: list[Column] = []
        self._inserted: list[Column] = []
        self._bsd_style = False
        self._name_only = self._environment = self._numeric = self._label = False

    def parse(self) -> Listing:
        while self._rest:
            word = self._rest.pop(0)
            if word.startswith("--") and len(word) > 2:
                self._long(word[2:])
            elif word.startswith("-") and word not in ("-", "--"):
                self._dashed(word[1:])
            elif word and word[0].isalpha():
                self._bsd_word(word)
            elif word.isdecimal() or "," in word:
                self._bsd_style = True
                self._choose("pid", word)
            else:
                raise PsError("error: garbage option")
        listing = self._listing
        listing.columns = [self._adapted(one) for one in self._format()]
        return listing

    # -- the three kinds of options

    def _dashed(self, letters: str) -> None:
        left = len(self._rest)
        try:
            self._unix_word(letters)
        except PsError:
            # "-aux" is no Unix option, and means "aux".
            if len(self._rest) < left or not set(letters) <= {*_BSD_FORMATS, *_BSD_MODIFIERS}:
                raise
            self._bsd_word(letters)

    def _unix_word(self, letters: str) -> None:
        before = set(self._unix), self._listing.threads, list(self._listing.chosen)
        try:
            self._unix_letters(letters)
        except PsError:
            self._unix, self._listing.threads, self._listing.chosen = before
            raise

    def _unix_letters(self, letters: str) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in "fFlyjcPM":
                self._unix.add(letter)
            elif letter in "Aeadw":
                continue  # the container's processes are chosen already
            elif letter == "Z":
                self._label = True
            elif letter in "LT":
                self._unix.add(letter)
                self._listing.threads = True
            elif letter == "H":
                self._listing.tree = True
            elif letter in "oOpqCuUgGt":
                self._with_argument(letter, letters)
                return
            elif letter in "mNnsV":
                raise PsError(_UNSUPPORTED.format(f"-{letter}"))
            else:
                raise PsError("error: unsupported SysV option")

    def _with_argument(self, letter: str, attached: str) -> None:
        if letter == "o":
            self._own += _user_format(self._argument(attached, "format specification must follow -o"))
        elif letter == "O":
            self._inserted += _user_format(self._argument(attached, "format or sort specification must follow -O"))
        elif letter in "pq":
            self._choose("pid", self._argument(attached, f"list of process IDs must follow -{letter}"))
        elif letter == "C":
            self._choose("comm", self._argument(attached, "list of command names must follow -C"))
        elif letter in "uU":
            kind = "euid" if letter == "u" else "ruid"
            self._choose(kind, self._argument(attached, f"list of users must follow -{letter}"))
        else:
            raise PsError(_UNSUPPORTED.format(f"-{letter}"))

    def _bsd_word(self, letters: str) -> None:
        self._bsd_style = True
        listing = self._listing
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _BSD_FORMATS:
                if self._bsd - {letter}:
                    raise PsError("error: conflicting format options")
                self._bsd.add(letter)
            elif letter in "axgwS":
                continue
            elif letter == "r":
                listing.running_only = True
            elif letter == "h":
                listing.header = False
            elif letter == "c":
                self._name_only = True
            elif letter == "e":
                self._environment = True
            elif letter == "n":
                self._numeric = True
            elif letter == "Z":
                self._label = True
            elif letter == "f":
                listing.tree = True
            elif letter == "H":
                listing.threads = True
            elif letter == "o":
                self._own += _user_format(self._argument(letters, "format specification must follow o"))
                return
            elif letter in "pq":
                self._choose("pid", self._argument(letters, f"list of process IDs must follow {letter}"))
                return
            elif letter == "U":
                self._choose("euid", self._argument(letters, "list of users must follow U"))
                return
            elif letter == "k":
                self._sort(self._argument(letters, "long sort specification must follow 'k'"))
                return
            elif letter in "mtTLVXON":
                raise PsError(_UNSUPPORTED.format(f"'{letter}'"))
            else:
                raise PsError("error: unsupported option (BSD syntax)")

    def _long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        listing = self._listing
        attached = value if equals else ""
        if name in ("no-headers", "no-heading", "no-headings", "noheader", "noheaders", "noheading", "noheadings"):
            listing.header = False
        elif name in ("headers", "headings", "cumulative", "deselect"):
            if name == "deselect":
                raise PsError(_UNSUPPORTED.format("--deselect"))
        elif name == "forest":
            listing.tree = True
        elif name == "context":
            self._label = True
        elif name in ("cols", "columns", "width", "lines", "rows"):
            self._argument(attached, "number of columns must follow --cols, --width, or --columns")
        elif name == "sort":
            self._sort(self._argument(attached, "long sort specification must follow --sort"))
        elif name == "format":
            self._own += _user_format(self._argument(attached, "format specification must follow --format"))
        elif name in ("pid", "quick-pid"):
            self._choose("pid", self._argument(attached, f"list of process IDs must follow --{name}"))
        elif name == "ppid":
            self._choose("ppid", self._argument(attached, "list of process IDs must follow --ppid"))
        elif name in ("user", "User"):
            kind = "euid" if name == "user" else "ruid"
            self._choose(kind, self._argument(attached, f"list of users must follow --{name}"))
        elif name in ("group", "Group", "tty", "sid", "signames", "info", "help", "version"):
            raise PsError(_UNSUPPORTED.format(f"--{name}"))
        else:
            raise PsError("error: unknown gnu long option")

    def _argument(self, attached: str, complaint: str) -> str:
        if attached:
            return attached
        if not self._rest:
            raise PsError(f"error: {complaint}")
        return self._rest.pop(0)

    # -- which processes, in what order

    def _choose(self, kind: str, text: str) -> None:
        wanted = set(filter(None, re.split(r"[, \t]+", text)))
        if not wanted:
            raise PsError("error: improper list")
        if kind == "comm":
            self._listing.chosen.append(lambda process: process.name in wanted)
            return
        numbers = {_uid(one) if kind in ("euid", "ruid") else _number(one) for one in wanted}
        values: dict[str, Callable[[Process], int]] = {
            "pid": lambda process: process.pid,
            "ppid": lambda process: process.parent,
            "euid": lambda process: process.ids("Uid")[1],
            "ruid": lambda process: process.ids("Uid")[0],
        }
        value = values[kind]
        self._listing.chosen.append(lambda process: value(process) in numbers)

    def _sort(self, text: str) -> None:
        for one in text.split(","):
            key = sort_key(one.lstrip("+-"))
            if key is None:
                raise PsError("error: unknown sort specifier")
            self._listing.order.append((key, one.startswith("-")))

    # -- which columns

    def _format(self) -> list[Column]:
        if self._own:
            if self._bsd or self._unix & set("jlF"):
                raise PsError("error: conflicting format options")
            return self._own
        if self._bsd and self._unix - set("LT"):
            raise PsError("error: conflicting format options")
        if {"L", "T"} <= self._unix:
            raise PsError("error: thread flags conflict; can't use both -L and -T")
        if "y" in self._unix and "l" not in self._unix:
            raise PsError("error: modifier -y without format -l makes no sense")
        names = _BSD_FORMATS[min(self._bsd)].split() if self._bsd else self._unix_names()
        if "T" in self._unix:
            names.insert(names.index("pid") + 1, "spid")
        if "L" in self._unix:
            at = "sid" if "sid" in names else "ppid" if "ppid" in names else "pid"
            names.insert(names.index(at) + 1, "lwp")
            if "f" in self._unix or "F" in self._unix:
                names.insert(names.index("c") + 1, "nlwp")
        if self._label or "M" in self._unix:
            names.insert(0, "label")
        columns = [_known(name) for name in names]
        if columns[0].name == "user" and self._unix & set("fF"):
            columns[0] = replace(columns[0], title="UID")
        return [replace(one, title="UID") if one.name == "user" and self._unix else one for one in columns]

    def _unix_names(self) -> list[str]:
        """The columns of the Unix formats, as their letters add up."""
        letters = self._unix
        full, long, jobs = bool(letters & {"f", "F"}), "l" in letters, "j" in letters
        if self._inserted:
            return ["pid", *(one.name for one in self._inserted), "s", "tname", "time", "args"]
        if not (full or long or jobs or "c" in letters or "P" in letters):
            return (_BSD_DEFAULT if self._bsd_style else "pid tname time ucmd").split()
        names: list[str] = []
        if long:
            names += ["s"] if "y" in letters else ["f", "s"]
        if full or long:
            names += ["user" if full else "uid", "pid", "ppid"]
        else:
            names += ["pid"]
        names += ["pgid", "sid"] if jobs else []
        names += ["psr"] if "P" in letters else []
        if "c" in letters:
            names += ["cls", "pri"]
        elif full or long:
            names += ["c"]
        if long:
            names += [] if "c" in letters else ["opri", "ni"]
            names += ["rss", "sz", "wchan"] if "y" in letters else ["addr", "sz", "wchan"]
        if "F" in letters:
            names += [*([] if long else ["sz"]), *([] if "y" in letters and long else ["rss"])]
            names += [] if "P" in letters else ["psr"]
        names += ["stime"] if full else []
        if self._bsd_style:
            command = "cmd" if full else "ucmd" if long else "args"
            return [*names, "tname", *([] if long else ["stat"]), "bsdtime", command]
        return [*names, "tname", "time", "cmd" if full else "ucmd"]

    def _adapted(self, one: Column) -> Column:
        """What ``c``, ``e`` and ``n`` change."""
        if one.name in COMMANDS and self._name_only:
            return replace(one, cell=lambda process: process.command(name_only=True))
        if one.name in COMMANDS and self._environment:
            return replace(one, cell=lambda process: f"{process.command()} {process.environment()}".rstrip())
        if one.name == "user" and self._numeric:
            return replace(one, cell=_known("uid").cell)
        return one


def _user_format(text: str) -> list[Column]:
    """The argument of ``-o``: names with a comma or a space between them, each with a ``:width`` and a ``=TITLE``."""
    columns = []
    for item in re.split(r"[,\s]", text):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise PsError("error: improper format list")
        width = min(int(match["width"][:9]), 1 << 16) if match["width"] else None
        if width == 0:
            raise PsError("error: column widths must be unsigned decimal numbers")
        found = column(match["name"], match["title"], width)
        if found is None:
            raise PsError(f'error: unknown user-defined format specifier "{match["name"]}"')
        columns.append(found)
    return columns


def _known(name: str) -> Column:
    found = column(name)
    assert found is not None
    return found


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 10:
        raise PsError("error: process ID list syntax error")
    return int(text)


def _uid(text: str) -> int:
    if text.isdecimal() and len(text) <= 10:
        return int(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise PsError("error: user name does not exist") from None
