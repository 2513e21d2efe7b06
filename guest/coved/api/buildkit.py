"""``POST /grpc`` and ``POST /session``: connections that BuildKit's clients take over (buildx, compose)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coved.api.http import Request, Response
from coved.api.router import Router
from coved.errors import EngineError, InvalidParameter

if TYPE_CHECKING:
    from coved.buildkit.service import Service
    from coved.engine import Engine

_HEAD = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
_NO_UPGRADE = "no upgrade proto in request"
_ID_MAX = 256


class NoUpgrade(EngineError):
    """``POST /grpc`` without an upgrade; 500 is what dockerd gives it."""


def routes(router: Router) -> None:
    buildkit = _BuildKit()
    router.add("POST", "/grpc", buildkit.grpc)
    router.add("POST", "/session", buildkit.session)


class _BuildKit:
    """Holds the engine's BuildKit, which is made for the first client that wants it."""

    def __init__(self) -> None:
        self._service: Service | None = None

    async def grpc(self, engine: Engine, request: Request) -> Response | None:
        if not request.headers.get("upgrade"):
            raise NoUpgrade(_NO_UPGRADE)
        _must_upgrade(request)
        service = self._of(engine)
        hijacked = await request.upgrade(_HEAD)
        await service.serve(hijacked.fd, hijacked.pending)
        return None

    async def session(self, engine: Engine, request: Request) -> Response | None:
        _must_upgrade(request)
        id = request.headers.get("x-docker-expose-session-uuid", "")
        if not 0 < len(id) <= _ID_MAX:
            raise InvalidParameter("session id must be set")
        service = self._of(engine)
        service.must_be_new(id)
        hijacked = await request.upgrade(_HEAD)
        key = request.headers.get("x-docker-expose-session-sharedkey", "")
        await service.hold(hijacked.fd, hijacked.pending, id, key)
        return None

    def _of(self, engine: Engine) -> Service:
        if self._service is None:
            from coved.buildkit.service import Service  # and h2: most sessions of an engine build nothing
            from coved.images import processors

            self._service = Service(
                engine.builder,
                engine.build_history,
                identity=engine.identity,
                version=engine.config.version,
                platforms=processors.runnable,
                host_gateway=engine.networks.sandboxes.host_gateway,
                sockets=engine.config.state / "buildkit",
            )
        return self._service


def _must_upgrade(request: Request) -> None:
    protocol = request.headers.get("upgrade", "")
    if not protocol:
        raise InvalidParameter(_NO_UPGRADE)
    if protocol.lower() != "h2c":
        raise InvalidParameter(f"protocol {protocol} not supported")
