"""Kubernetes' quantities: 500m, 128Mi, 1e3."""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2}|)\Z")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {name: 1 << 10 * (power + 1) for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}


def parse(text: str) -> Decimal:
    """Raises `ValueError`."""
    found = _FORM.match(text)
    if found is None or len(text) > 40:
        raise ValueError(f"{text!r} is no quantity, as 500m, 128Mi or 2 are")
    number, unit = Decimal(found[1]), found[2]
    if unit in _BINARY:
        return number * _BINARY[unit]
    power = _DECIMAL[unit] if unit in _DECIMAL else int(unit[1:])
    return number.scaleb(power)
