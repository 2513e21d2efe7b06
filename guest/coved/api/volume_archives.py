"""``/cove/volumes/{name}/archive``: no part of Docker's API, which has no way to carry a volume (docs/decisions/0040)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coved.api.http import Request, Response, json_response
from coved.api.router import Router
from coved.api.volumes import describe

if TYPE_CHECKING:
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("GET", "/cove/volumes/{name}/archive", _read)
    router.add("PUT", "/cove/volumes/{name}/archive", _write, cancel_on_disconnect=True)


async def _read(engine: Engine, request: Request) -> Response:
    kind, archive = await engine.volume_archives.read(request.match["name"], request.query.str("compression") or "none")
    return Response(200, {"Content-Type": kind}, archive)


async def _write(engine: Engine, request: Request) -> Response:
    volume, new = await engine.volume_archives.write(
        request.match["name"], request.body(), replace=request.query.bool("replace")
    )
    return json_response(describe(volume), 201 if new else 200)
