"""The practical part of Go's text/template that `--format` is used with.

Fields ({{.A.B}}), index, json, join, upper, lower, title, split, println, printf, len, slice, comparison and logic,
pipelines, if/else, range, with, variables, and trim markers. Data are what JSON gives; a function among them is a
method (`.Label "x"`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from cove.cli.errors import CliError

Missing = Callable[[str], str]
Functions = Mapping[str, Callable[..., Any]]


class GoMap(dict[str, Any]):
    """A map, not a struct: a name that is not in it has no value and is no mistake."""


class GoStruct(dict[str, Any]):
    """A line of a list: its fields, and functions that are methods with arguments."""

    def marshalled(self) -> str:
        """What `json` makes of it: the fields alone, by name, as Go's json.Marshal writes them (`MarshalJSON` in
        docker's `cli/command/formatter/reflect.go`).
        """
        return to_html_safe_json({name: self[name] for name in sorted(self) if not callable(self[name])})


class TemplateError(CliError):
    """A template that cannot be parsed, or not be applied to its data; the text is docker's."""


def to_json(value: Any) -> str:
    """Compact JSON."""
    if isinstance(value, GoStruct):
        return value.marshalled()
    if isinstance(value, list) and any(isinstance(item, GoStruct) for item in value):
        return f"[{','.join(to_json(item) for item in value)}]"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def to_html_safe_json(value: Any) -> str:
    """Compact JSON with <, > and & escaped, as Go's json.Marshal and therefore `--format json` of a list has it."""
    text = to_json(value)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def to_text(value: Any) -> str:
    """A value as Go's fmt prints it with %v."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return (
            "map[" + " ".join(f"{key}:{to_text(value[key])}" for key in sorted(value) if not callable(value[key])) + "]"
        )
    if isinstance(value, list | tuple):
        return "[" + " ".join(to_text(item) for item in value) + "]"
    return str(value)


class _Text(str):
    """A piece of a template; `at` is where it stands: line and column as Go counts them, from one and from zero."""

    at = (1, 0)

    @classmethod
    def of(cls, source: str, start: int, end: int) -> _Text:
        made = cls(source[start:end])
        made.at = (1 + source.count("\n", 0, start), start - (source.rfind("\n", 0, start) + 1))
        return made

    def part(self, start: int, end: int | None = None) -> _Text:
        """Of a text on one line, or the first line of one."""
        made = _Text(self[start:end])
        made.at = (self.at[0], self.at[1] + start)
        return made


_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<variable>\$\w*(?:\.\w+)*)"""
    r"""|(?P<field>(?:\.\w+)+|\.)|(?P<assign>:?=)|(?P<punctuation>[()|,])|(?P<word>\w+))"""
)


def _tokens(source: _Text) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            raise TemplateError(f'template: :1: unexpected "{source[position]}" in command')
        kind = match.lastgroup or ""
        tokens.append((kind, source.part(match.start(kind), match.end(kind))))
        position = match.end()
        while position < len(source) and source[position].isspace():
            position += 1
    return tokens


Scope = dict[str, Any]


