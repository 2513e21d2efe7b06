"""Numbers, times and tables in the words and widths of docker's CLI (Go's text/tabwriter, docker/go-units)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def human_duration(seconds: float) -> str:
    """A length of time in one unit, "About a minute", as `docker ps` says it."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
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
    return f"{int(seconds / 3600) // 24 // 365} years"


def _scaled(size: float, base: float, units: Sequence[str], digits: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{size:.{digits}g}{units[index]}"


def human_size(size: float, digits: int = 4) -> str:
    """Bytes in decimal units: 1.984MB."""
    return _scaled(size, 1000.0, DECIMAL_UNITS, digits)


def bytes_size(size: float) -> str:
    """Bytes in binary units: 23.54GiB."""
    return _scaled(size, 1024.0, BINARY_UNITS, 4)


def parse_time(text: str) -> float:
    """An RFC 3339 time with up to nanoseconds as seconds since the epoch; 0 for none or Go's zero time."""
    if not text or text.startswith("0001-"):
        return 0.0
    import calendar
    import re

    match = re.fullmatch(r"(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)(\.\d+)?(Z|([+-])(\d\d):(\d\d))", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time")
    seconds = float(calendar.timegm((*(int(part) for part in match.groups()[:6]), 0, 0, 0)))
    if match[9]:
        offset = int(match[10]) * 3600 + int(match[11]) * 60
        seconds -= offset if match[9] == "+" else -offset
    return seconds + float(match[7] or 0)


def ago(created: float, now: float | None = None) -> str:
    """ "2 minutes ago"; "N/A" for a time that is not known."""
    if created <= 0:
        return "N/A"
    return human_duration((time.time() if now is None else now) - created) + " ago"


def local_time(seconds: float) -> str:
    """Go's default form of a local time: 2026-11-24 20:10:21 +0000 UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def rfc3339(seconds: float) -> str:
    """A local time to the second: 2026-11-24T20:10:21Z, or with +01:00 for the Z."""
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")


def go_time(text: str) -> str:
    """An RFC 3339 time as Go prints one: 2026-11-24 20:09:21.169896611 +0000 UTC."""
    date, _, rest = text.partition("T")
    clock, zone = (rest[:-1], "") if rest.endswith("Z") else (rest[:-6], rest[-6:].replace(":", ""))
    if "." in clock:
        clock = clock.rstrip("0").rstrip(".")
    return f"{date} {clock} {zone or '+0000'} {zone or 'UTC'}"


def table(rows: Iterable[Sequence[str]], *, minimum: int = 10, padding: int = 3) -> str:
    """Columns as Go's tabwriter lays them out: all but the last padded to the widest cell plus `padding`."""
    rows = list(rows)
    count = max((len(row) for row in rows), default=0)
    widths = [
        max([minimum, *(len(row[column]) + padding for row in rows if column < len(row) - 1)])
        for column in range(count)
    ]
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[column]) for column, cell in enumerate(row[:-1])]
        lines.append("".join([*cells, row[-1] if row else ""]))
    return "".join(line + "\n" for line in lines)


def truncate(text: str, length: int) -> str:
    """At most `length` characters, the last an ellipsis when something was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def short_id(identity: str) -> str:
    return identity.partition(":")[2][:12] if ":" in identity else identity[:12]


Row = Mapping[str, Any]


class Method:
    """A method of a row that takes one text, `{{.Label "x"}}`."""

    def __init__(self, name: str, of: Callable[[str], Any]) -> None:
        self._name = name
        self._of = of

    def __call__(self, *arguments: Any) -> Any:
        """Raises `ValueError` for any other number of arguments."""
        if len(arguments) != 1:
            raise ValueError(f"wrong number of args for {self._name}: want 1 got {len(arguments)}")
        return self._of(arguments[0])


def label_of(labels: Mapping[str, str]) -> Method:
    """`.Label` of what has `labels`."""
    return Method("Label", lambda name: labels.get(name, ""))


def render(rows: Iterable[Row], form: str, headers: Mapping[str, str], default: Sequence[str], kind: str) -> str:
    """What a list command prints: a table of the `default` columns, or what `--format` (`form`) asks for.

    A row maps the names that a template may use to text, or to a method. `kind` is the type in docker's error for a
    name that does not exist, of Go's package `formatter` unless it says of which.
    """
    if form in ("", "table"):
        cells = [[headers[name] for name in default]]
        cells += [[str(row[name]) for name in default] for row in rows]
        return table(cells)
    from cove.cli.gotemplate import HEADER_FUNCTIONS, GoMap, GoStruct, Template, TemplateError

    if form == "json":
        return "".join(GoStruct(row).marshalled() + "\n" for row in rows)
    is_table = form.startswith("table ")
    source = (form[6:].strip() if is_table else form).replace("\\t", "\t").replace("\\n", "\n")

    def missing(name: str) -> str:
        return f"can't evaluate field {name} in type *{kind if '.' in kind else f'formatter.{kind}'}"

    try:
        template = Template(source)
        lines = [template.render(GoStruct(row), missing) for row in rows]
    except TemplateError as error:
        raise TemplateError(f"template parsing error: {error.message}") from error
    if not is_table:
        return "".join(line + "\n" for line in lines)
    # docker passes over mistakes that only the names of columns bring about.
    head = GoMap({**headers, "Label": Method("Label", _heading)})
    begun = Template(source, HEADER_FUNCTIONS).begin(head, missing)
    return table([line.split("\t") for line in [begun, *lines]])


def _heading(label: str) -> str:
    """The column of a label: `com.example.my-label` is "my label" (`SubHeaderContext.Label`)."""
    return label.rpartition(".")[2].replace("-", " ").replace("_", " ")
