"""Progress as JSON for programs, one message a line, with BuildKit's names (client.SolveStatus)."""

from __future__ import annotations

import base64
import json
from typing import Any, BinaryIO

from cove.build.status import SECOND, Log, Part, Range, Source, Status, Vertex, Warn
from cove.build.trace import Trace


class RawJson:
    """The display."""

    def __init__(self, out: BinaryIO) -> None:
        self.trace = Trace()
        self._out = out

    def update(self, status: Status) -> None:
        self.trace.warnings += status.warnings
        told = {
            "vertexes": [_vertex(vertex) for vertex in status.vertexes],
            "statuses": [_part(part) for part in status.parts],
            "logs": [_log(log) for log in status.logs],
            "warnings": [warning(each) for each in status.warnings],
        }
        text = json.dumps(
            {key: value for key, value in told.items() if value}, separators=(",", ":"), ensure_ascii=False
        )
        self._out.write(f"{text}\n".encode(errors="replace"))
        self._out.flush()

    def refresh(self) -> None:
        """Nothing is held back."""

    def done(self) -> None:
        """Nothing comes at the end."""


def _time(moment: int | None) -> str:
    """RFC 3339 with as many digits as there are, as Go's encoding/json has it."""
    import datetime

    if moment is None:
        return ""
    seconds, rest = divmod(moment, SECOND)
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{text}{fraction}Z"


def _told(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _vertex(vertex: Vertex) -> dict[str, Any]:
    group = vertex.group
    return _told(
        {
            "digest": vertex.digest,
            "inputs": list(vertex.inputs),
            "name": vertex.name,
            "started": _time(vertex.started),
            "completed": _time(vertex.completed),
            "cached": vertex.cached,
            "error": vertex.error,
            "progressGroup": group and _told({"id": group.id, "name": group.name, "weak": group.weak}),
        }
    )


def _part(part: Part) -> dict[str, Any]:
    return {
        "id": part.id,
        **_told({"vertex": part.vertex, "name": part.name, "total": part.total}),
        "current": part.current,
        "timestamp": _time(part.timestamp),
        **_told({"started": _time(part.started), "completed": _time(part.completed)}),
    }


def _log(log: Log) -> dict[str, Any]:
    return {
        **_told({"vertex": log.vertex, "stream": log.stream}),
        "data": base64.b64encode(log.data).decode(),
        "timestamp": _time(log.timestamp),
    }


def warning(each: Warn) -> dict[str, Any]:
    """A warning, as it stands in a metadata file, too."""
    return _told(
        {
            "vertex": each.vertex,
            "level": each.level,
            "short": base64.b64encode(each.short.encode()).decode(),
            "detail": [base64.b64encode(line.encode()).decode() for line in each.detail],
            "url": each.url,
            "sourceInfo": each.source and _source(each.source),
            "range": [_range(lines) for lines in each.ranges],
        }
    )


def _source(source: Source) -> dict[str, Any]:
    data = base64.b64encode(source.data).decode()
    return _told({"filename": source.filename, "data": data, "language": source.language})


def _range(lines: Range) -> dict[str, Any]:
    return {
        "start": _told({"line": lines.start, "character": lines.start_character}),
        "end": _told({"line": lines.end, "character": lines.end_character}),
    }
