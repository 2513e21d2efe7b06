"""The Docker Engine API over the engine's domains: one module for each resource, thin."""

from coved.api.router import Router


def create_router() -> Router:
    """Every route that Cove answers."""
    from coved.api import containers, events, exec, images, networks, system, volumes

    router = Router()
    for resource in (system, events, containers, exec, images, networks, volumes):
        resource.routes(router)
    return router
