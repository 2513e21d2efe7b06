"""``/volumes``."""

from typing import TYPE_CHECKING, Any

from coved.api.http import Request, Response, json_response
from coved.api.router import Router
from coved.api.swarm import NO_MANAGER
from coved.errors import InvalidParameter, Unavailable
from coved.volumes import Volume

if TYPE_CHECKING:
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("GET", "/volumes", _list)
    router.add("POST", "/volumes/create", _create)
    router.add("POST", "/volumes/prune", _prune)
    router.add("GET", "/volumes/{name}", _inspect)
    router.add("DELETE", "/volumes/{name}", _remove)


def describe(volume: Volume) -> dict[str, Any]:
    """A volume as the API shows it."""
    return {
        "CreatedAt": f"{volume.created:%Y-%m-%dT%H:%M:%SZ}",
        "Driver": "local",
        "Labels": dict(sorted(volume.labels.items())) or None,
        "Mountpoint": str(volume.path),
        "Name": volume.name,
        "Options": dict(sorted(volume.options.items())) or None,
        "Scope": "local",
    }


async def _list(engine: "Engine", request: Request) -> Response:
    volumes = engine.volumes.list(request.query.filters())
    return json_response({"Volumes": [describe(volume) for volume in volumes], "Warnings": None})


async def _create(engine: "Engine", request: Request) -> Response:
    config = await request.json()
    if config.get("ClusterVolumeSpec") is not None and request.version >= (1, 42):
        raise Unavailable(NO_MANAGER)
    volume = await engine.volumes.create(
        _text(config, "Name"),
        driver=_text(config, "Driver"),
        labels=_texts(config, "Labels"),
        options=_texts(config, "DriverOpts"),
    )
    return json_response(describe(volume), 201)


async def _inspect(engine: "Engine", request: Request) -> Response:
    return json_response(describe(engine.volumes.get(request.match["name"])))


async def _remove(engine: "Engine", request: Request) -> Response:
    await engine.volumes.remove(request.match["name"], force=request.query.bool("force"))
    return Response(204)


async def _prune(engine: "Engine", request: Request) -> Response:
    # Before 1.42, a prune took named volumes too.
    pruned = await engine.volumes.prune(request.query.filters(), all_by_default=request.version < (1, 42))
    return json_response({"VolumesDeleted": pruned.names or None, "SpaceReclaimed": pruned.reclaimed})


def _text(config: dict[str, Any], key: str) -> str:
    value = config.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidParameter(f"invalid JSON: {key} must be a string")
    return value


def _texts(config: dict[str, Any], key: str) -> dict[str, str]:
    value = config.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise InvalidParameter(f"invalid JSON: {key} must be an object of strings")
    return value
