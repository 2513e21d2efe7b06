"""Amounts of memory and disk, as people write them."""

from __future__ import annotations

import re

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(\d{1,12})\s*(?:([KMGT])(?:iB)?|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of "2GiB", "512MiB", "2g". Units are powers of 1024. Raises `ValueError` saying what is expected."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f'{text!r} is not a size such as "2GiB" or "512MiB"')
    return int(match[1]) << (10 * _UNITS[(match[2] or "").upper()])


def format_size(size: int) -> str:
    """The largest unit that keeps the number whole ("2GiB", "1536MiB")."""
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size and size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return f"{size}B"


def approximate_size(size: int) -> str:
    """For status lines: "1.4 GiB"."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
