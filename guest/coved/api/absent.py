"""The part of the API that belongs to cluster volumes: how an engine without answers.

These routes are added last, so that a part that Cove has takes precedence.
"""

from typing import TYPE_CHECKING

from coved.api.http import Request, Response
from coved.api.router import Router
from coved.errors import Unavailable

if TYPE_CHECKING:
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("PUT", "/volumes/{name}", _update_cluster_volume)


async def _update_cluster_volume(engine: "Engine", request: Request) -> Response:
    await request.json()
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
