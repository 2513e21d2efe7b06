"""Parts of the API that belong to Docker's builder and to cluster volumes: how an engine without answers.

These routes are added last, so that a part that Cove has takes precedence.
"""

from typing import TYPE_CHECKING

from coved.api.http import Request, Response
from coved.api.router import Router
from coved.errors import EngineError, InvalidParameter, NotImplementedByEngine, Unavailable

if TYPE_CHECKING:
    from coved.engine import Engine


class NoUpgrade(EngineError):
    """``POST /grpc`` without an upgrade; 500 is what dockerd gives it."""


def routes(router: Router) -> None:
    router.add("POST", "/session", _session)
    router.add("POST", "/grpc", _grpc)
    router.add("PUT", "/volumes/{name}", _update_cluster_volume)


async def _session(engine: "Engine", request: Request) -> Response:
    if not request.headers.get("upgrade"):
        raise InvalidParameter("no upgrade proto in request")
    raise NotImplementedByEngine("sessions of BuildKit's client are not part of Cove: it has the classic builder's API")


async def _grpc(engine: "Engine", request: Request) -> Response:
    if not request.headers.get("upgrade"):
        raise NoUpgrade("no upgrade proto in request")
    raise NotImplementedByEngine("BuildKit's gRPC is not part of Cove")


async def _update_cluster_volume(engine: "Engine", request: Request) -> Response:
    await request.json()
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
