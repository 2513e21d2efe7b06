"""Files of containers: /containers/{id}/archive, /export, /changes, and /commit."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from coved.api.http import Request, Response, json_response
from coved.api.router import Router
from coved.errors import InvalidParameter

if TYPE_CHECKING:
    from coved.engine import Engine

_TAR = "application/x-tar"
_STAT = "X-Docker-Container-Path-Stat"


def routes(router: Router) -> None:
    router.add("HEAD", "/containers/{id*}/archive", _stat)
    router.add("GET", "/containers/{id*}/archive", _read)
    router.add("PUT", "/containers/{id*}/archive", _write, cancel_on_disconnect=True)
    router.add("GET", "/containers/{id*}/export", _export)
    router.add("GET", "/containers/{id*}/changes", _changes)
    router.add("POST", "/commit", _commit)


async def _stat(engine: Engine, request: Request) -> Response:
    stat = await engine.files.stat(request.match["id"], _path(request))
    return Response(200, {_STAT: _encoded(stat)})


async def _read(engine: Engine, request: Request) -> Response:
    stat, archive = await engine.files.read(request.match["id"], _path(request))
    return Response(200, {"Content-Type": _TAR, _STAT: _encoded(stat)}, archive)


async def _write(engine: Engine, request: Request) -> Response:
    query = request.query
    await engine.files.write(
        request.match["id"],
        _path(request),
        request.body(),
        keep_kinds=query.bool("noOverwriteDirNonDir"),
        as_user=query.bool("copyUIDGID"),
    )
    return Response(200)


async def _export(engine: Engine, request: Request) -> Response:
    return Response(200, {"Content-Type": "application/octet-stream"}, await engine.files.export(request.match["id"]))


async def _changes(engine: Engine, request: Request) -> Response:
    found = await engine.files.changes(request.match["id"])
    return json_response([{"Path": one.path, "Kind": one.kind} for one in found] or None)


async def _commit(engine: Engine, request: Request) -> Response:
    query = request.query
    identity = await engine.files.commit(
        query.str("container"),
        repository=query.str("repo"),
        tag=query.str("tag"),
        comment=query.str("comment"),
        author=query.str("author"),
        instructions=query.list("changes"),
        config=await request.json(),
        pause=query.bool("pause", default=True),
    )
    return json_response({"Id": identity}, 201)


def _path(request: Request) -> str:
    path = request.query.str("path")
    if not path:
        raise InvalidParameter("bad parameter: pathcannot be empty")
    if "\0" in path:
        raise InvalidParameter("bad parameter: path holds a NUL byte")
    return path


def _encoded(stat: dict[str, object]) -> str:
    return base64.b64encode(json.dumps(stat, separators=(",", ":")).encode("utf-8", "replace")).decode()
