"""Regular expressions in Go's syntax (RE2), rewritten for Python's ``re``. Errors are those of Go's regexp/syntax.

Python's engine backtracks: run the result only where it can be stopped.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""\\Q(?P<quoted>.*?)(?:\\E|$)|(?P<escape>\\(?:[pP](?:\{[^}]*\}|.)|x\{[0-9A-Fa-f]+\}|.|$))|(?P<group>\((?:\?[^:)>]*[:)>]?)?)
    |(?P<repeat>(?:[*+?]|\{\d+(?:,\d*)?\})\??)|(?P<class>\[)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_CLASS_ITEM = re.compile(
    r"\[:(?P<posix>\^?[a-z]+):\]|(?P<escape>\\(?:[pP](?:\{[^}]*\}|.)|x\{[0-9A-Fa-f]+\}|.))|.", re.DOTALL
)
_FLAGS = re.compile(r"\(\?(?P<on>[imsU]*)(?:-(?P<off>[imsU]+))?(?P<end>[:)])")
_NAME = re.compile(r"\(\?P?<(?P<name>\w+)>")
_ESCAPES = frozenset("AbBzdDsSwWafnrtvC")
_CLASS_ESCAPES = frozenset("dDsSwWafnrtv")
_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": "\\x00-\\x7f", "blank": "\\t ", "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": "\\t-\\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_MOST_REPEATS = 1000


def translate(pattern: str) -> str:
    """What Python has to compile, with ``re.ASCII``, for the same matches. Raises ValueError."""
    result: list[str] = []
    position = depth = 0
    repeated = ""
    flags = ""
    multiline = False
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        assert token is not None  # the last branch takes anything
        start, position = position, token.end()
        text = token[0]
        if token["repeat"]:
            if repeated:
                raise _error(f"invalid nested repetition operator: `{repeated}{text}`")
            if not result or result[-1] in ("(", "|") or result[-1].startswith("(?"):
                raise _error(f"missing argument to repetition operator: `{text}`")
            if any(int(count) > _MOST_REPEATS for count in re.findall(r"\d+", text)):
                raise _error(f"invalid repeat count: `{text}`")
            repeated = text
            result.append(text)
            continue
        repeated = ""
        if token["quoted"] is not None:
            result += [re.escape(one) for one in token["quoted"]]
        elif token["escape"]:
            result.append(_escape(text, _ESCAPES))
        elif token["group"]:
            opened, more = _group(text, pattern, start)
            if more is None:
                depth += 1
                result.append(opened)
            else:
                multiline = "m" in more or multiline
                flags = "".join(sorted({*flags, *more} - {"U"}))
        elif token["class"]:
            text, position = _class(pattern, start)
            result.append(text)
        elif text == ")":
            depth -= 1
            if depth < 0:
                raise _error(f"unexpected ): `{pattern}`")
            result.append(text)
        elif text == "$" and not multiline:
            result.append(r"\Z")
        else:
            result.append(text if text in "|.^$" else re.escape(text))
    if depth:
        raise _error(f"missing closing ): `{pattern}`")
    made = (f"(?{flags})" if flags else "") + "".join(result)
    try:
        re.compile(made, re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise _error(f"{error}: `{pattern}`") from None
    return made


def _group(text: str, pattern: str, start: int) -> tuple[str, str | None]:
    """What opens a group, or the flags that are set from here on (for all of the pattern, which is near enough)."""
    if not text.startswith("(?"):
        return "(", None
    if match := _NAME.fullmatch(text):
        return f"(?P<{match['name']}>", None
    match = _FLAGS.fullmatch(text)
    if match is None or (match["end"] == ")" and match["off"]):
        known = re.match(r"\(\?(?:P.|<.|.|$)", pattern[start:], re.DOTALL)
        raise _error(f"invalid or unsupported Perl syntax: `{known[0] if known else text}`")
    if match["end"] == ")":
        return "", match["on"]
    on, off = match["on"].replace("U", ""), (match["off"] or "").replace("U", "")
    return f"(?{on}{'-' + off if off else ''}:", None


def _class(pattern: str, start: int) -> tuple[str, int]:
    """A character class and where it ends."""
    position = start + 1
    result = ["["]
    if pattern.startswith("^", position):
        result.append("^")
        position += 1
    first = True
    while first or not pattern.startswith("]", position):
        item = _CLASS_ITEM.match(pattern, position)
        if item is None:
            raise _error(f"missing closing ]: `{pattern[start:]}`")
        position = item.end()
        first = False
        if item["posix"]:
            members = _POSIX.get(item["posix"])
            if members is None:
                raise _error(f"invalid character class range: `{item[0]}`")
            result.append(members)
        elif item["escape"]:
            result.append(_escape(item[0], _CLASS_ESCAPES))
        else:
            result.append("\\" + item[0] if item[0] in "[]&~|" else item[0])
    made = "".join([*result, "]"])
    try:
        re.compile(made)
    except re.error:
        for low, high in re.findall(r"(.)-(.)", pattern[start + 1 : position]):
            if low > high:
                raise _error(f"invalid character class range: `{low}-{high}`") from None
        raise _error(f"invalid character class range: `{pattern[start : position + 1]}`") from None
    return made, position + 1


def _escape(text: str, known: frozenset[str]) -> str:
    kind = text[1:2]
    if not kind:
        raise _error("trailing backslash at end of expression: ``")
    if kind in "pP":
        raise _error(f"invalid character class range: `{text}`")  # Unicode classes, which Python does not have
    if kind == "z":
        return r"\Z"
    if kind == "C":
        return "(?s:.)"
    if text.startswith("\\x{"):
        number = int(text[3:-1], 16)
        if number > 0x10FFFF:
            raise _error(f"invalid escape sequence: `{text}`")
        return re.escape(chr(number))
    if kind in known or (kind.isascii() and not kind.isalnum() and kind != "_"):
        return text
    if kind == "x" or kind == "0":
        return text
    raise _error(f"invalid escape sequence: `{text}`")


def _error(text: str) -> ValueError:
    return ValueError(f"error parsing regexp: {text}")
