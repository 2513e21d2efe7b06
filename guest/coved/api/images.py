"""``/images``."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import h11

from coved.api import compat, image_manifests, registry
from coved.api.http import Request, Response, json_response, json_stream
from coved.api.progress import following, streamed
from coved.api.router import Router
from coved.errors import InvalidParameter
from coved.images import Image, Removed, documents
from coved.images.documents import Platform
from coved.images.manager import parse_name
from coved.images.selection import created_s
from coved.versions import ApiVersion

_BACK = "back:"

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from coved.engine import Engine


def routes(router: Router) -> None:
    router.add("GET", "/images/json", _list)
    router.add("POST", "/images/load", _load)
    router.add("POST", "/images/create", _create, cancel_on_disconnect=True)
    router.add("POST", "/images/prune", _prune)
    router.add("GET", "/images/get", _save_several)
    router.add("GET", "/images/{name*}/get", _save)
    router.add("GET", "/images/{name*}/json", _inspect)
    router.add("GET", "/images/{name*}/history", _history)
    router.add("POST", "/images/{name*}/tag", _tag)
    router.add("DELETE", "/images/{name*}", _remove)


def summary(engine: "Engine", image: Image, version: ApiVersion) -> dict[str, Any]:
    """An image as lists show it."""
    fields: dict[str, Any] = {
        "Containers": -1,
        "Created": created_s(image.created),
        "Id": image.id,
        "Labels": image.labels or None,
        "ParentId": engine.images.parent(image),
        "RepoDigests": list(image.digests),
        "RepoTags": list(image.tags),
        "SharedSize": -1,
        "Size": image.size,
    }
    return compat.image_summary(fields, version)


async def _list(engine: "Engine", request: Request) -> Response:
    await engine.images.ready()
    filters = request.query.filters()
    if request.version < (1, 41) and request.query.str("filter"):
        filters = filters.adding("reference", request.query.str("filter"))
    images = engine.images.list(filters)
    with_manifests = request.version >= (1, 47) and request.query.bool("manifests")
    if with_manifests:  # platforms are told of in there
        images = [image for image in images if engine.images.platforms(image)[0].id == image.id]
    summaries = [summary(engine, image, request.version) for image in images]
    for fields in summaries:
        if with_manifests:
            fields["Manifests"] = image_manifests.of(engine, engine.images.get(fields["Id"]))
            if fields["Manifests"]:  # dockerd, too, then tells of all that the image takes, whose parts they are
                fields["Size"] = sum(one["Size"]["Total"] for one in fields["Manifests"])
        if request.version >= (1, 51):
            fields["Containers"] = engine.images.containers_of(engine.images.get(fields["Id"]))
        if request.version >= (1, 42) and request.query.bool("shared-size"):
            fields["SharedSize"] = engine.images.shared_size(engine.images.get(fields["Id"]))
    return json_response(summaries)


async def _inspect(engine: "Engine", request: Request) -> Response:
    await engine.images.ready()
    if request.query.bool("manifests") and request.query.str("platform"):
        raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
    image = engine.images.get(request.match["name"], _platform(request, (1, 49)))
    config = image.config
    description: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Parent": engine.images.parent(image),
        "Comment": _comment(image),
        "DockerVersion": str(config.get("docker_version") or ""),
        "Author": str(config.get("author") or ""),
        "Config": _container_config(image),
        "Architecture": str(config.get("architecture") or ""),
        "Os": str(config.get("os") or "linux"),
        "Size": image.size,
        "GraphDriver": {"Name": "overlay2", "Data": _graph_data(engine, image)},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": image.tagged_at or "0001-01-01T00:00:00Z"},
    }
    if config.get("variant"):
        description["Variant"] = config["variant"]
    if image.created:
        description["Created"] = image.created
    if request.version >= (1, 48) and request.query.bool("manifests"):
        description["Manifests"] = image_manifests.of(engine, image)
    return json_response(compat.image_inspect(description, request.version))


async def _history(engine: "Engine", request: Request) -> Response:
    await engine.images.ready()
    image = engine.images.get(request.match["name"], _platform(request, (1, 48)))
    return json_response(engine.images.history(image))


async def _tag(engine: "Engine", request: Request) -> Response:
    await engine.images.ready()
    engine.images.tag(request.match["name"], request.query.str("repo"), request.query.str("tag"))
    return Response(201)


async def _remove(engine: "Engine", request: Request) -> Response:
    await engine.images.ready()
    wanted = request.query.list("platforms") if request.version >= (1, 50) else []
    removed = await engine.images.remove(
        request.match["name"], force=request.query.bool("force"), platforms=[documents.platform(one) for one in wanted]
    )
    return json_response([_removed(item) for item in removed])


async def _prune(engine: "Engine", request: Request) -> Response:
    await engine.images.ready()
    pruned = await engine.images.prune(request.query.filters())
    return json_response(
        {"ImagesDeleted": [_removed(item) for item in pruned.removed] or None, "SpaceReclaimed": pruned.reclaimed}
    )


async def _load(engine: "Engine", request: Request) -> Response:
    """The status is sent before the archive has come: an error is the last message."""
    quiet, platform = request.query.bool("quiet"), _platform(request, (1, 48))
    return json_stream(
        following(lambda report: engine.images.load(read_body(request), report, quiet=quiet, platform=platform))
    )


async def _save(engine: "Engine", request: Request) -> Response:
    return await _archive(engine, request, [request.match["name"]])


async def _save_several(engine: "Engine", request: Request) -> Response:
    return await _archive(engine, request, request.query.list("names"))


async def _archive(engine: "Engine", request: Request, names: list[str]) -> Response:
    await engine.images.ready()
    archive = await engine.images.save(names, _platform(request, (1, 48)))
    return Response(200, {"Content-Type": "application/x-tar"}, archive)


def _platform(request: Request, since: tuple[int, int]) -> Platform | None:
    text = request.query.str("platform")
    return documents.platform(text) if text and request.version >= since else None


async def _create(engine: "Engine", request: Request) -> Response:
    source = request.query.str("fromSrc")
    if not source:
        if not request.query.str("fromImage"):
            raise InvalidParameter("either fromImage or fromSrc is needed")
        await engine.images.ready()
        return await registry.pull(engine, request)
    if source.startswith(_BACK):
        return await _back(engine, request, source.removeprefix(_BACK))
    if source != "-":
        return await _fetch(engine, request, source)
    return json_stream(_once({"status": (await _import(engine, request, read_body(request), source)).id}))


async def _fetch(engine: "Engine", request: Request, source: str) -> Response:
    from coved.registry import remote  # rare

    parse_name(request.query.str("repo"), request.query.str("tag"))
    url = remote.address(source)

    async def work(report: Callable[[dict[str, Any]], None]) -> None:
        async with remote.fetched(engine.registries, url, report) as chunks:
            report({"status": (await _import(engine, request, chunks, url)).id})

    return await streamed(work)


async def _import(engine: "Engine", request: Request, chunks: AsyncIterator[bytes], source: str) -> Image:
    return await engine.images.import_(
        chunks,
        repository=request.query.str("repo"),
        tag=request.query.str("tag"),
        message=request.query.str("message") or f"Imported from {source}",
        changes=request.query.list("changes"),
        platform=request.query.str("platform"),
    )


async def _back(engine: "Engine", request: Request, source: str) -> Response:
    """Beside the description: ``fromSrc=back:STEPS:IMAGE`` makes ``repo`` and ``tag`` of an earlier step of an image."""
    steps, colon, name = source.partition(":")
    if not colon or not steps.isascii() or not steps.isdigit() or len(steps) > 6:
        raise InvalidParameter(f"{_BACK}{source} is not {_BACK}STEPS:IMAGE")
    await engine.images.ready()
    shown = parse_name(request.query.str("repo"), request.query.str("tag"))
    image = await engine.images.back(engine.images.get(name), int(steps), shown)
    return json_stream(_once({"status": image.id}))


async def _once(message: dict[str, Any]) -> AsyncIterator[object]:
    yield message


async def read_body(request: Request) -> AsyncIterator[bytes]:
    """The body; one that breaks off is told of in dockerd's words, for its client may still listen. Raises InvalidParameter."""
    try:
        async for chunk in request.body():
            yield chunk
    except ConnectionError:
        raise InvalidParameter("unexpected EOF") from None
    except h11.RemoteProtocolError as error:
        raise InvalidParameter(f"malformed request body: {error}") from None


def _removed(item: Removed) -> dict[str, str]:
    return {"Untagged": item.untagged} if item.untagged else {"Deleted": item.deleted}


def _comment(image: Image) -> str:
    if image.damage:
        return image.damage
    history = image.config.get("history") or []
    last = history[-1] if history and isinstance(history[-1], dict) else {}
    return str(image.config.get("comment") or last.get("comment") or "")


def _container_config(image: Image) -> dict[str, Any]:
    """Docker shows a container configuration's core fields even when the image does not set them."""
    defaults: dict[str, Any] = {
        "Env": None,
        "Cmd": None,
        "Entrypoint": None,
        "Labels": None,
        "User": "",
        "Volumes": None,
        "WorkingDir": "",
        "OnBuild": None,
    }
    return {**defaults, **image.container_config}


def _graph_data(engine: "Engine", image: Image) -> dict[str, str]:
    layers = [str(path) for path in engine.images.lower_dirs(image)]
    data = {}
    if len(layers) > 1:
        data["LowerDir"] = ":".join(layers[1:])
    if layers:
        data["UpperDir"] = layers[0]
    return data
