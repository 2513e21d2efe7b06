"""``GET /events``."""

import time
from typing import TYPE_CHECKING

from coved.api.http import Request, Response, json_stream
from coved.api.router import Router
from coved.errors import InvalidParameter
from coved.times import parse_time_ns

if TYPE_CHECKING:
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("GET", "/events", _events)


async def _events(engine: "Engine", request: Request) -> Response:
    now_ns = time.time_ns()
    since = request.query.str("since")
    until = request.query.str("until")
    since_ns = parse_time_ns(since, now_ns=now_ns) if since else None
    until_ns = parse_time_ns(until, now_ns=now_ns) if until else None
    if since_ns is not None and until_ns is not None and since_ns > until_ns:
        raise InvalidParameter(f"`since` time ({since}) cannot be after `until` time ({until})")
    return json_stream(engine.events.subscribe(request.query.filters(), since_ns, until_ns))
