"""Numbers as Go's libraries read them, in their words."""

from __future__ import annotations

import re

from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.text import quote

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_LARGEST = 2**63 - 1
_DIGITS = 40
"""More are no number that fits anywhere."""


def duration(text: str) -> int:
    """Nanoseconds of ``1h2m3.5s`` (Go's time.ParseDuration); raises ``DockerfileError``."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    invalid = DockerfileError(f"time: invalid duration {quote(text)}")
    if not rest:
        raise invalid
    total = 0
    position = 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if not match or not (match[1] or (match[2] or ".") != ".") or len(match[1]) > _DIGITS:
            raise invalid
        if not match[3]:
            raise DockerfileError(f"time: missing unit in duration {quote(text)}")
        if match[3] not in _UNITS:
            raise DockerfileError(f"time: unknown unit {quote(match[3])} in duration {quote(text)}")
        total += _times(f"{match[1] or 0}{match[2] or ''}", _UNITS[match[3]])
        if total > _LARGEST:
            raise invalid
        position = match.end()
    return sign * total


def whole(text: str, *, bits: int, function: str = "strconv.ParseInt") -> int:
    """A decimal number of so many bits with its sign; raises ``DockerfileError``."""
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        raise DockerfileError(f"{function}: parsing {quote(text)}: invalid syntax")
    digits = text.lstrip("+-").lstrip("0")
    number = int(text) if len(digits) <= _DIGITS else 2**bits
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise DockerfileError(f"{function}: parsing {quote(text)}: value out of range")
    return number


def unsigned(text: str, base: int = 10) -> int | None:
    """A number of 32 bits, None for anything else."""
    if not re.fullmatch(r"[0-7]+" if base == 8 else r"[0-9]+", text, re.ASCII) or len(text.lstrip("0")) > _DIGITS:
        return None
    number = int(text, base)
    return number if number < 2**32 else None


def truth(text: str) -> bool | None:
    """Go's strconv.ParseBool, None for what it does not take."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    return False if text in ("0", "f", "F", "FALSE", "false", "False") else None


def size(text: str) -> int | None:
    """Bytes of ``64m``, ``1.5GiB`` or ``100`` (docker/go-units' RAMInBytes), None for anything else."""
    match = _SIZE.fullmatch(text)
    if not match or len(text) > _DIGITS:
        return None
    return _times(match[1], 1024 ** " kmgtp".index((match[2] or " ").lower()))


def _times(number: str, unit: int) -> int:
    """A decimal number of units, rounded down."""
    whole, _, part = number.partition(".")
    part = part[:_DIGITS]
    return int(int(f"0{whole}{part}") * unit // 10 ** len(part))
