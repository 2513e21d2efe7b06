"""``/cove/builds``: what was built, as JSON. BuildKit's clients have the same by its protocol; a page in a browser cannot speak that
(docs/decisions/0068)."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from coved.api.http import Request, Response, json_stream
from coved.api.router import Router
from coved.times import go_rfc3339

if TYPE_CHECKING:
    from coved.buildkit.history import Entry
    from coved.buildkit.messages import (
        BuildHistoryRecord,
        StatusResponse,
        Vertex,
        VertexLog,
        VertexStatus,
        VertexWarning,
    )
    from coved.engine import Engine

log = logging.getLogger(__name__)


def routes(router: Router) -> None:
    router.add("GET", "/cove/builds", _list)
    router.add("GET", "/cove/builds/{ref}/progress", _progress)
    router.add("DELETE", "/cove/builds/{ref}", _remove)


async def _list(engine: Engine, request: Request) -> Response:
    return json_stream(_told(engine, follow=request.query.bool("follow")))


async def _told(engine: Engine, *, follow: bool) -> AsyncIterator[object]:
    """All that there is, the oldest first; then ``{"Ready": true}``, and what changes."""
    from coved.buildkit.messages import HISTORY_DELETED

    history = engine.build_history
    with history.listening() as events:
        for entry in reversed(await history.entries()):
            if described := _build(entry):
                yield described
        if not follow:
            return
        yield {"Ready": True}
        async for kind, entry in events:
            if described := {"Removed": entry.record.ref} if kind == HISTORY_DELETED else _build(entry):
                yield described


def _build(entry: Entry) -> dict[str, Any] | None:
    """None for one of which this fails: clients and files have told of it, and the list goes on without."""
    try:
        return {"Build": describe(entry)}
    except Exception:
        log.exception("build %s cannot be told of", entry.record.ref)
        return None


async def _progress(engine: Engine, request: Request) -> Response:
    from coved.buildkit.history import no_record

    ref = request.match["ref"]
    entry = await engine.build_history.find(ref)
    if entry is None:
        raise no_record(ref)

    async def told() -> AsyncIterator[object]:
        async for message in engine.build_history.follow(entry):
            yield solve_status(message)

    return json_stream(told())


async def _remove(engine: Engine, request: Request) -> Response:
    await engine.build_history.remove(request.match["ref"])
    return Response(204)


def describe(entry: Entry) -> dict[str, Any]:
    """With BuildKit's names (BuildHistoryRecord)."""
    from coved.buildkit.records import state

    record = entry.record
    return _without_empty(
        {
            "Ref": record.ref,
            "State": state(record),
            "Context": entry.kept.context,
            "FrontendAttrs": record.frontend_attrs,
            "Exporters": [{"Type": one.type, "Attrs": one.attrs} for one in record.exporters],
            "ExporterResponse": record.exporter_response,
            "CreatedAt": go_rfc3339(record.created_at),
            "CompletedAt": _time(record.completed_at),
            "Error": _error(record),
            "Pinned": record.pinned,
        }
    ) | {
        "Steps": {
            "Total": record.num_total_steps, "Cached": record.num_cached_steps, "Completed": record.num_completed_steps,
        },
        "Warnings": record.num_warnings,
    }  # fmt: skip


def _error(record: BuildHistoryRecord) -> dict[str, Any] | None:
    from coved.buildkit.records import failed_lines

    if record.error is None:
        return None
    lines = failed_lines(record.error)
    source = lines and {
        "Filename": lines.filename, "Text": lines.text, "First": lines.location.first, "Last": lines.location.last,
    }  # fmt: skip
    return _without_empty({"Message": record.error.message, "Source": source})


def solve_status(message: StatusResponse) -> dict[str, Any]:
    """As ``docker buildx build --progress rawjson`` has it (client.SolveStatus)."""
    return _without_empty(
        {
            "vertexes": [_vertex(each) for each in message.vertexes],
            "statuses": [_transfer(each) for each in message.statuses],
            "logs": [_log(each) for each in message.logs],
            "warnings": [_warning(each) for each in message.warnings],
        }
    )


def _vertex(vertex: Vertex) -> dict[str, Any]:
    return _without_empty(
        {
            "digest": vertex.digest,
            "name": vertex.name,
            "started": _time(vertex.started),
            "completed": _time(vertex.completed),
            "cached": vertex.cached,
            "error": vertex.error,
        }
    )


def _transfer(status: VertexStatus) -> dict[str, Any]:
    return _without_empty(
        {
            "id": status.id,
            "vertex": status.vertex,
            "name": status.name,
            "total": status.total,
            "started": _time(status.started),
            "completed": _time(status.completed),
        }
    ) | {"current": status.current, "timestamp": _time(status.timestamp)}


def _log(log: VertexLog) -> dict[str, Any]:
    data = base64.b64encode(log.msg).decode("ascii")
    return {"vertex": log.vertex, "stream": log.stream, "data": data, "timestamp": _time(log.timestamp)}


def _warning(warning: VertexWarning) -> dict[str, Any]:
    return _without_empty(
        {
            "vertex": warning.vertex,
            "level": warning.level,
            "short": base64.b64encode(warning.short).decode("ascii"),
            "detail": [base64.b64encode(line).decode("ascii") for line in warning.detail],
            "url": warning.url,
        }
    )


def _time(ns: int) -> str:
    return go_rfc3339(ns) if ns else ""


def _without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
