"""Signals by name or number, as clients send them."""

from __future__ import annotations

import signal

from coved.errors import InvalidParameter

LAST = 64  # SIGRTMAX on Linux

_NAMES = {name: int(number) for name, number in signal.Signals.__members__.items()}
_NUMBERS = {*range(1, 32), *range(_NAMES["SIGRTMIN"], LAST + 1)}  # the two before SIGRTMIN are the C library's


def supported(text: str) -> int:
    """As ``number``, with dockerd's words for a number that is no signal. Raises InvalidParameter."""
    digits = text.removeprefix("+").removeprefix("-")
    if digits.isascii() and digits.isdigit() and text.lstrip("+-0"):
        value = int(text) if len(text) <= 9 else 0
        if value not in _NUMBERS:
            raise InvalidParameter(f"the linux daemon does not support signal {text}")
        return value
    return number(text)


def number(text: str) -> int:
    """``KILL``, ``SIGKILL``, ``sigkill`` and ``9`` are one signal. Raises InvalidParameter for anything Linux does not have."""
    if text.isascii() and text.isdigit():
        value = int(text) if len(text) <= 2 else 0
        if 1 <= value <= LAST:
            return value
        raise InvalidParameter(f"invalid signal: {text}")
    upper = text.upper()
    name = upper if upper.startswith("SIG") else "SIG" + upper
    found = _NAMES.get(name)
    if found is not None:
        return found
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    if base in ("SIGRTMIN", "SIGRTMAX") and offset.isdigit() and len(offset) <= 2:
        value = _NAMES[base] + (int(offset) if sign == "+" else -int(offset))
        if _NAMES["SIGRTMIN"] <= value <= _NAMES["SIGRTMAX"]:
            return value
    raise InvalidParameter(f"invalid signal: {text}")
