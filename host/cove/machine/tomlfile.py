"""TOML that people write: its values, where they stand, and what is wrong with it, each mistake on one line with its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.errors import SettingsError

MAX_FILE = 1 << 20
_LINE = re.compile(r"""\s*(?P<key>[A-Za-z0-9_-]+)\s*=\s*(?P<value>[^\s"'\[{#=,][^"'\[{#,]*?)\s*(?:#.*)?""")
_PLAIN = re.compile(r"true|false|[+-]?[0-9._]+")
"""Values that need no quotes; others have been meant as text."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a `key`, its `line` and `column` counted from 1, and what is `allowed` there."""

    key: str
    line: int
    column: int
    what: str
    allowed: str = ""

    def told(self, file: Path | str) -> str:
        return f"{file}:{self.line}:{self.column}: {self.what}"


def read(text: str, file: Path | str) -> dict[str, Any]:
    """The values of a file. Raises `SettingsError` for what is no TOML."""
    import tomli

    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        mistake = _explained(str(error), text)
    except RecursionError:
        mistake = Mistake("", 1, 1, "not valid TOML: nested too deeply")
    raise refusal(file, [mistake])


def refusal(file: Path | str, mistakes: Sequence[Mistake]) -> SettingsError:
    """The error that tells of them all, a line each, and how to go on."""
    allowed = f"allowed: {mistakes[0].allowed}\n" if len(mistakes) == 1 and mistakes[0].allowed else ""
    return SettingsError("\n".join(one.told(file) for one in mistakes), allowed + way_out(file))


def way_out(file: Path | str) -> str:
    """What to do about mistakes in a file."""
    from cove.machine.paths import MachinePaths, is_name

    if isinstance(file, Path) and is_name(name := file.parent.name):
        paths = MachinePaths(name)
        if file == paths.settings:
            return f"mend it with: cove config edit{paths.option}"
    return f"edit {file}"


def decoded(data: bytes, file: Path, kind: str) -> str:
    """The text of a file that somebody wrote, of which up to one byte more than `MAX_FILE` was read. Raises `SettingsError`."""
    if len(data) > MAX_FILE:
        raise SettingsError(f"{file} has over {MAX_FILE} bytes; {kind} is short")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise refusal(file, [Mistake("", line, column, "not UTF-8 text")]) from None


def place(text: str, key: str, *, of_value: bool = False) -> tuple[int, int]:
    """Line and column, counted from 1, of a top-level key or table, or of what is to the right of it."""
    name = re.escape(key)
    pattern = rf"""^[ \t]*(?:\[\[?[ \t]*)?(?P<key>{name}|"{name}"|'{name}')[ \t]*(?:=[ \t]*(?P<value>)|[.\]]|$)"""
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        return 1, 1
    at = match.start("value" if of_value and match["value"] is not None else "key")
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _explained(message: str, text: str) -> Mistake:
    """tomli's words ("Invalid value (at line 1, column 8)", "... (at end of document)"), in those of who wrote the file where
    it is clear what was meant."""
    lines = text.rstrip().splitlines() or [""]
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    what = match[1] if match else message
    if match is None or not match[2]:
        number, column = len(lines), len(lines[-1]) + 1
    else:
        number, column = int(match[2]), int(match[3])
    line = lines[number - 1] if number <= len(lines) else ""
    if "overwrite" in what or "twice" in what:
        return _there_twice(line, number, text)
    if (pair := _LINE.fullmatch(line)) and not _PLAIN.fullmatch(pair["value"]):
        return Mistake(pair["key"], number, pair.start("value") + 1, _unquoted(pair["key"], pair["value"]))
    return Mistake("", number, column, f"not valid TOML: {_in_words(what, line)}")


def _unquoted(key: str, value: str) -> str:
    if value.lower() in ("true", "false"):
        return f"true and false are written in small letters: {key} = {value.lower()}"
    from coved.outside import masked

    quotes, value = "'" if "\\" in value else '"', masked(value)
    return f"text is written in quotes: {key} = {quotes}{value}{quotes}"


def _there_twice(line: str, number: int, text: str) -> Mistake:
    """The second one of two."""
    key = re.match(r"""[\s\[]*["']?([^\s"'=.\]]*)""", line)
    name = key[1] if key else ""
    first, _ = place(text, name)
    before = f" before, on line {first}" if first < number else " already"
    return Mistake(
        name, number, len(line) - len(line.lstrip()) + 1, f"{name or 'this'} is there{before}: remove one of them"
    )


def _in_words(what: str, line: str) -> str:
    if what.startswith("Expected '=' after a key"):
        return "a line is KEY = VALUE"
    if "Illegal character '\\n'" in what or "Unterminated string" in what:
        return "quotes are opened and not closed"
    if "\\" in line and ("hex value" in what or "escape" in what.lower()):
        return "a backslash in double quotes begins an escape: use single quotes, '...'"
    if what == "Invalid value":
        return "a value is missing" if line.rstrip().endswith("=") else "this is no value; text is written in quotes"
    if what.startswith("Expected newline"):
        return "there is more on the line than KEY = VALUE"
    return what[:1].lower() + what[1:]
