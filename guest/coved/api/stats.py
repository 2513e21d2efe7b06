"""``GET /containers/{id}/stats``, and ``GET /cove/traffic``, which is no part of Docker's API (docs/decisions/0069)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from coved.api.http import Request, Response, aclose, encode_json, json_stream
from coved.api.router import Router
from coved.errors import InvalidParameter

if TYPE_CHECKING:
    from coved.containers.container import Container
    from coved.containers.stats import Frame, Stats
    from coved.engine import Engine

_JSON = {"Content-Type": "application/json"}


def routes(router: Router) -> None:
    router.add("GET", "/containers/{id*}/stats", stats)
    router.add("GET", "/cove/traffic", _traffic)


async def stats(engine: Engine, request: Request) -> Response:
    query = request.query
    stream = query.bool("stream", True)
    one_shot = query.bool("one-shot") and request.version >= (1, 41)
    source = engine.containers.stats
    container = engine.containers.get(request.match["id"])
    if stream and one_shot:
        raise InvalidParameter("cannot have stream=true and one-shot=true")
    if stream:
        return Response(200, _JSON, _lines(source.follow(container)))
    if one_shot or not container.state.running:
        return Response(200, _JSON, _line(source.once(container)))
    return Response(200, _JSON, _line(await _second(source, container)))


async def _traffic(engine: Engine, request: Request) -> Response:
    return json_stream(engine.containers.stats.traffic())


async def _second(source: Stats, container: Container) -> Frame:
    """The frame that can be compared with one before it; when the container is removed meanwhile, the one of a stopped one."""
    frames = source.follow(container)
    try:
        seen = 0
        async for frame in frames:
            seen += 1
            if seen == 2:
                return frame
    finally:
        await aclose(frames)
    return source.empty(container)


async def _lines(frames: AsyncIterator[Frame]) -> AsyncIterator[bytes]:
    try:
        async for frame in frames:
            yield _line(frame)
    finally:
        await aclose(frames)


def _line(frame: Frame) -> bytes:
    if not frame.line:
        frame.line = encode_json(frame.values)
    return frame.line
