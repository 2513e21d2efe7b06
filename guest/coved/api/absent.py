"""Parts of the API that belong to Docker's builder and to cluster volumes: how an engine without answers.

These routes are added last, so that a part that Cove has takes precedence.
"""

from typing import TYPE_CHECKING

from coved.api.http import Request, Response, json_response
from coved.api.router import Router
from coved.errors import NotImplementedByEngine, Unavailable

if TYPE_CHECKING:
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("POST", "/build", _build)
    router.add("POST", "/build/prune", _prune_build_cache)
    router.add("PUT", "/volumes/{name}", _update_cluster_volume)


async def _build(engine: "Engine", request: Request) -> Response:
    raise NotImplementedByEngine(
        "this version of Cove cannot build images yet. Build the image elsewhere and bring it in with 'docker save' and"
        " 'docker load', or change a container and make an image of it with 'docker commit'"
    )


async def _prune_build_cache(engine: "Engine", request: Request) -> Response:
    """There is no build cache apart from the images, so that there is nothing to prune."""
    request.query.filters()
    return json_response({"CachesDeleted": None, "SpaceReclaimed": 0})


async def _update_cluster_volume(engine: "Engine", request: Request) -> Response:
    await request.json()
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
