"""Times as Docker's clients send them: ``since``, ``until`` and filters of that name."""

import re
from datetime import UTC, datetime, timedelta

from coved.errors import InvalidParameter

_UNIX = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,9}))?")
_DURATION = re.compile(r"(?:[0-9]{1,19}(?:\.[0-9]{1,19})?(?:h|m(?!s)|s|ms|us|µs|ns)){1,16}")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3, "ns": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"(\.\d{6})\d+")


def parse_time_ns(text: str, *, now_ns: int) -> int:
    """Unix nanoseconds of ``1700000000.5``, RFC 3339 text, or a duration before now such as ``10m``.

    Raises ``InvalidParameter`` for anything else.
    """
    match = _UNIX.fullmatch(text)
    if match:
        return int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0"))
    if _DURATION.fullmatch(text):
        return now_ns - int(sum(float(value) * _NANOSECONDS[unit] for value, unit in _PART.findall(text)))
    try:
        return parse_rfc3339_ns(text)
    except (ValueError, OverflowError):
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"') from None


def rfc3339(nanoseconds: int) -> str:
    """Unix nanoseconds as UTC text with nine digits of fraction."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"


def go_rfc3339(nanoseconds: int) -> str:
    """The same with the fraction's trailing zeros cut (Go's RFC3339Nano)."""
    return rfc3339(nanoseconds).rstrip("Z").rstrip("0").rstrip(".") + "Z"


def parse_rfc3339_ns(text: str) -> int:
    """Unix nanoseconds (to the microsecond) of RFC 3339 text; raises ``ValueError``."""
    moment = datetime.fromisoformat(_FRACTION.sub(r"\1", text).replace("Z", "+00:00"))
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
