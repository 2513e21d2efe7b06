"""Words as BuildKit's shell lexer has them: quotes, escapes, and variables with their modifiers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from coved.dockerfile import substitution
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.text import SPACE, quote

LIMIT = 4 * 2**20
"""Characters that one text's variables may bring in or be searched for: ``$a$a`` doubles with every line."""
DEPTH = 100
"""``${a:-${b:-...}}`` goes no deeper."""

_NAME = re.compile(r"[0-9]+|[@*#?\-$!]|[^\W\d]\w*")
_SPLIT = re.compile(f"[{SPACE}]+")
_END = "�"
"""What Go makes of the end of the text where it wanted a character to show."""


@dataclass
class Words:
    """``used`` and ``unset`` are the variables that were asked for: those that there are, and the others."""

    text: str
    words: tuple[str, ...]
    used: set[str] = field(default_factory=set)
    unset: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Style:
    """How much is left as it was written; the defaults are for the values of most instructions."""

    escape: str = "\\"
    raw_quotes: bool = False
    raw_escapes: bool = False
    quotes: bool = True
    """False: quotes are characters like others."""
    keep_unset: bool = False
    """A variable that is not set stays as it was written."""


@cache
def _runs(escape: str, quotes: bool) -> tuple[dict[str, re.Pattern[str]], re.Pattern[str]]:
    """Characters that mean nothing, up to each of the characters that a text may stop at; and within double quotes."""
    special = "$<" + escape + ("'\"" if quotes else "")
    plain = {stop: re.compile(f"[^{re.escape(special + stop)}]+") for stop in ("", "}", "/")}
    return plain, re.compile(f'[^"${re.escape(escape)}]+')


class _Failure(Exception):
    """The lexer cannot go on; the text says why."""


def process(text: str, environment: Mapping[str, str], style: Style) -> Words:
    """Raises ``DockerfileError`` in BuildKit's words, without a location."""
    lexer = _Lexer(text, environment, style)
    try:
        result, words = lexer.until("", style.raw_escapes)
    except (_Failure, substitution.BadPattern) as failure:
        raise DockerfileError(f"failed to process {quote(text)}: {failure}") from None
    return Words(result, words, lexer.used, lexer.unset)


