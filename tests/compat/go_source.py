"""Reads just enough of Go to take test cases out of a test file written in it, and to do what short functions in it do to files.

Grammar: The Go Programming Language Specification, "Lexical elements", "Composite literals", "Assignment statements".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<raw>`[^`]*`)|(?P<text>\"(?:\\.|[^\"\\])*\")|(?P<number>\d\w*)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<newline>\n)|(?P<sign>:=|!=|==|&&|\|\||[^\s\w])",
    re.DOTALL,
)
_OPENING, _CLOSING = "([{", ")]}"


class NotUnderstood(Exception):
    """What the source says is beyond this reader."""


@dataclass(frozen=True)
class Token:
    kind: str
    text: str


@dataclass(frozen=True)
class Function:
    """A function literal's body, to be run later."""

    body: tuple[Token, ...]


@dataclass
class Made:
    """A composite literal: ``tar.Header{...}``."""

    type: str
    fields: dict[str, Any] = field(default_factory=dict)


def tokens(source: str) -> list[Token]:
    found = []
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup or ""
        if kind != "comment":
            found.append(Token(kind, match.group()))
    return found


class Reader:
    """``names`` are values, ``calls`` what functions do, by their dotted names; values that start with a capital letter or are
    dotted and unknown are given as their own names."""

    def __init__(self, source: list[Token], names: Mapping[str, Any], calls: Mapping[str, Callable[..., Any]]) -> None:
        self._tokens, self._at = source, 0
        self._names, self._calls = dict(names), calls

    # -- literals

    def literal(self) -> list[dict[str, Any]]:
        """A list of structures: ``{ {a: 1}, {a: 2} }``."""
        found = []
        self._expect("{")
        while not self._skip("}"):
            found.append(self._fields())
            self._skip(",")
        return found

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        self._expect("{")
        while not self._skip("}"):
            name = self._next().text
            self._expect(":")
            fields[name] = self.expression()
            self._skip(",")
        return fields

    def expression(self) -> Any:
        value = self._primary()
        while True:
            if self._skip("+"):
                value = value + self._primary()
            elif self._skip("|"):
                value = value | self._primary()
            else:
                return value

    def _primary(self) -> Any:
        token = self._next()
        match token.kind:
            case "raw":
                return token.text[1:-1]
            case "text":
                return ast.literal_eval(token.text)
            case "number":
                return int(token.text, 0)
        if token.text in "&*":
            return self._primary()
        if token.text == "[":
            self._expect("]")
            return self._list(self._next().text)
        if token.kind != "name":
            raise NotUnderstood(f"{token.text!r} begins no value")
        if token.text == "func":
            while self._peek().text != "{":
                self._at += 1
            return Function(tuple(self._block()))
        if token.text == "map":
            while self._peek().text != "{":
                self._at += 1
            return self._map()
        name = token.text
        while self._skip("."):
            name += f".{self._next().text}"
        if self._peek_here().text == "(":
            return self._call(name)
        if self._peek_here().text == "{":
            return Made(name, self._fields())
        return self._names.get(name, name)

    def _list(self, kind: str) -> Any:
        if kind == "byte":
            self._expect("(")
            value = self.expression()
            self._expect(")")
            return value.encode()
        self._expect("{")
        values = []
        while not self._skip("}"):
            values.append(self.expression())
            self._skip(",")
        return values

    def _map(self) -> dict[Any, Any]:
        self._expect("{")
        found = {}
        while not self._skip("}"):
            key = self.expression()
            self._expect(":")
            found[key] = self.expression()
            self._skip(",")
        return found

    def _call(self, name: str) -> Any:
        self._expect("(")
        given = []
        while not self._skip(")"):
            given.append(self.expression())
            self._skip(",")
        if name not in self._calls:
            raise NotUnderstood(f"{name}()")
        return self._calls[name](*given)

    # -- statements

    def run(self) -> None:
        """The statements up to the first ``return``, taking it that none of them fails."""
        while self._at < len(self._tokens):
            token = self._peek_here()
            if token.kind == "newline" or token.text == ";":
                self._at += 1
            elif token.text == "return":
                return
            elif token.text == "defer":
                self._line()
            elif token.text == "if":
                self._at += 1
                self._condition()
            else:
                self._statement()

    def _condition(self) -> None:
        """``if err = f(); err != nil {...}``: what comes before the semicolon happens, the block does not."""
        ahead = self._at
        while self._tokens[ahead].text not in (";", "{"):
            ahead = self._after(ahead) if self._tokens[ahead].text in _OPENING else ahead + 1
        if self._tokens[ahead].text == ";":
            self._statement()
            while self._peek().text != "{":
                self._at += 1
        self._at = ahead if self._tokens[ahead].text == "{" else self._at
        self._block()

    def _statement(self) -> None:
        ahead, targets = self._at, []
        while self._tokens[ahead].kind == "name" and self._tokens[ahead + 1].text in (",", ":=", "="):
            targets.append(self._tokens[ahead].text)
            ahead += 2
            if self._tokens[ahead - 1].text != ",":
                self._at = ahead
                value = self.expression()
                self._names[targets[0]] = value
                return
        self.expression()

    # -- tokens

    def _block(self) -> list[Token]:
        begin = self._at
        while self._tokens[begin].text != "{":
            begin += 1
        self._at = self._after(begin)
        return self._tokens[begin + 1 : self._at - 1]

    def _after(self, opening: int) -> int:
        depth, at = 0, opening
        while True:
            text, kind = self._tokens[at].text, self._tokens[at].kind
            if kind == "sign":
                depth += (text in _OPENING) - (text in _CLOSING)
            at += 1
            if not depth:
                return at

    def _line(self) -> None:
        while self._at < len(self._tokens) and self._tokens[self._at].kind != "newline":
            self._at = self._after(self._at) if self._tokens[self._at].text in _OPENING else self._at + 1

    def _peek_here(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else Token("end", "")

    def _peek(self) -> Token:
        while self._peek_here().kind == "newline":
            self._at += 1
        return self._peek_here()

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _skip(self, text: str) -> bool:
        """In Go a line that goes on ends with a sign, so only the closing and the first of a list may be on a next line."""
        token = self._peek() if text in "}])" else self._peek_here()
        if token.kind == "sign" and token.text == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        token = self._next()
        if token.text != text:
            raise NotUnderstood(f"{token.text!r} where {text!r} should be")
