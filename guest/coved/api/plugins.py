"""/plugins, as a Docker engine answers that has none: Cove's drivers are built in, and it loads no others."""

from typing import TYPE_CHECKING

from coved.api.http import Request, Response, json_response
from coved.api.router import Router
from coved.errors import InvalidParameter, NotFound, NotImplementedByEngine
from coved.images import reference

if TYPE_CHECKING:
    from coved.engine import Engine

_NONE = "plugins are not part of Cove: its drivers for volumes, networks and logs are built in"


def routes(router: Router) -> None:
    router.add("GET", "/plugins", _list)
    router.add("GET", "/plugins/privileges", _install)
    router.add("POST", "/plugins/pull", _install)
    router.add("POST", "/plugins/create", _create)
    router.add("GET", "/plugins/{name*}/json", _named)
    router.add("DELETE", "/plugins/{name*}", _named)
    router.add("POST", "/plugins/{name*}/enable", _enable)
    router.add("POST", "/plugins/{name*}/disable", _named)
    router.add("POST", "/plugins/{name*}/upgrade", _install)
    router.add("POST", "/plugins/{name*}/push", _push)
    router.add("POST", "/plugins/{name*}/set", _set)


async def _list(engine: "Engine", request: Request) -> Response:
    filters = request.query.filters()
    filters.validate({"capability", "enabled"})
    filters.flag("enabled")
    return json_response([])


async def _named(engine: "Engine", request: Request) -> Response:
    raise NotFound(f'plugin "{request.match["name"]}" not found')


async def _push(engine: "Engine", request: Request) -> Response:
    raise NotFound(f'plugin "{_reference(request.match["name"])}" not found')


async def _enable(engine: "Engine", request: Request) -> Response:
    request.query.int("timeout")
    return await _named(engine, request)


async def _set(engine: "Engine", request: Request) -> Response:
    await _array(request)
    return await _named(engine, request)


async def _install(engine: "Engine", request: Request) -> Response:
    await _array(request)
    _reference(request.query.str("remote"))
    if "name" in request.match:
        raise NotFound(f'plugin "{_reference(request.match["name"])}" not found')
    raise NotImplementedByEngine(_NONE)


async def _create(engine: "Engine", request: Request) -> Response:
    _reference(request.query.str("name"))
    raise NotImplementedByEngine(_NONE)


async def _array(request: Request) -> None:
    value = await request.json_value()
    if value is not None and not isinstance(value, list):
        raise InvalidParameter(f"invalid JSON: expected an array, got {type(value).__name__}")


def _reference(name: str) -> str:
    """The familiar name with its tag; raises ``InvalidParameter``."""
    return reference.parse(name).familiar