class _Expression:
    """One pipeline: commands separated by "|", each a function or a value with arguments."""

    def __init__(self, source: _Text, functions: Functions) -> None:
        self.source = source
        self._functions = functions
        self._tokens = _tokens(source)
        self.variables: list[str] = []
        head = [index for index, token in enumerate(self._tokens) if token[0] == "assign"]
        if head:
            self.variables = [value for kind, value in self._tokens[: head[0]] if kind == "variable"]
            self._tokens = self._tokens[head[0] + 1 :]
        self._commands, rest = self._parse(self._tokens)
        if rest or not any(self._commands):
            raise TemplateError("template: :1: missing value for command")
        for command in self._commands:
            self._check(command)

    def _parse(self, tokens: list[tuple[str, str]]) -> tuple[list[list[Any]], list[tuple[str, str]]]:
        commands: list[list[Any]] = [[]]
        while tokens:
            token, tokens = tokens[0], tokens[1:]
            if token == ("punctuation", "("):
                inner, tokens = self._parse(tokens)
                if not tokens:
                    raise TemplateError("template: :1: unclosed left paren")
                tokens = tokens[1:]
                if tokens and tokens[0][0] == "field":
                    inner, tokens = [["of", inner, tokens[0]]], tokens[1:]
                commands[-1].append(inner)
            elif token == ("punctuation", ")"):
                return commands, [token, *tokens]
            elif token == ("punctuation", "|"):
                commands.append([])
            else:
                commands[-1].append(token)
        return commands, tokens

    def _check(self, command: list[Any]) -> None:
        if command and isinstance(command[0], tuple) and command[0][0] == "word":
            name = command[0][1]
            if name not in self._functions and name not in ("true", "false", "nil", "and", "or"):
                raise TemplateError(f'template: :1: function "{name}" not defined')

    def value(self, data: Any, scope: Scope, missing: Missing) -> Any:
        return self._pipeline(self._commands, data, scope, missing)

    def _pipeline(self, commands: list[list[Any]], data: Any, scope: Scope, missing: Missing) -> Any:
        result: Any = None
        for index, command in enumerate(commands):
            result = self._command(command, data, scope, missing, [result] if index else [])
        return result

    def _command(self, command: list[Any], data: Any, scope: Scope, missing: Missing, piped: list[Any]) -> Any:
        first, *rest = command
        if first == "of":
            inner = self._pipeline(rest[0], data, scope, missing)
            return self._field(inner, rest[1][1], missing, [])
        if isinstance(first, tuple) and first[0] == "word" and first[1] in ("and", "or"):
            return self._logic(first[1], rest, data, scope, missing, piped)
        arguments = [self._operand(item, data, scope, missing) for item in rest] + piped
        if isinstance(first, tuple) and first[0] == "word" and first[1] in self._functions:
            try:
                return self._functions[first[1]](*arguments)
            except (TypeError, LookupError, ValueError) as error:
                raise self._failure(f"error calling {first[1]}: {error}", first[1]) from error
        if isinstance(first, tuple) and first[0] == "field" and first[1] != ".":
            return self._field(data, first[1], missing, arguments)
        if arguments:
            raise self._failure(f"can't give argument to non-function {self.source}", self.source)
        return self._operand(first, data, scope, missing)

    def _logic(self, name: str, items: list[Any], data: Any, scope: Scope, missing: Missing, piped: list[Any]) -> Any:
        result: Any = None
        for item in items:
            result = self._operand(item, data, scope, missing)
            if bool(result) == (name == "or"):
                return result
        return piped[0] if piped else result

    def _operand(self, item: Any, data: Any, scope: Scope, missing: Missing) -> Any:
        if isinstance(item, list):
            return self._pipeline(item, data, scope, missing)
        kind, text = item
        if kind == "string":
            return text[1:-1] if text.startswith("`") else json.loads(text)
        if kind == "number":
            return float(text) if "." in text else int(text)
        if kind == "field":
            return data if text == "." else self._field(data, text, missing, [])
        if kind == "variable":
            name, dot, _ = text.partition(".")
            if name not in scope:
                raise TemplateError(f'template: :1: undefined variable "{name}"')
            return self._field(scope[name], text, missing, []) if dot else scope[name]
        constants = {"true": True, "false": False, "nil": None}
        if text in constants:
            return constants[text]
        return self._functions[text]()

    def _field(self, data: Any, path: str, missing: Missing, arguments: list[Any]) -> Any:
        names = path.split(".")[1:]
        for index, name in enumerate(names):
            if not isinstance(data, Mapping):
                if data is None:
                    raise self._failure(f"nil pointer evaluating interface {{}}.{name}", path)
                kind = {str: "string", int: "int", bool: "bool", float: "float64"}.get(type(data), "[]interface {}")
                raise self._failure(f"can't evaluate field {name} in type {kind}", path)
            if name not in data and isinstance(data, GoMap):
                return None
            if name not in data:
                raise self._failure(missing(name), path)
            data = data[name]
            if callable(data):
                try:
                    data = data(*(arguments if index == len(names) - 1 else []))
                except ValueError as error:
                    raise self._failure(str(error), path) from error
        return data

    def _failure(self, reason: str, where: str) -> TemplateError:
        # Go says where the last name of several begins.
        line, column = where.at if isinstance(where, _Text) else self.source.at
        column += max(where.rfind("."), 0) if where.startswith((".", "$")) else 0
        return TemplateError(f'template: :{line}:{column}: executing "" at <{where}>: {reason}')


