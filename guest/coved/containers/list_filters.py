"""Values of the filters of ``GET /containers/json``, checked as dockerd does before it looks at any container."""

from __future__ import annotations

import re

from coved.errors import InvalidParameter
from coved.filters import Filters

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?")


def check(filters: Filters) -> None:
    """Raises ``InvalidParameter`` for a value of ``exited``, ``is-task``, ``expose`` or ``publish`` that is none."""
    for text in filters.get("exited"):
        if not _NUMBER.fullmatch(text):
            raise InvalidParameter(f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax")
    filters.flag("is-task")
    for name in ("expose", "publish"):
        ports(filters, name)


def ports(filters: Filters, name: str) -> frozenset[str]:
    """The ports that a filter asks for, such as ``80/tcp``; values may be ranges."""
    result: set[str] = set()
    for text in filters.get(name):
        match = _PORTS.fullmatch(text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if match is None or first > last or last > 65535:
            raise InvalidParameter(
                f'error while looking up for {name} {text}: strconv.ParseUint: parsing "{text}": invalid syntax'
            )
        result.update(f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1))
    return frozenset(result)
