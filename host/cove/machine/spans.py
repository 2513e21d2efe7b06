"""Lengths of time as people write them: "30s", "5m", "1h30m"."""

from __future__ import annotations

import re

_UNITS = (("h", 3600), ("m", 60), ("s", 1))
_SPAN = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")


def parse_span(text: str) -> int:
    """Seconds. Raises `ValueError`."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise ValueError(f'must be a length of time such as "30s", "5m" or "1h30m", not {text[:40]!r}')
    return sum(int(number or 0) * seconds for number, (_, seconds) in zip(match.groups(), _UNITS, strict=True))


def format_span(seconds: int) -> str:
    """As `parse_span` reads it: "1h30m"."""
    parts = []
    for unit, size in _UNITS:
        if seconds >= size:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return "".join(parts) or "0s"