class _Lexer:
    def __init__(self, text: str, environment: Mapping[str, str], style: Style) -> None:
        self._text = text
        self._environment = environment
        self._style = style
        self._position = 0
        self._raw_escapes = style.raw_escapes
        self._spent = 0
        self._depth = 0
        self._plain, self._quoted = _runs(style.escape, style.quotes)
        self.used: set[str] = set()
        self.unset: set[str] = set()

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _next(self) -> str:
        char = self._peek()
        self._position += len(char)
        return char

    def _run(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        if not match:
            return ""
        self._position = match.end()
        return match[0]

    def _spend(self, characters: int) -> None:
        self._spent += characters
        if self._spent > LIMIT:
            raise _Failure(f"variables of more than {LIMIT} characters")

    def until(self, stop: str, raw_escapes: bool) -> tuple[str, tuple[str, ...]]:
        """The text, and its words, up to the character ``stop``, or to the end for ""."""
        if self._depth >= DEPTH:
            raise _Failure("substitutions are nested too deep")
        before, self._raw_escapes = self._raw_escapes, raw_escapes
        self._depth += 1
        try:
            pieces = self._pieces(stop)
        finally:
            self._raw_escapes = before
            self._depth -= 1
        return "".join(text for text, _ in pieces), _words(pieces)

    def _pieces(self, stop: str) -> list[tuple[str, bool]]:
        """Parts of the result; True where spaces in it end a word."""
        pieces: list[tuple[str, bool]] = []
        while True:
            plain = self._run(self._plain[stop])
            if plain:
                pieces.append((plain, True))
            char = self._peek()
            if char == stop:
                self._position += len(char)
                return pieces
            if not char:
                raise _Failure(f"unexpected end of statement while looking for matching {stop}")
            if char == "$":
                pieces.append((self._dollar(), True))
            elif char == "<":
                pieces.append((self._less_than(), False))
            elif char == self._style.escape:
                self._position += 1
                escaped = self._next()
                pieces.append(((char if self._raw_escapes else "") + escaped, False))
            elif char == "'":
                pieces.append((self._single_quoted(), False))
            else:
                pieces.append((self._double_quoted(), False))

    def _less_than(self) -> str:
        """A word may begin ``<< EOF``, with spaces."""
        self._position += 1
        if self._peek() != "<":
            return "<"
        self._position += 1
        start = self._position
        while self._peek() in {"\t", "\r", " "}:
            self._position += 1
        return "<<" + self._text[start : self._position]

    def _single_quoted(self) -> str:
        start = self._position
        end = self._text.find("'", start + 1)
        if end < 0:
            self._position = len(self._text)
            raise _Failure("unexpected end of statement while looking for matching single-quote")
        self._position = end + 1
        return self._text[start : end + 1] if self._style.raw_quotes else self._text[start + 1 : end]

    def _double_quoted(self) -> str:
        self._position += 1
        mark = '"' if self._style.raw_quotes else ""
        parts = [mark]
        while True:
            parts.append(self._run(self._quoted))
            char = self._peek()
            if char == '"':
                self._position += 1
                return "".join([*parts, mark])
            if char == "$":
                parts.append(self._dollar())
            elif char:
                self._position += 1
                if self._raw_escapes:
                    parts.append(char)
                escaped = self._peek()
                if escaped in {'"', "$", self._style.escape}:
                    self._position += 1
                    parts.append(escaped)
                elif escaped:
                    parts.append(char)
            else:
                raise _Failure("unexpected end of statement while looking for matching double-quote")

    def _value(self, name: str) -> str | None:
        value = self._environment.get(name)
        if value is None:
            self.unset.add(name)
        else:
            self.used.add(name)
            self._spend(len(value))
        return value

    def _dollar(self) -> str:
        self._position += 1
        if self._peek() == "{":
            return self._braces()
        name = self._run(_NAME)
        if not name:
            return "$"
        value = self._value(name)
        if value is None:
            return f"${name}" if self._style.keep_unset else ""
        return value

    def _braces(self) -> str:
        self._position += 1
        first = self._peek()
        if not first:
            raise _Failure("syntax error: missing '}'")
        if first in "{}:":
            raise _Failure("syntax error: bad substitution")
        name = self._run(_NAME)
        modifier = self._next()
        if modifier == "}":
            value = self._value(name)
            if value is None:
                return f"${{{name}}}" if self._style.keep_unset else ""
            return value
        if modifier == "/":
            return self._replaced(name)
        null_is_unset = modifier == ":"
        if null_is_unset:
            modifier = self._next()
            if modifier in {"#", "%"}:
                raise _Failure(f"unsupported modifier (:{modifier}) in substitution")
        elif modifier not in {"+", "-", "?", "#", "%"}:
            raise _Failure(f"unsupported modifier ({modifier or _END}) in substitution")
        word = self._word("}", modifier in {"#", "%"}, "syntax error: missing '}'")
        shown = (":" if null_is_unset else "") + modifier
        value = self._value(name)
        if value is None and self._style.keep_unset:
            return f"${{{name}{shown}{word}}}"
        if modifier in {"#", "%"}:
            return self._trimmed(value or "", modifier, word)
        given = value if value or not null_is_unset else None
        if modifier == "-":
            return word if given is None else given
        if modifier == "+":
            return "" if given is None else word
        if modifier == "?":
            if given is None:
                what = "is not allowed to be unset" if value is None else "is not allowed to be empty"
                raise _Failure(f"{name}: {word or what}")
            return given
        raise _Failure(f"unsupported modifier ({shown if modifier else ':' + _END}) in substitution")

    def _word(self, stop: str, raw_escapes: bool, unfinished: str) -> str:
        try:
            return self.until(stop, raw_escapes)[0]
        except _Failure:
            if self._position >= len(self._text):
                raise _Failure(unfinished) from None
            raise

    def _trimmed(self, value: str, modifier: str, word: str) -> str:
        longest = word.startswith(modifier)
        pattern = word[1:] if longest else word
        self._search(value, pattern)
        trim = substitution.trim_prefix if modifier == "#" else substitution.trim_suffix
        try:
            return trim(value, pattern, longest=longest)
        except substitution.BadPattern as error:
            raise _Failure(f"invalid pattern ({pattern}) in substitution: {error}") from None

    def _replaced(self, name: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._position += 1
        pattern = self._word("/", True, "syntax error: missing '/' in ${}")
        replacement = self._word("}", True, "syntax error: missing '}'")
        value = self._value(name)
        if value is None and self._style.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        self._search(value or "", pattern)
        if everywhere:
            self._spend(len(replacement) * (len(value or "") + 1))
        try:
            return substitution.replace(value or "", pattern, replacement, everywhere=everywhere)
        except substitution.BadPattern as error:
            raise _Failure(f"invalid pattern ({pattern}) in substitution: {error}") from None

    def _search(self, value: str, pattern: str) -> None:
        """A longer pattern takes longer for each character of the value."""
        self._spend(len(pattern) + len(value) * (1 + len(pattern) // 512))


def _words(pieces: list[tuple[str, bool]]) -> tuple[str, ...]:
    words: list[str] = []
    open_word: list[str] = []

    def close() -> None:
        if word := "".join(open_word):
            words.append(word)
        open_word.clear()

    for text, splits in pieces:
        if not splits:
            open_word.append(text)
            continue
        first, *others = _SPLIT.split(text)
        open_word.append(first)
        for other in others:
            close()
            open_word.append(other)
    close()
    return tuple(words)
