"""One build, asked for as buildx asks: a Control.Solve that stays open, in which the bridge (LLBBridge) is told what to build,
and beside it the stream of what happens.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from coved.buildkit import messages as m
from coved.grpc.client import Channel
from coved.grpc.status import Code, GrpcError
from coved.grpc.status import Status as RpcStatus

from cove.build import excerpt
from cove.build.engine import Engine
from cove.build.session import Offer, Session
from cove.build.status import Group, Log, Part, Range, Source, Status, Vertex, Warn

FRONTEND = "dockerfile.v0"
QUIET_S = 5.0
"""How long the end of the stream may be silent, once the build is over."""
SOURCE_DETAIL = "github.com/moby/buildkit/errdefs.Source"
_NAMES = (
    "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted"
    " FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated"
).split()

Tell = Callable[[Status], None]


@dataclass(frozen=True)
class Exporter:
    type: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What is to be built: the attributes of the Dockerfile's frontend, and what becomes of the result."""

    attributes: Mapping[str, str]
    exporters: Sequence[Exporter] = ()
    cache_exports: Sequence[Exporter] = ()
    entitlements: Sequence[str] = ()
    internal: bool = False
    """A question about a Dockerfile, and no build for anybody's records."""
    shared_key: str = ""
    """What is likely the same for the same files, so that the engine need not fetch them all again."""


@dataclass(frozen=True)
class Built:
    """`response` is what the exporters say, `metadata` what the frontend does."""

    ref: str
    response: Mapping[str, str]
    metadata: Mapping[str, bytes]


