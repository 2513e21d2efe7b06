"""`--since` and `--until` as docker's CLI reads them, with its words and those of Go's time package for what is none."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone

from cove.cli.errors import CliError
from cove.cli.values import duration

_ELEMENT = re.compile(r"2006|01|02|15|04|05|\.999999999|Z07:00|[^0-9.Z]+")
_MINUTE = timedelta(minutes=1)
_RANGES = {"01": ("month", 1, 12), "15": ("hour", 0, 23), "04": ("minute", 0, 59), "05": ("second", 0, 59)}


def timestamp(text: str, now: float | None = None) -> str:
    """`10m` (ago), an RFC 3339 time, a local date, or a Unix time, as the API's `seconds[.nanoseconds]`.

    Raises `CliError`. `now`: Unix seconds.
    """
    try:
        return _timestamp(text, time.time() if now is None else now)
    except ValueError as error:
        raise CliError(str(error)) from None


def _timestamp(text: str, now: float) -> str:
    try:
        if text != "0":
            return str(int((int(now * 10**9) - duration(text)) // 10**9))
    except ValueError:
        pass
    zoned = any(one in text for one in "zZ+") or text.count("-") == 3
    try:
        seconds, nanoseconds = _parse(_layout(text, zoned), text, now)
    except ValueError:
        if "-" in text:
            raise
        # The API takes int64 of both.
        match = re.fullmatch(r"([+-]?[0-9]+)(?:\.([+-]?[0-9]+))?", text)
        if match is None or any(abs(int(part)) >= 1 << 63 for part in match.groups() if part):
            raise ValueError(f'failed to parse value as time or duration: "{text}"') from None
        return text
    return f"{seconds}.{nanoseconds:09d}"


def _layout(text: str, zoned: bool) -> str:
    zone = "Z07:00" if zoned else ""
    if "." in text:
        return f"2006-01-02T15:04:05.999999999{zone}"
    if "T" not in text:
        return f"2006-01-02{zone}"
    colons = text.count(":")
    if zoned and colons and "z" not in text and "Z" not in text:
        colons -= 1  # that of the zone
    return "2006-01-02T15" + ("", ":04", ":04:05")[min(colons, 2)] + zone


def _parse(layout: str, text: str, now: float) -> tuple[int, int]:
    """Unix seconds and nanoseconds of `text`, read as Go's time.Parse reads it. Raises ValueError."""
    reader = _Reader(layout, text)
    for element in _ELEMENT.findall(layout):
        reader.take(element)
    if reader.rest:
        raise ValueError(f'parsing time "{text}": extra text: "{reader.rest}"')
    found = reader.found
    offset = reader.offset
    if offset is None:
        offset = datetime.fromtimestamp(now, UTC).astimezone().utcoffset() or timedelta()
    try:
        moment = datetime(
            found["2006"], found["01"], found["02"], found.get("15", 0), found.get("04", 0), found.get("05", 0),
            tzinfo=timezone(offset),
        )  # fmt: skip
    except ValueError:
        raise ValueError(f'parsing time "{text}": day out of range') from None
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1), reader.nanoseconds


class _Reader:
    """What is left of the text, and what was found before that."""

    def __init__(self, layout: str, text: str) -> None:
        self._layout = layout
        self._text = text
        self.rest = text
        self.found: dict[str, int] = {}
        self.nanoseconds = 0
        self.offset: timedelta | None = None

    def take(self, element: str) -> None:
        if element == ".999999999":
            self._fraction()
        elif element == "Z07:00":
            self._zone()
        elif element[0].isdigit():
            self._number(element)
        else:
            self._literal(element)

    def _number(self, element: str) -> None:
        digits = {"2006": "[0-9]{4}", "15": "[0-9]{1,2}"}.get(element, "[0-9]{2}")
        match = re.match(digits, self.rest)
        if match is None:
            raise self._bad(element, self.rest)
        value = self.found[element] = int(match[0])
        self.rest = self.rest[match.end() :]
        if element in _RANGES:
            name, least, most = _RANGES[element]
            if not least <= value <= most:
                raise ValueError(f'parsing time "{self._text}": {name} out of range')
        if element == "05":
            self._fraction()  # also where the layout has none

    def _fraction(self) -> None:
        match = re.match(r"[.,]([0-9]+)", self.rest)
        if match is not None:
            self.nanoseconds = int(match[1][:9].ljust(9, "0"))
            self.rest = self.rest[match.end() :]

    def _zone(self) -> None:
        if self.rest.startswith("Z"):
            self.rest, self.offset = self.rest[1:], timedelta()
            return
        match = re.match(r"([+-])([0-9]{2}):([0-9]{2})", self.rest)
        if match is None:
            raise self._bad("Z07:00", self.rest)
        if int(match[2]) > 24:
            raise ValueError(f'parsing time "{self._text}": time zone offset hour out of range')
        if int(match[3]) > 60:
            raise ValueError(f'parsing time "{self._text}": time zone offset minute out of range')
        minutes = min(int(match[2]) * 60 + int(match[3]), 24 * 60 - 1)
        self.offset = minutes * _MINUTE * (-1 if match[1] == "-" else 1)
        self.rest = self.rest[match.end() :]

    def _literal(self, element: str) -> None:
        if not self.rest.startswith(element):
            raise self._bad(element, self.rest)
        self.rest = self.rest[len(element) :]

    def _bad(self, element: str, rest: str) -> ValueError:
        return ValueError(f'parsing time "{self._text}" as "{self._layout}": cannot parse "{rest}" as "{element}"')
