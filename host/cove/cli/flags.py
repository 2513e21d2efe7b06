"""Command lines parsed as docker parses them (the conventions of the pflag library, which docker's users know by
heart).

They differ from what Python's parsers accept: `--tty=false`, `-p=80:80`, `-it`, switches with values, flags after
which everything belongs to the container, and the exact words of errors that scripts look for. Importing this costs a
millisecond.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from cove.cli.errors import CliError, UsageError

TRUE = {"1", "t", "T", "true", "TRUE", "True"}
FALSE = {"0", "f", "F", "false", "FALSE", "False"}


class Flag:
    """One option. `parse` turns its text into a value and raises `ValueError` with the reason; `kind` is the word in
    the help.
    """

    __slots__ = ("default", "help", "hidden", "kind", "many", "name", "parse", "short")

    def __init__(
        self,
        name: str,
        short: str = "",
        *,
        kind: str = "string",
        parse: Callable[[str], Any] = str,
        default: Any = None,
        many: bool = False,
        help: str = "",
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.parse = parse
        self.default = default
        self.many = many
        self.help = help
        self.hidden = hidden

    @property
    def shown(self) -> str:
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


def parse_bool(text: str) -> bool:
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def parse_uint(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def parse_uint16(text: str) -> int:
    value = parse_uint(text)
    if value >= 1 << 16:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return value


def switch(name: str, short: str = "", help: str = "", default: bool = False, hidden: bool = False) -> Flag:
    return Flag(name, short, kind="", parse=parse_bool, default=default, help=help, hidden=hidden)


def text(name: str, short: str = "", help: str = "", default: str = "", kind: str = "string") -> Flag:
    return Flag(name, short, kind=kind, default=default, help=help)


def integer(name: str, short: str = "", help: str = "", default: int = 0) -> Flag:
    return Flag(name, short, kind="int", parse=parse_int, default=default, help=help)


def several(
    name: str,
    short: str = "",
    help: str = "",
    parse: Callable[[str], Any] = str,
    kind: str = "list",
    hidden: bool = False,
) -> Flag:
    return Flag(name, short, kind=kind, parse=parse, default=(), many=True, help=help, hidden=hidden)


def filter_pair(text: str) -> str:
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text


def filters_flag(short: str = "f", help: str = "Filter output based on conditions provided") -> Flag:
    return several("filter", short, help, filter_pair, "filter")


def format_flag(short: str = "", *, tables: bool = True) -> Flag:
    """--format of a command that prints objects; with `tables` of one that lists them."""
    return text(
        "format",
        short,
        "Format output using a custom template:\n"
        + (
            "'table':            Print output in table format with column headers (default)\n"
            "'table TEMPLATE':   Print output in table format using the given Go template\n"
            if tables
            else ""
        )
        + "'json':             Print in JSON format\n"
        "'TEMPLATE':         Print output using the given Go template.\n"
        "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates",
    )


def platform_flag() -> Flag:
    """--platform of a command that is about one platform; DOCKER_DEFAULT_PLATFORM is docker's own variable."""
    preset = os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    return text("platform", "", "Set platform if server is multi-platform capable", preset)


class Values:
    """What a command line said: `values["name"]`, `values.changed("name")`, `values.args`."""

    __slots__ = ("_set", "_values", "args")

    def __init__(self, flags: Iterable[Flag]) -> None:
        self._values: dict[str, Any] = {flag.name: list(flag.default) if flag.many else flag.default for flag in flags}
        self._set: set[str] = set()
        self.args: list[str] = []

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def changed(self, name: str) -> bool:
        """Whether the user gave the flag, with whatever value."""
        return name in self._set

    def put(self, flag: Flag, raw: str) -> None:
        try:
            value = flag.parse(raw)
        except ValueError as error:
            raise UsageError(f'invalid argument "{raw}" for "{flag.shown}" flag: {error}') from None
        if flag.many:
            self._values[flag.name].append(value)
        else:
            self._values[flag.name] = value
        self._set.add(flag.name)


class HelpAsked(Exception):
    """--help stands on the command line."""


