"""Amounts of memory and disk, as people write them."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"([0-9]{1,12}|[0-9]{1,12}\.[0-9]{1,9})\s*(?:([KMGTP])(?:i?B)?|B)?", re.IGNORECASE)
EXAMPLES = "2GiB, 1.5g, 512MB or 2147483648"


def parse_size(text: str) -> int:
    """Bytes of "2GiB", "512mb", "1.5g", "2147483648", in whole ones. As in docker units are powers of 1024, however they are written.
    Raises `ValueError` saying what is expected.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text[:40]!r} is not a size such as {EXAMPLES}")
    return int(Fraction(match[1]) * (1 << 10 * _UNITS[(match[2] or "").upper()]))


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
