"""``GET /containers/{id}/top``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coved.api.http import Request, Response, json_response
from coved.api.router import Router

if TYPE_CHECKING:
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("GET", "/containers/{id*}/top", top)


async def top(engine: Engine, request: Request) -> Response:
    return json_response(await engine.containers.top(request.match["id"], request.query.str("ps_args")))
