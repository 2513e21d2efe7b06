"""Swarm, nodes, services, tasks, secrets and configs, as a Docker engine answers that is in no swarm.

Cove runs containers on one machine and never joins a swarm. What a request says is checked before, as dockerd does: a
body that is no JSON is 400 there, too.
"""

from typing import TYPE_CHECKING

from coved.api.http import Handler, Request, Response
from coved.api.router import Router
from coved.errors import InvalidParameter, NotImplementedByEngine, Unavailable

if TYPE_CHECKING:
    from coved.engine import Engine

NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
_NO_SWARM = "This node is not part of a swarm"


def routes(router: Router) -> None:
    router.add("PUT", "/volumes/{name}", _update_cluster_volume)
    router.add("POST", "/swarm/init", _join)
    router.add("POST", "/swarm/join", _join)
    router.add("POST", "/swarm/leave", _leave)
    router.add("POST", "/swarm/update", _update("swarm"))
    router.add("POST", "/swarm/unlock", _write)
    for pattern in ("/swarm", "/swarm/unlockkey"):
        router.add("GET", pattern, _read)
    for kind in ("node", "service", "task", "secret", "config"):
        router.add("GET", f"/{kind}s", _read)
        router.add("GET", f"/{kind}s/{{id}}", _read)
        if kind in ("service", "task"):
            router.add("GET", f"/{kind}s/{{id}}/logs", _logs)
        if kind in ("service", "secret", "config"):
            router.add("POST", f"/{kind}s/create", _write)
        if kind != "task":
            router.add("DELETE", f"/{kind}s/{{id}}", _read)
            router.add("POST", f"/{kind}s/{{id}}/update", _update(kind))


async def _read(engine: "Engine", request: Request) -> Response:
    request.query.filters()
    raise Unavailable(NO_MANAGER)


async def _write(engine: "Engine", request: Request) -> Response:
    await request.json()
    raise Unavailable(NO_MANAGER)


def _update(kind: str) -> Handler:
    async def update(engine: "Engine", request: Request) -> Response:
        await request.json()
        version = request.query.str("version")
        if not (version.isascii() and version.isdigit() and int(version[:20]) < 1 << 64 and len(version) <= 20):
            if kind in ("secret", "config"):
                raise InvalidParameter(f"invalid {kind} version")
            raise InvalidParameter(
                f"invalid {kind} version '{version}': strconv.ParseUint: parsing \"{version}\": invalid syntax"
            )
        raise Unavailable(NO_MANAGER)

    return update


async def _logs(engine: "Engine", request: Request) -> Response:
    if not (request.query.bool("stdout") or request.query.bool("stderr")):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    raise Unavailable(NO_MANAGER)


async def _leave(engine: "Engine", request: Request) -> Response:
    raise Unavailable(_NO_SWARM)


async def _join(engine: "Engine", request: Request) -> Response:
    address = (await request.json()).get("ListenAddr") or ""
    if not isinstance(address, str):
        raise InvalidParameter("invalid JSON: ListenAddr must be a string")
    if not address:
        raise InvalidParameter('invalid ListenAddr "": invalid empty address')
    raise NotImplementedByEngine("swarm mode is not part of Cove: its containers run on one machine")


async def _update_cluster_volume(engine: "Engine", request: Request) -> Response:
    await request.json()
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
