"""All routes of the API."""

from coved.api import absent, containers, events, exec, files, images, networks, plugins, swarm, system, volumes
from coved.api.router import Router


def create_router() -> Router:
    """Every route that Cove answers; one module for each resource."""
    router = Router()
    for resource in (system, events, containers, exec, files, images, networks, volumes, plugins, swarm, absent):
        resource.routes(router)
    return router