def _first_word(text: _Text) -> tuple[str, _Text]:
    """It, and what follows it."""
    word = text.partition(" ")[0]
    start = len(word) + len(text[len(word) :]) - len(text[len(word) :].lstrip())
    return word, text.part(start)


def _index(collection: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(collection, Mapping):
            collection = collection.get(key, "")
        elif collection is None:
            raise LookupError("index of untyped nil")
        elif not 0 <= key < len(collection):
            raise LookupError(f"reflect: slice index out of range: {key}")
        else:
            collection = collection[key]
    return collection


def _printf(form: str, *arguments: Any) -> str:
    rest = list(arguments)

    def one(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        value = rest.pop(0) if rest else "<missing>"
        text = to_json(value) if match[2] == "q" else to_text(value)
        if match[2] == "f":
            return str(("%" + match[1] + "f") % value)
        return str(("%" + match[1] + "s") % text)

    return re.sub(r"%(-?\d*(?:\.\d+)?)([a-z%])", one, form)


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _slice(collection: Any, *bounds: int) -> Any:
    return collection[slice(*bounds)] if len(bounds) > 1 else collection[bounds[0] if bounds else 0 :]


FUNCTIONS: Functions = {
    "eq": lambda first, *others: any(first == other for other in others),
    "ge": lambda first, second: first >= second,
    "gt": lambda first, second: first > second,
    "index": _index,
    "join": lambda items, separator: separator.join(to_text(item) for item in items or ()),
    "json": to_json,
    "le": lambda first, second: first <= second,
    "len": lambda collection: len(collection or ()),
    "lower": lambda text: text.lower(),
    "lt": lambda first, second: first < second,
    "ne": lambda first, second: first != second,
    "not": lambda value: not value,
    "pad": lambda text, left, right: " " * left + text + " " * right if text else text,
    "print": lambda *values: "".join(to_text(value) for value in values),
    "printf": _printf,
    "println": lambda *values: " ".join(to_text(value) for value in values) + "\n",
    "slice": _slice,
    "split": lambda text, separator: text.split(separator),
    "title": lambda text: re.sub(r"(^|\s)(\w)", lambda match: match[1] + match[2].upper(), text),
    "truncate": _truncate,
    "upper": lambda text: text.upper(),
}


def _untouched(text: Any, *_: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"wrong type for value; expected string; got {type(text).__name__}")
    return text


HEADER_FUNCTIONS: Functions = {
    **FUNCTIONS,
    **dict.fromkeys(("join", "json", "lower", "split", "title", "truncate", "upper"), _untouched),
}
"""What leaves the name of a column as it is (`HeaderFunctions` in docker's `templates/templates.go`)."""

Node = tuple[str, Any, list[Any], list[Any]]
"""(kind, text or expression, body, else body)"""


class Template:
    """A parsed template. Raises `TemplateError`."""

    def __init__(self, source: str, functions: Functions = FUNCTIONS) -> None:
        self._functions = functions
        self._pieces = self._split(source)
        self._nodes, end = self._block(nested=False)
        if end:
            raise TemplateError(f"template: :1: unexpected {{{{{end}}}}}")

    @staticmethod
    def _split(source: str) -> list[tuple[str, _Text]]:
        pieces: list[tuple[str, _Text]] = []
        position = 0
        trim = False
        for match in re.finditer(
            r"""\{\{(- )?((?:"(?:\\.|[^"\\])*"|`[^`]*`|(?!\}\}).)*?)( -)?\}\}""", source, re.DOTALL
        ):
            literal = source[position : match.start()]
            if "{{" in literal:
                raise TemplateError("template: :1: unclosed action")
            literal = literal.lstrip() if trim else literal
            pieces.append(("text", _Text(literal.rstrip() if match[1] else literal)))
            start = match.start(2) + len(match[2]) - len(match[2].lstrip())
            body = _Text.of(source, start, start + len(match[2].strip()))
            if not body.startswith("/*"):
                pieces.append(("action", body))
            position, trim = match.end(), bool(match[3])
        literal = source[position:]
        if "{{" in literal:
            raise TemplateError("template: :1: unclosed action")
        pieces.append(("text", _Text(literal.lstrip() if trim else literal)))
        return pieces

    def _block(self, *, nested: bool) -> tuple[list[Node], _Text]:
        nodes: list[Node] = []
        while self._pieces:
            kind, text = self._pieces.pop(0)
            if kind == "text":
                if text:
                    nodes.append(("text", text, [], []))
                continue
            word, rest = _first_word(text)
            if word in ("end", "else"):
                return nodes, text
            if word in ("if", "range", "with"):
                nodes.append(self._control(word, rest))
            else:
                nodes.append(("value", _Expression(text, self._functions), [], []))
        if nested:
            raise TemplateError("template: :1: unexpected EOF")
        return nodes, _Text()

    def _control(self, word: str, condition: _Text) -> Node:
        expression = _Expression(condition, self._functions)
        body, end = self._block(nested=True)
        other: list[Node] = []
        if end.startswith("else "):
            other = [self._control(*_first_word(_first_word(end)[1]))]
        elif end == "else":
            other, _ = self._block(nested=True)
        return word, expression, body, other

    def render(self, data: Any, missing: Missing) -> str:
        """Apply to `data`; `missing` words the error for a name that is not there. Raises `TemplateError`."""
        out: list[str] = []
        self._run(self._nodes, data, {"$": data}, missing, out)
        return "".join(out)

    def begin(self, data: Any, missing: Missing) -> str:
        """What comes before the first mistake when it is applied to `data`; all of it when there is none."""
        out: list[str] = []
        with suppress(TemplateError):
            self._run(self._nodes, data, {"$": data}, missing, out)
        return "".join(out)

    def _run(self, nodes: list[Node], data: Any, scope: Scope, missing: Missing, out: list[str]) -> None:
        for kind, what, body, other in nodes:
            if kind == "text":
                out.append(what)
                continue
            value = what.value(data, scope, missing)
            if kind == "value":
                if what.variables:
                    scope[what.variables[0]] = value
                else:
                    out.append(to_text(value))
            elif kind == "range":
                self._range(what, value, (body, other), data, scope, missing, out)
            else:
                inner = dict(scope)
                if what.variables:
                    inner[what.variables[0]] = value
                subject = value if kind == "with" and value else data
                self._run(body if value else other, subject, inner, missing, out)

    def _range(
        self,
        expression: _Expression,
        value: Any,
        bodies: tuple[list[Node], list[Node]],
        data: Any,
        scope: Scope,
        missing: Missing,
        out: list[str],
    ) -> None:
        if not value:
            self._run(bodies[1], data, dict(scope), missing, out)
            return
        items = [(key, value[key]) for key in sorted(value)] if isinstance(value, Mapping) else list(enumerate(value))
        for key, item in items:
            inner = dict(scope)
            if len(expression.variables) == 2:
                inner |= {expression.variables[0]: key, expression.variables[1]: item}
            elif expression.variables:
                inner[expression.variables[0]] = item
            self._run(bodies[0], item, inner, missing, out)
