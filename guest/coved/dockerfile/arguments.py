"""An instruction's line taken apart: its keyword, its flags, and the rest in the form its keyword wants."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.text import SPACE, quote

_BLANKS = re.compile(r"[\t\v\f\r ]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def split_line(line: str, escape: str) -> tuple[str, list[str], str]:
    """The keyword as it is written, the flags, and the rest."""
    keyword, *rest = _BLANKS.split(line.strip(SPACE), maxsplit=1)
    if not rest:
        return keyword, [], ""
    flags, end = _flags(rest[0], escape)
    return keyword, flags, rest[0][end:].strip(SPACE)


def _flags(text: str, escape: str) -> tuple[list[str], int]:
    """Words that begin with ``--``, without their quotes, and where the others begin."""
    flags: list[str] = []
    position, length = 0, len(text)
    while True:
        while position < length and text[position] in SPACE:
            position += 1
        if not text.startswith("--", position):
            return flags, position
        flag: list[str] = []
        quoted, blank = "", False
        while position < length and (quoted or text[position] not in SPACE):
            char = text[position]
            position += 1
            if char == quoted:
                quoted = ""
            elif not quoted and char in "'\"":
                quoted, blank = char, True
            elif char != escape:
                flag.append(char)
            elif position < length:
                flag.append(text[position])
                position += 1
        word = "".join(flag)
        if word == "--":
            return flags, position
        if word or blank:
            flags.append(word)


def by_blanks(text: str) -> list[str]:
    return _BLANKS.split(text) if text else []


def words(text: str, escape: str) -> list[str]:
    """Words between spaces; quotes hold words together, and they and escapes stay where they are."""
    found: list[str] = []
    word: list[str] = []
    quoted = ""
    position, length = 0, len(text)
    while position < length:
        char = text[position]
        position += 1
        if not quoted and char in SPACE:
            if word:
                found.append("".join(word))
                word = []
            continue
        if char == escape and quoted != "'":
            if position == length:
                break
            word += [char, text[position]]
            position += 1
            continue
        if quoted:
            quoted = "" if char == quoted else quoted
        elif char in "'\"":
            quoted = char
        word.append(char)
    if word:
        found.append("".join(word))
    return found


def pairs(text: str, keyword: str, escape: str) -> tuple[list[tuple[str, str]], bool]:
    """``name=value``s, and whether it was one in the old form, ``name the value``; raises ``DockerfileError``."""
    found = words(text, escape)
    if not found:
        return [], False
    if "=" not in found[0]:
        parts = _BLANKS.split(text, maxsplit=1)
        if len(parts) < 2:
            raise DockerfileError(f"{keyword} must have two arguments")
        return [(parts[0], parts[1])], True
    result = []
    for word in found:
        name, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value")
        result.append((name, value))
    return result, False


def exec_form(text: str) -> list[str] | None:
    """The words of a JSON array, None when it is no JSON array; raises ``DockerfileError`` when it holds anything else."""
    text = text.lstrip(SPACE)
    if not text.startswith("["):
        return None
    try:
        value: Any = json.loads(text, parse_constant=_no_constant, parse_int=float)
    except RecursionError:
        value = [[]]
    except ValueError:
        return None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only")
    return [_SURROGATE.sub("�", word) for word in value]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