class BuildFailed(Exception):
    """In BuildKit's words. `excerpts` are the lines of the Dockerfile that it is about; `code` is gRPC's."""

    def __init__(self, message: str, code: int = Code.UNKNOWN, excerpts: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.excerpts = excerpts

    @classmethod
    def of(cls, error: GrpcError) -> BuildFailed:
        """What a call ended with."""
        code = int(error.code)
        name = "" if code == Code.UNKNOWN else f"{_NAMES[code] if code < len(_NAMES) else f'Code({code})'}: "
        excerpts = [text for detail in error.details if (text := _excerpt(detail.type_url, detail.value))]
        return cls(f"failed to solve: {name}{error.message}", code, excerpts)


async def solve(engine: Engine, channel: Channel, order: Order, offer: Offer, tell: Tell) -> Built:
    """Build. `tell` is given what happens, in the event loop. Raises `BuildFailed`, and what `engine` raises; cancelled, it
    still tells how the build ended.
    """
    session = Session(offer, order.shared_key)
    ref = secrets.token_hex(13)
    following = asyncio.ensure_future(_follow(channel, ref, tell))
    try:
        async with engine.serving(session):
            built = await _solve(channel, order, session.id, ref)
        await _until_quiet(following)
        return built
    except GrpcError as error:
        await _until_quiet(following)
        raise BuildFailed.of(error) from None
    except asyncio.CancelledError:
        await _until_quiet(following)
        raise
    finally:
        following.cancel()


async def _solve(channel: Channel, order: Order, session: str, ref: str) -> Built:
    solving = asyncio.ensure_future(channel.unary(m.SOLVE, _request(order, session, ref)))
    bridging = asyncio.ensure_future(_bridge(channel, order, ref))
    try:
        await asyncio.wait([solving, bridging], return_when=asyncio.FIRST_COMPLETED)
        if not solving.done() and bridging.exception() is not None:
            # What the bridge was told ends the build, too, and that is the error that counts.
            await asyncio.wait([solving], timeout=QUIET_S)
            if not solving.done():
                await bridging
        response = await solving
        return Built(ref, response.exporter_response, await bridging)
    finally:
        for task in (solving, bridging):
            task.cancel()
        # The call is taken back before anything else ends.
        await asyncio.gather(solving, bridging, return_exceptions=True)


def _request(order: Order, session: str, ref: str) -> m.SolveRequest:
    exporters = [m.Exporter(each.type, dict(each.attributes)) for each in order.exporters]
    request = m.SolveRequest(
        ref=ref,
        session=session,
        frontend_attrs=dict(order.attributes),
        cache=m.CacheOptions(
            exports=[m.CacheOptionsEntry(each.type, dict(each.attributes)) for each in order.cache_exports]
        ),
        entitlements=list(order.entitlements),
        internal=order.internal,
        exporters=exporters,
    )
    if exporters:
        request.exporter_deprecated, request.exporter_attrs_deprecated = exporters[0].type, exporters[0].attrs
    return request


async def _bridge(channel: Channel, order: Order, ref: str) -> Mapping[str, bytes]:
    """Say what to build, and hand the result back for the export. What fails here makes the build fail with it."""
    metadata = [("buildkit-controlapi-buildid", ref)]
    await channel.unary(m.PING, m.PingRequest(), metadata=metadata)
    question = m.FrontendSolveRequest(
        frontend=FRONTEND, frontend_opt=dict(order.attributes), allow_result_return=True, allow_result_array_ref=True
    )
    try:
        answer = await channel.unary(m.FRONTEND_SOLVE, question, metadata=metadata)
    except GrpcError as error:
        status = RpcStatus(int(error.code), error.message, list(error.details))
        await channel.unary(m.RETURN, m.ReturnRequest(error=status), metadata=metadata)
        raise
    result = answer.result or m.Result(ref=m.Ref())
    await channel.unary(m.RETURN, m.ReturnRequest(result=result), metadata=metadata)
    return result.metadata


async def _follow(channel: Channel, ref: str, tell: Tell) -> None:
    async with channel.open(m.STATUS) as call:
        await call.send(m.StatusRequest(ref), end=True)
        async for message in call:
            tell(status_of(message))


async def _until_quiet(following: asyncio.Future[None]) -> None:
    """The stream ends by itself after a build; one that does not is given up."""
    await asyncio.wait([following], timeout=QUIET_S)
    if following.done() and not following.cancelled():
        error = following.exception()
        if error is not None and not isinstance(error, GrpcError):
            raise error  # whoever shows it cannot


def told(name: str) -> Status:
    """A step of the client's own that is over as soon as it has begun."""
    now = time.time_ns()
    return Status([Vertex(f"sha256:{secrets.token_hex(32)}", name, started=now, completed=now)])


def status_of(message: m.StatusResponse) -> Status:
    """A message of the engine's as plain values."""
    return Status([_vertex(each) for each in message.vertexes], [_part(each) for each in message.statuses],
                  [Log(each.vertex, each.msg, each.timestamp, each.stream) for each in message.logs],
                  [_warning(each) for each in message.warnings])  # fmt: skip


def _vertex(vertex: m.Vertex) -> Vertex:
    group = vertex.progress_group
    return Vertex(
        vertex.digest,
        vertex.name,
        tuple(vertex.inputs),
        vertex.started or None,
        vertex.completed or None,
        vertex.cached,
        vertex.error,
        Group(group.id, group.name, group.weak) if group else None,
    )


def _part(part: m.VertexStatus) -> Part:
    return Part(
        part.id,
        part.vertex,
        part.name,
        part.current,
        part.total,
        part.timestamp,
        part.started or None,
        part.completed or None,
    )


def _warning(warning: m.VertexWarning) -> Warn:
    info = warning.info
    return Warn(
        warning.vertex,
        warning.short.decode(errors="replace"),
        tuple(line.decode(errors="replace") for line in warning.detail),
        warning.url,
        warning.level,
        Source(info.filename, info.data, info.language) if info else None,
        tuple(map(_range, warning.ranges)),
    )


def _range(lines: m.Range) -> Range:
    start, end = lines.start or m.Position(), lines.end or m.Position()
    return Range(start.line, end.line, start.character, end.character)


def _excerpt(kind: str, value: bytes) -> str:
    """The lines that an error's detail is about; empty when it is about something else."""
    if not kind.endswith(f"{SOURCE_DETAIL}+json"):
        return ""
    try:
        data = json.loads(value)
    except ValueError:
        return ""
    source = excerpt.source_of(data.get("info")) if isinstance(data, dict) else None
    return excerpt.excerpt(source, excerpt.ranges_of(data.get("ranges"))) if source else ""
