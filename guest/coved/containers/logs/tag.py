"""The log option ``tag``: text with Go template actions over the container that logs, such as ``{{.ImageName}}/{{.Name}}``.

Actions are pipelines of fields, strings, numbers, and Docker's functions; there are no control structures. The errors
are those of Go's text/template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

Value: TypeAlias = "str | int | list[str]"

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r'\s*(?:(?P<field>(?:\.[A-Za-z_]\w*)+)|(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<number>-?\d+)'
    r"|(?P<name>[A-Za-z_]\w*)|(?P<pipe>\|)|(?P<bad>\S))"
)
_CONTROL = frozenset("if else end range with define block template break continue".split())
_KINDS: dict[type, str] = {str: "string", int: "int", list: "[]string"}
_HEAD = "template: log-tag:{}:"


def render(template: str, fields: Mapping[str, str]) -> str:
    """The tag's text. Raises ValueError in Go's words."""
    result: list[str] = []
    position, trim = 0, False
    for match in _ACTION.finditer(template):
        text = template[position : match.start()]
        if "{{" in text:
            break
        text = text.lstrip() if trim else text
        result.append(text.rstrip() if match[1] else text)
        trim = bool(match[3])
        inside = match[2]
        if not (inside.startswith("/*") and inside.endswith("*/")):
            result.append(_text(_Pipeline(template, match.start(2), inside, fields).value()))
        position = match.end()
    rest = template[position:]
    if "{{" in rest:
        raise ValueError(f"{_HEAD.format(_line(template, template.index('{{', position)))} unclosed action")
    result.append(rest.lstrip() if trim else rest)
    return "".join(result)


class _Pipeline:
    """``first | second``: what the first gives is the last argument of the second."""

    def __init__(self, template: str, offset: int, inside: str, fields: Mapping[str, str]) -> None:
        self._template = template
        self._offset = offset
        self._inside = inside
        self._fields = fields

    def value(self) -> Value:
        commands: list[list[re.Match[str]]] = [[]]
        for token in _TOKEN.finditer(self._inside):
            if token["bad"] and token["bad"] in '"`':
                raise self._parse_error(f"unterminated {'raw ' if token['bad'] == '`' else ''}quoted string")
            if token["bad"]:
                raise self._parse_error(f"unexpected {json.dumps(token['bad'])} in command")
            if token["pipe"]:
                commands.append([])
            else:
                commands[-1].append(token)
        if commands == [[]]:
            raise self._parse_error("missing value for command")
        result: list[Value] = []
        for command in commands:
            if not command:
                raise self._parse_error("missing value for command")
            result = [self._command(command, result)]
        return result[0]

    def _command(self, tokens: list[re.Match[str]], piped: list[Value]) -> Value:
        first, *others = tokens
        if first["name"]:
            function = _FUNCTIONS.get(first["name"])
            if first["name"] in _CONTROL:
                raise self._parse_error(f"control structures such as {first['name']} are not supported in tags")
            if function is None:
                raise self._parse_error(f'function "{first["name"]}" not defined')
            arguments = [*(self._operand(one) for one in others), *piped]
            kinds, call = function
            if len(arguments) != len(kinds):
                raise self._failed(
                    first, f"wrong number of args for {first['name']}: want {len(kinds)} got {len(arguments)}"
                )
            for token, argument, kind in zip([*others, *(first for _ in piped)], arguments, kinds, strict=True):
                if not isinstance(argument, kind):
                    raise self._wrong_type(token, argument, _KINDS[kind])
            return call(*arguments)
        if others or piped:
            raise self._failed(first, f"can't give argument to non-function {first[0].strip()}")
        return self._operand(first)

    def _operand(self, token: re.Match[str]) -> Value:
        if token["field"]:
            name, *more = token["field"][1:].split(".")
            if name not in self._fields:
                raise self._failed(token, f"can't evaluate field {name} in type *logger.Info")
            if more:
                raise self._failed(token, f"can't evaluate field {more[0]} in type string", len(name) + 1)
            return self._fields[name]
        if token["number"]:
            return int(token["number"])
        if token["string"]:
            text = token["string"]
            if text[0] == "`":
                return text[1:-1]
            try:
                return str(json.loads(text))
            except ValueError:
                raise self._parse_error("invalid syntax") from None
        raise self._failed(token, f"{token[0].strip()} is not a value")

    def _parse_error(self, text: str) -> ValueError:
        return ValueError(f"{_HEAD.format(_line(self._template, self._offset))} {text}")

    def _wrong_type(self, token: re.Match[str], value: Value, kind: str) -> ValueError:
        if token["string"] or token["number"]:
            wanted = {"int": "integer"}.get(kind, kind)
            return self._failed(token, f"expected {wanted}; found {token[0].strip()}")
        found = _KINDS[type(value)]
        return self._failed(token, f"wrong type for value; expected {kind}; got {found}")

    def _failed(self, token: re.Match[str], text: str, skip: int = 0) -> ValueError:
        what = token[0].strip()
        at = self._offset + token.end() - len(what) + skip
        column = at - (self._template.rfind("\n", 0, at) + 1)
        head = _HEAD.format(_line(self._template, at))
        return ValueError(f'{head}{column}: executing "log-tag" at <{what}>: {text}')


def _line(template: str, position: int) -> int:
    return template.count("\n", 0, position) + 1


def _text(value: Value) -> str:
    return f"[{' '.join(value)}]" if isinstance(value, list) else str(value)


def _truncate(text: str, length: int) -> str:
    return text if len(text) < length else text[: max(0, length)]


def _pad(text: str, before: int, after: int) -> str:
    # A template must not be able to ask for more than a line can hold.
    return f"{' ' * min(before, 16384)}{text}{' ' * min(after, 16384)}" if text else text


_Kinds: TypeAlias = "tuple[type, ...]"
_FUNCTIONS: dict[str, tuple[_Kinds, Callable[..., Value]]] = {
    "json": ((object,), lambda value: json.dumps(value, ensure_ascii=False)),
    "lower": ((str,), str.lower),
    "upper": ((str,), str.upper),
    "title": ((str,), lambda text: re.sub(r"(?<!\w)\w", lambda one: one[0].upper(), text)),
    "split": ((str, str), lambda text, separator: text.split(separator) if separator else list(text)),
    "join": ((list, str), lambda parts, separator: separator.join(parts)),
    "truncate": ((str, int), _truncate),
    "pad": ((str, int, int), _pad),
    "print": ((object,), _text),
    "len": ((str,), len),
}
