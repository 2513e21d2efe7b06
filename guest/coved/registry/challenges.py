"""``WWW-Authenticate`` (RFC 9110, 11.6.1), as the distribution project's client reads it: one challenge a header."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_HEADERS_MAX = 8
_PARAMETERS_MAX = 32

Challenge = tuple[str, dict[str, str]]
"""Scheme, in lower case, and parameters, whose names are in lower case."""


def parse(headers: Iterable[str]) -> list[Challenge]:
    """What cannot be read ends a header's parameters."""
    found = []
    for _, header in zip(range(_HEADERS_MAX), headers, strict=False):
        scheme = _TOKEN.match(header)
        if scheme is not None:
            found.append((scheme[0].lower(), _parameters(header, scheme.end())))
    return found


def _parameters(header: str, at: int) -> dict[str, str]:
    parameters: dict[str, str] = {}
    at = _skip(header, at)
    while len(parameters) < _PARAMETERS_MAX:
        name = _TOKEN.match(header, at)
        if name is None or header[name.end() : name.end() + 1] != "=":
            break
        at = name.end() + 1
        value = _QUOTED.match(header, at) or _TOKEN.match(header, at)
        if value is None:
            break
        text = re.sub(r"\\(.)", r"\1", value[1], flags=re.DOTALL) if value.re is _QUOTED else value[0]
        if not text:
            break
        parameters[name[0].lower()] = text
        at = _skip(header, value.end())
        if header[at : at + 1] != ",":
            break
        at = _skip(header, at + 1)
    return parameters


def _skip(header: str, at: int) -> int:
    space = _SPACE.match(header, at)
    return at if space is None else space.end()
