"""Docker's names, amounts and texts in Kubernetes' terms."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from cove.errors import CoveError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_BINARY = (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))
_MOST = 63
MOST_IDENTITY = 2147483647


def label(name: str) -> str:
    """`name` as a DNS label (RFC 1123) that Services take as well, which want a letter first (RFC 1035)."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_MOST].rstrip("-")
    if not made:
        raise CoveError(f"no name for Kubernetes can be made of {name!r}", "give it one of letters, digits and '-'")
    return made if made[0].isalpha() else f"n{made}"[:_MOST].rstrip("-")


def unique(names: Iterable[str]) -> dict[str, str]:
    """Each name's label. Raises `CoveError` for two that would have the same."""
    made: dict[str, str] = {}
    for name in names:
        one = label(name)
        other = next((known for known, its in made.items() if its == one and known != name), None)
        if other is not None:
            raise CoveError(f"{other!r} and {name!r} would both be {one!r} in Kubernetes", "give one another name")
        made[name] = one
    return made


def seconds(duration: str | int | float) -> float:
    """Of Go's `1m30s`, or of nanoseconds."""
    if not isinstance(duration, str):
        return duration / 1e9
    parts = re.findall(r"([0-9.]+)(h|ms|us|µs|ns|m|s)", duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise CoveError(f"not a length of time: {duration!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def whole_seconds(length: float) -> int:
    return max(1, math.ceil(length - 1e-9))


def memory(size: str | int) -> str:
    number = int(size)
    unit, factor = next(((unit, factor) for unit, factor in _BINARY if number % factor == 0), ("", 1))
    return f"{number // factor}{unit}"


def cpus(amount: str | float) -> str:
    thousandths = math.ceil(float(amount) * 1000 - 1e-6)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def literal(text: str) -> str:
    """A text of a container in which Kubernetes, that replaces `$(NAME)` and takes `$$` for `$`, changes nothing."""
    return text.replace("$", "$$") if "$(" in text or "$$" in text else text


def number(text: str) -> int | None:
    """None for anything else, as a name is."""
    return int(text) if re.fullmatch("[0-9]{1,10}", text) else None


def identity(text: str) -> int | None:
    """Of a user or a group, as Kubernetes takes them."""
    found = number(text)
    return found if found is not None and found <= MOST_IDENTITY else None


def is_annotation(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    part = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    return bool(
        re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name)
        and (not slash or (len(prefix) <= 253 and re.fullmatch(rf"{part}(\.{part})*", prefix)))
    )
