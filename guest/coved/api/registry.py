"""What asks registries: pulls, pushes, logins, searches."""

from typing import TYPE_CHECKING

from coved.api.http import Request, Response, json_response
from coved.api.progress import streamed
from coved.api.router import Router
from coved.errors import InvalidParameter
from coved.images import documents, platforms, reference
from coved.images.reference import Reference
from coved.registry import Registries
from coved.registry.credentials import Credentials

if TYPE_CHECKING:
    from coved.engine import Engine


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
