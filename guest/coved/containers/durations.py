"""Times as Docker prints them: RFC 3339 with nanoseconds, and durations in words."""

from __future__ import annotations

from coved.times import go_rfc3339

ZERO = "0001-01-01T00:00:00Z"
"""How Go prints a time that never was; Docker's clients compare with it."""

NANOSECONDS = 1_000_000_000


def rfc3339(nanoseconds: int) -> str:
    """UTC in RFC 3339 with the fraction's trailing zeros cut (Go's RFC3339Nano); 0 gives Go's zero time."""
    return ZERO if nanoseconds == 0 else go_rfc3339(nanoseconds)


def in_words(nanoseconds: int) -> str:
    """A duration in one unit, in the words and with the rounding of ``docker ps``: ``3 seconds``, ``About an hour``, ``2 weeks``."""
    seconds = max(nanoseconds, 0) // NANOSECONDS
    minutes = seconds // 60
    hours = (seconds + 1800) // 3600
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{seconds // 3600 // 24 // 365} years"


def go_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: ``1.5s``, ``2m0s``, ``100ms``."""
    if nanoseconds < NANOSECONDS:
        for unit, size in (("ms", 1_000_000), ("\N{MICRO SIGN}s", 1_000)):
            if nanoseconds >= size:
                return f"{_decimal(nanoseconds, size)}{unit}"
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    minutes, rest = divmod(nanoseconds, 60 * NANOSECONDS)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, NANOSECONDS)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
