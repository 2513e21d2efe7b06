"""/networks of the Engine API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coved.api.http import Request, Response, json_response
from coved.api.router import Router
from coved.errors import InvalidParameter, NotFound
from coved.networks import endpoint_settings
from coved.networks.definition import FALSE, TRUE
from coved.times import parse_time_ns

if TYPE_CHECKING:
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("GET", "/networks", list_networks)
    router.add("POST", "/networks/create", create)
    router.add("POST", "/networks/prune", prune)
    router.add("GET", "/networks/{id}", inspect)
    router.add("DELETE", "/networks/{id}", remove)
    router.add("POST", "/networks/{id}/connect", connect)
    router.add("POST", "/networks/{id}/disconnect", disconnect)


async def list_networks(engine: Engine, request: Request) -> Response:
    networks = engine.networks.list(request.query.filters())
    if request.version < (1, 28):  # the list told of containers then
        networks = [engine.networks.inspect(network["Id"]) for network in networks]
    return json_response(networks)


async def inspect(engine: Engine, request: Request) -> Response:
    reference = request.match["id"]
    verbose = request.query.str("verbose")
    if verbose and verbose not in TRUE | FALSE:
        raise InvalidParameter(
            f'invalid value for verbose: {verbose}: strconv.ParseBool: parsing "{verbose}": invalid syntax'
        )
    network = engine.networks.inspect(reference)
    if request.query.str("scope") not in ("", network["Scope"]):
        raise NotFound(f"network {reference} not found")
    return json_response(network)


async def create(engine: Engine, request: Request) -> Response:
    body = await request.json()
    if request.version < (1, 48):
        body.pop("EnableIPv4", None)  # nobody could say so then
    identity = await engine.networks.create(body)
    return json_response({"Id": identity, "Warning": ""}, 201)


async def remove(engine: Engine, request: Request) -> Response:
    await engine.networks.remove(request.match["id"])
    return Response(204)


async def prune(engine: Engine, request: Request) -> Response:
    filters = request.query.filters()
    until = filters.get("until")
    before = _before(until[0]) if until else None
    return json_response({"NetworksDeleted": await engine.networks.prune(filters, before) or None})


async def connect(engine: Engine, request: Request) -> Response:
    body = await request.json()
    container = engine.containers.get(_container(body))
    endpoint = endpoint_settings.parse(request.match["id"], body.get("EndpointConfig"))
    created = engine.containers.network_request(container)
    await engine.networks.sandboxes.connect(request.match["id"], container.id, container.name, endpoint, created)
    return Response(200)


async def disconnect(engine: Engine, request: Request) -> Response:
    body = await request.json()
    force = body.get("Force") is True
    try:
        container = engine.containers.get(_container(body))
    except NotFound:
        if not force:
            raise
        engine.networks.inspect(request.match["id"])
        raise NotFound(f"endpoint {body['Container']} not found") from None
    created = engine.containers.network_request(container)
    await engine.networks.sandboxes.disconnect(request.match["id"], container.id, force, created)
    return Response(200)


def _container(body: Mapping[str, Any]) -> str:
    reference = body.get("Container")
    if not isinstance(reference, str) or not reference:
        raise InvalidParameter("invalid name or ID supplied: ")
    return reference


def _before(until: str) -> int:
    """``until`` of a prune: a time, or how long ago ("24h"); in nanoseconds since the epoch."""
    return parse_time_ns(until, now_ns=time.time_ns())