def parse(argv: Sequence[str], flags: Sequence[Flag], *, interspersed: bool = True) -> Values:
    """Parse `argv`. Without `interspersed` the first argument ends the flags. Raises `UsageError`, and `HelpAsked`
    for --help.
    """
    long = {flag.name: flag for flag in flags}
    short = {flag.short: flag for flag in flags if flag.short}
    values = Values(flags)
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            values.args += rest
            break
        if word.startswith("--"):
            _long(word, rest, long, values)
        elif word.startswith("-") and word != "-":
            _short(word, rest, short, values)
        else:
            values.args.append(word)
            if not interspersed:
                values.args += rest
                break
    return values


def _long(word: str, rest: list[str], known: dict[str, Flag], values: Values) -> None:
    name, equals, value = word[2:].partition("=")
    if name == "help":
        raise HelpAsked
    flag = known.get(name)
    if flag is None:
        raise UsageError(f"unknown flag: --{name}")
    if equals:
        values.put(flag, value)
    elif not flag.kind:
        values.put(flag, "true")
    elif rest:
        values.put(flag, rest.pop(0))
    else:
        raise UsageError(f"flag needs an argument: --{name}")


def _short(word: str, rest: list[str], known: dict[str, Flag], values: Values) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = known.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpAsked
            raise UsageError(f"unknown shorthand flag: '{letter}' in -{letter}{letters}")
        if letters.startswith("=") and len(letters) > 1:
            values.put(flag, letters[1:])
            return
        if not flag.kind:
            values.put(flag, "true")
        elif letters:
            values.put(flag, letters)
            return
        elif rest:
            values.put(flag, rest.pop(0))
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in -{letter}")


_EMPTY = {"map": " (default map[])", "ulimit": " (default [])", "duration": " (default 0s)"}
"""What docker shows of flags whose default is nothing but which do not know that themselves."""


def describe(flags: Iterable[Flag], width: int = 80) -> str:
    """The "Options:" section of a help text on a terminal of `width` columns."""
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden:
            continue
        left = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.kind:
            left += f" {flag.kind}"
        note = flag.help
        if flag.default is True:
            note += " (default true)"
        elif isinstance(flag.default, str) and flag.default:
            note += f' (default "{flag.default}")'
        elif isinstance(flag.default, int) and flag.default not in (0, False):
            note += f" (default {flag.default})"
        else:
            note += _EMPTY.get(flag.kind, "")
        rows.append((left, note))
    column = max((len(left) for left, _ in rows), default=0) + 3
    return "\n".join(f"{left:<{column}}{wrap(note, column, width - 1)}".rstrip() for left, note in rows)


LEAST_WIDTH = 24
"""Of a wrapped text; with less room it starts on a line of its own, and with still less it is not wrapped."""
SLOP = 5
"""By how much a last line may be longer, lest it leave a word alone on another."""


def wrap(text: str, column: int, width: int) -> str:
    """`text`, which begins at `column`, in lines of at most `width` columns, as pflag wraps help texts: by words, and
    up to `SLOP` columns short of the width unless all that is left fits into it.
    """
    head = ""
    if width - column < LEAST_WIDTH:
        column = 16
        head = "\n" + " " * column
        if width - column < LEAST_WIDTH:
            return text.replace("\n", head)
    room = width - column - SLOP
    lines = []
    while True:
        line, text = _first_line(text, room)
        lines.append(line)
        if not text:
            break
    return head + "\n".join(lines).replace("\n", "\n" + " " * column)


def _first_line(text: str, room: int) -> tuple[str, str]:
    if room + SLOP > len(text):
        return text, ""
    cut = max(text.rfind(blank, 0, room) for blank in " \t\n")
    if cut <= 0:
        return text, ""
    newline = text.rfind("\n", 0, room)
    if 0 < newline < cut:
        cut = newline
    return text[:cut], text[cut + 1 :]


def one_of(name: str, given: str, known: Collection[str]) -> str:
    """The value of a flag of Cove's own that takes these words. Raises `CliError`."""
    if given not in known:
        raise CliError(f"cove: unknown --{name}: {given}: it must be one of {', '.join(known)}")
    return given
