"""``/build``, and the build cache."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from coved.api.http import Request, Response, json_response
from coved.api.router import Router
from coved.times import parse_time_ns, rfc3339

if TYPE_CHECKING:
    from coved.build.upkeep import Entry
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("POST", "/build", _build, cancel_on_disconnect=True)
    router.add("POST", "/build/prune", _prune)


async def _build(engine: Engine, request: Request) -> Response:
    from coved.api.classic_build import build  # most sessions of an engine build nothing

    return await build(engine, request)


def describe(entry: Entry) -> dict[str, Any]:
    """``BuildCache`` of the API."""
    return {
        "ID": entry.id,
        "Parents": [*entry.parents],
        "Type": entry.kind,
        "Description": entry.description,
        "InUse": entry.in_use,
        "Shared": entry.shared,
        "Size": entry.size,
        "CreatedAt": rfc3339(entry.created_ns),
        "LastUsedAt": rfc3339(entry.used_ns),
        "UsageCount": entry.uses,
    }


async def _prune(engine: Engine, request: Request) -> Response:
    from coved.build.cache.filters import of_api
    from coved.build.upkeep import Keep

    query, now = request.query, time.time_ns()
    filters, until = of_api(query.filters())
    gone = await engine.builder.upkeep.prune(
        everything=query.bool("all"),
        unused_for_s=(now - parse_time_ns(until, now_ns=now)) / 1e9 if until else 0.0,
        keep=Keep(
            query.int("reserved-space") or query.int("keep-storage"),
            query.int("max-used-space"),
            query.int("min-free-space"),
        ),
        filters=filters,
    )
    return json_response(
        {"CachesDeleted": [one.id for one in gone] or None, "SpaceReclaimed": sum(one.size for one in gone)}
    )
