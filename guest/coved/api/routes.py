"""All routes of the API."""

from coved.api import containers, events, exec, images, networks, stats, system, top, volumes
from coved.api.router import Router


def create_router() -> Router:
    """Every route that Cove answers; one module for each resource."""
    router = Router()
    for resource in (system, events, containers, stats, top, exec, images, networks, volumes):
        resource.routes(router)
    return router
