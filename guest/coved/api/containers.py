"""/containers of the Engine API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from coved.api import compat
from coved.api.http import MULTIPLEXED_STREAM, RAW_STREAM, Request, Response, encode_json, json_response
from coved.api.router import Router
from coved.containers import views
from coved.containers.logs import reader as logs
from coved.errors import InvalidParameter
from coved.finishing import Closing
from coved.images import platforms
from coved.runtime.spec import Attachment

if TYPE_CHECKING:
    from coved.containers.container import Container
    from coved.containers.manager import Containers
    from coved.engine import Engine

CONDITIONS = ("not-running", "next-exit", "removed")


def routes(router: Router) -> None:
    router.add("GET", "/containers/json", list_containers)
    router.add("POST", "/containers/create", create)
    router.add("POST", "/containers/prune", prune)
    router.add("GET", "/containers/{id*}/json", inspect)
    router.add("GET", "/containers/{id*}/logs", read_logs)
    router.add("POST", "/containers/{id*}/start", start)
    router.add("POST", "/containers/{id*}/stop", stop)
    router.add("POST", "/containers/{id*}/restart", restart)
    router.add("POST", "/containers/{id*}/kill", kill)
    router.add("POST", "/containers/{id*}/pause", pause)
    router.add("POST", "/containers/{id*}/unpause", unpause)
    router.add("POST", "/containers/{id*}/rename", rename)
    router.add("POST", "/containers/{id*}/update", update)
    router.add("POST", "/containers/{id*}/resize", resize)
    router.add("POST", "/containers/{id*}/attach", attach)
    router.add("POST", "/containers/{id*}/wait", wait, cancel_on_disconnect=True)
    router.add("DELETE", "/containers/{id*}", remove)


async def list_containers(engine: Engine, request: Request) -> Response:
    query = request.query
    chosen = views.select(engine.containers, query.filters(), all=query.bool("all"), limit=query.int("limit"))
    shown = [await views.summary(engine.containers, one, size=query.bool("size")) for one in chosen]
    return json_response([compat.container_summary(one, request.version) for one in shown])


async def create(engine: Engine, request: Request) -> Response:
    body = await request.json(required=True)
    if not body:
        raise InvalidParameter("config cannot be empty in order to create a container")
    compat.container_create(body, request.version)
    platform = request.query.str("platform")
    wanted = platforms.asked(platform) if platform and request.version >= (1, 41) else None
    container = await engine.containers.create(request.query.str("name"), body, wanted)
    return json_response({"Id": container.id, "Warnings": [*container.request.warnings]}, 201)


async def inspect(engine: Engine, request: Request) -> Response:
    container = engine.containers.get(request.match["id"])
    shown = await views.inspect(engine.containers, container, size=request.query.bool("size"))
    return json_response(compat.container_inspect(shown, request.version))


async def start(engine: Engine, request: Request) -> Response:
    length = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers or (length.isdigit() and int(length) > 7):
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    await engine.containers.life.start(request.match["id"])
    return Response(204)


async def stop(engine: Engine, request: Request) -> Response:
    await engine.containers.life.stop(
        request.match["id"],
        timeout_s=_timeout(request),
        signal_name=compat.stop_signal(request.query.str("signal"), request.version),
    )
    return Response(204)


async def restart(engine: Engine, request: Request) -> Response:
    await engine.containers.life.restart(
        request.match["id"],
        timeout_s=_timeout(request),
        signal_name=compat.stop_signal(request.query.str("signal"), request.version),
    )
    return Response(204)


async def kill(engine: Engine, request: Request) -> Response:
    await engine.containers.life.kill(request.match["id"], request.query.str("signal"))
    return Response(204)


async def pause(engine: Engine, request: Request) -> Response:
    await engine.containers.life.pause(request.match["id"])
    return Response(204)


async def unpause(engine: Engine, request: Request) -> Response:
    await engine.containers.life.unpause(request.match["id"])
    return Response(204)


async def rename(engine: Engine, request: Request) -> Response:
    await engine.containers.rename(request.match["id"], request.query.str("name"))
    return Response(204)


async def update(engine: Engine, request: Request) -> Response:
    warnings = await engine.containers.update(
        request.match["id"], compat.container_update(await request.json(), request.version)
    )
    return json_response({"Warnings": warnings or None})


async def resize(engine: Engine, request: Request) -> Response:
    await engine.containers.resize(request.match["id"], *terminal_size(request))
    return Response(200)


async def remove(engine: Engine, request: Request) -> Response:
    if request.query.bool("link"):
        engine.containers.remove_link(request.match["id"])
        return Response(204)
    await engine.containers.remove(
        request.match["id"], force=request.query.bool("force"), volumes=request.query.bool("v")
    )
    return Response(204)


async def prune(engine: Engine, request: Request) -> Response:
    removed, reclaimed = await engine.containers.prune(request.query.filters())
    return json_response({"ContainersDeleted": removed or None, "SpaceReclaimed": reclaimed})


async def wait(engine: Engine, request: Request) -> Response:
    condition = compat.wait_condition(request.query.str("condition"), request.version)
    if condition not in CONDITIONS:
        raise InvalidParameter(f'invalid condition: "{condition}"')
    future = await engine.containers.life.wait(request.match["id"], condition)

    async def answer() -> AsyncGenerator[bytes, None]:
        # The head has gone out before: clients start the container only when they know that somebody waits.
        waited = await future
        error = {"Error": {"Message": waited.error}} if waited.error else {}
        yield encode_json({**error, "StatusCode": waited.code})

    # The cancellation is of no effect when it is done; otherwise the client has gone, perhaps before its answer began.
    return Response(200, {"Content-Type": "application/json"}, Closing(answer(), future.cancel))


async def read_logs(engine: Engine, request: Request) -> Response:
    container = engine.containers.get(request.match["id"])
    query = request.query
    if not (query.bool("stdout") or query.bool("stderr")):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    logs.must_be_readable(container)
    wanted = logs.Selection(
        stdout=query.bool("stdout"),
        stderr=query.bool("stderr"),
        tail=_tail(query.str("tail")),
        since_ns=_time(query.str("since")),
        until_ns=_time(query.str("until")),
        timestamps=query.bool("timestamps"),
        details=query.bool("details"),
        follow=query.bool("follow"),
        frames=not container.config["Tty"],
    )
    kind = MULTIPLEXED_STREAM if wanted.frames and request.version >= (1, 42) else RAW_STREAM
    return Response(200, {"Content-Type": kind}, logs.read(container, engine.containers.log_path(container), wanted))


async def attach(engine: Engine, request: Request) -> Response | None:
    containers, query = engine.containers, request.query
    container = containers.get(request.match["id"])
    containers.must_be_attachable(container)
    tty = container.config["Tty"]
    keys = detach_keys(query.str("detachKeys"))
    live = query.bool("stream")
    if query.bool("logs"):
        logs.must_be_readable(container)
    hijacked = await request.hijack(raw_stream=tty)
    attachment = Attachment(
        hijacked.fd,
        stdin=live and query.bool("stdin") and container.config["OpenStdin"],
        stdout=live and query.bool("stdout"),
        stderr=live and query.bool("stderr"),
        raw=tty,
        detach_keys=keys if tty else b"",  # in a pipe, those bytes are data
        pending=hijacked.pending,
    )
    if query.bool("logs"):
        past = logs.Selection(query.bool("stdout"), query.bool("stderr"), frames=not tty)
        await _attach_after_past(containers, container, attachment, past, live=live)
    elif live:
        await containers.attach(container, attachment)
    else:
        os.close(hijacked.fd)
    return None


async def _attach_after_past(
    containers: Containers, container: Container, attachment: Attachment, wanted: logs.Selection, *, live: bool
) -> None:
    """``live``: else the past is all that was asked for. Takes over ``attachment.fd``."""
    import socket

    from coved.api.taken import taken
    from coved.containers.logs.past import Past
    from coved.containers.replay import attach_after

    with contextlib.ExitStack() as stack:
        stack.callback(os.close, attachment.fd)
        client = stack.enter_context(socket.socket(fileno=os.dup(attachment.fd)))
        client.setblocking(False)
        send = partial(asyncio.get_running_loop().sock_sendall, client)
        await taken(attachment.fd)
        path = containers.log_path(container)
        with contextlib.suppress(ConnectionError):  # the client has gone
            if not live:
                async with contextlib.aclosing(logs.read(container, path, wanted)) as chunks:
                    async for chunk in chunks:
                        await send(chunk)
                return
            past = Past(container, path, wanted)
            own = replace(attachment, fd=os.dup(attachment.fd))
            await attach_after(containers, container, own, past, send)


def detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` as bytes; Docker's default for "". Raises InvalidParameter."""
    result = bytearray()
    for key in (text or "ctrl-p,ctrl-q").split(","):
        if len(key) == 1 and key.isascii():
            result.append(ord(key))
        elif (
            key.startswith("ctrl-")
            and len(key) == 6
            and (key[5] in "@[\\]^_" or (key[5].isascii() and key[5].isalpha()))
        ):
            result.append(ord(key[5].upper()) & 0x1F)
        else:
            raise InvalidParameter(f"Invalid detach keys ({text}) provided: Unknown character: '{key}'")
    return bytes(result)


def terminal_size(request: Request) -> tuple[int, int]:
    height, width = request.query.int("h", -1), request.query.int("w", -1)
    if not (0 <= height < 65536 and 0 <= width < 65536):
        raise InvalidParameter("invalid resize: h and w must be numbers of character cells")
    return height, width


def _timeout(request: Request) -> int | None:
    return request.query.int("t") if request.query.str("t") else None


def _tail(text: str) -> int | None:
    """Go's Atoi, whose errors and negative numbers mean all."""
    return int(text) if re.fullmatch(r"\+?[0-9]{1,18}", text) else None


def _time(text: str) -> int:
    """Unix nanoseconds of ``seconds[.nanoseconds]``, all that this part of the API takes. Raises InvalidParameter."""
    match = re.fullmatch(r"([+-]?[0-9]{1,12})(?:\.([0-9]{0,9})[0-9]*)?", text or "0")
    if match is None:
        raise InvalidParameter(
            f"strconv.ParseInt: parsing {encode_json(text.partition('.')[0]).decode().strip()}: invalid syntax"
        )
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
