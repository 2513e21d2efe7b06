"""What asks registries: pulls, pushes, logins, searches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from coved.api.http import Request, Response, json_response, json_stream
from coved.api.router import Router
from coved.errors import EngineError, InvalidParameter, no_room
from coved.images import documents, platforms, reference
from coved.images.reference import Reference
from coved.registry import Registries
from coved.registry.credentials import Credentials

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from coved.engine import Engine

Message = dict[str, Any]
Work = Callable[[Callable[[Message], None]], Awaitable[None]]

_BACKLOG = 256
"""Messages for a client that reads slowly, after which it is not told how far things are any more."""


def routes(router: Router) -> None:
    router.add("POST", "/auth", _log_in, cancel_on_disconnect=True)
    router.add("GET", "/images/search", _search)
    router.add("POST", "/images/{name*}/push", _push, cancel_on_disconnect=True)
    router.add("GET", "/distribution/{name*}/json", _inspect)


async def _push(engine: "Engine", request: Request) -> Response:
    who = credentials(request)
    if not request.headers.get("x-registry-auth"):
        who = await _credentials_in_body(request)
    name, tag = reference.parse(request.match["name"]), request.query.str("tag")
    if tag and not reference.is_tag(tag):
        raise InvalidParameter("invalid tag format")
    if tag:
        name = Reference(name.domain, name.path, tag)
    text = request.query.str("platform") if request.version >= (1, 46) else ""
    platform = documents.platform(text) if text else None
    await engine.images.ready()
    return await streamed(lambda report: engine.registries.push(name, who, report, platform))


async def _credentials_in_body(request: Request) -> Credentials:
    """As clients of long ago say who asks. Raises ``InvalidParameter``."""
    try:
        return Credentials.of_json(await request.json(required=True))
    except InvalidParameter as error:
        raise InvalidParameter(
            f"bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: {error}"
        ) from None


async def _log_in(engine: "Engine", request: Request) -> Response:
    document = await request.json(required=True)
    token = await engine.registries.log_in(Credentials.of_json(document))
    answer = {"Status": "Login Succeeded"}
    return json_response({**answer, "IdentityToken": token} if token else {**answer, "IdentityToken": ""})


async def _search(engine: "Engine", request: Request) -> Response:
    limit = request.query.int("limit")
    if limit < 0:
        raise InvalidParameter("invalid limit specified")
    query = request.query
    return json_response(
        await engine.registries.search(query.str("term"), limit, query.filters(), credentials(request))
    )


async def _inspect(engine: "Engine", request: Request) -> Response:
    name = reference.parse(request.match["name"])
    return json_response(await engine.registries.inspect(name, credentials(request)))


def credentials(request: Request) -> Credentials:
    """Who asks a registry; what cannot be read counts for nobody."""
    return Credentials.of_header(request.headers.get("x-registry-auth", ""))


async def pull(engine: "Engine", request: Request) -> Response:
    """``POST /images/create?fromImage=``."""
    from coved.registry.manager import pull_name

    platform = request.query.str("platform") if request.version >= (1, 32) else ""
    if platform:
        platforms.parse(platform)
    name = pull_name(request.query.str("fromImage"), request.query.str("tag"))
    registries: Registries = engine.registries
    return await streamed(lambda report: registries.pull(name, platform, credentials(request), report))


async def streamed(work: Work) -> Response:
    """Answers with the messages of ``work`` as they come. What it raises before the first is the answer's status.

    It ends with its client.
    """
    messages: asyncio.Queue[Message | None] = asyncio.Queue()

    def report(message: Message) -> None:
        if messages.qsize() < _BACKLOG or "current" not in message.get("progressDetail", ()):
            messages.put_nowait(message)

    async def run() -> None:
        try:
            await work(report)
        finally:
            messages.put_nowait(None)

    task = asyncio.get_running_loop().create_task(run())
    try:
        first = await messages.get()
        if first is None:
            await task
    except BaseException:
        await _end(task)
        raise
    return json_stream(_follow(task, messages, first))


async def _follow(
    task: "asyncio.Task[None]", messages: "asyncio.Queue[Message | None]", first: Message | None
) -> AsyncIterator[object]:
    try:
        message = first
        while message is not None:
            yield message
            message = await messages.get()
        await task
    except EngineError as error:
        yield {"errorDetail": {"message": str(error)}, "error": str(error)}
    except Exception as error:
        if (full := no_room(error)) is not None:
            words = str(full)
        else:
            log.exception("a transfer failed")
            words = "internal error, see the engine's log"
        yield {"errorDetail": {"message": words}, "error": words}
    finally:
        await _end(task)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
