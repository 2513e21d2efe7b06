"""All routes of the API."""

from coved.api import (
    attach_ws,
    build,
    build_history,
    buildkit,
    containers,
    events,
    exec,
    files,
    images,
    networks,
    plugins,
    registry,
    stats,
    swarm,
    system,
    top,
    volume_archives,
    volumes,
)
from coved.api.router import Router


def create_router() -> Router:
    """Every route that Cove answers; one module for each resource."""
    router = Router()
    resources = (
        system, events, containers, attach_ws, stats, top, files, exec, registry, images, networks, volumes, volume_archives, build,
        build_history, buildkit, plugins, swarm,
    )  # fmt: skip
    for resource in resources:
        resource.routes(router)
    return router
