"""BuildKit's services and their messages (github.com/moby/buildkit, *.proto), as far as they are used. Both sides import this.

Names are the fields' own, in Python's spelling. What is not here is passed over when it comes.
"""

from __future__ import annotations

from dataclasses import dataclass

from coved.grpc.codec import (
    Message,
    boolean,
    int32,
    int64,
    message,
    message_map,
    messages,
    optional_string,
    raw,
    raw_map,
    raws,
    string,
    string_map,
    strings,
    time,
    uint32,
)
from coved.grpc.codec import (
    path as path_,
)
from coved.grpc.method import Method
from coved.grpc.status import Status as RpcStatus

# -- solver/pb: what a build is, to BuildKit


@dataclass
class Platform(Message):
    architecture: str = string(1)
    os: str = string(2)
    variant: str = string(3)
    os_version: str = string(4)
    os_features: list[str] = strings(5)


@dataclass
class Position(Message):
    line: int = int32(1)
    character: int = int32(2)


@dataclass
class Range(Message):
    start: Position | None = message(1, Position)
    end: Position | None = message(2, Position)


@dataclass
class Input(Message):
    digest: str = string(1)
    index: int = int64(2)


@dataclass
class SourceOp(Message):
    identifier: str = string(1)


@dataclass
class Op(Message):
    """One operation of a graph (LLB)."""

    inputs: list[Input] = messages(1, Input)
    source: SourceOp | None = message(3, SourceOp)


@dataclass
class OpMetadata(Message):
    pass


@dataclass
class Definition(Message):
    """An LLB graph: operations, and what is said about them by their digests."""

    def_: list[bytes] = raws(1)
    metadata: dict[str, OpMetadata] = message_map(2, OpMetadata)


@dataclass
class SourceInfo(Message):
    filename: str = string(1)
    data: bytes = raw(2)
    definition: Definition | None = message(3, Definition)
    language: str = string(4)


@dataclass
class ProgressGroup(Message):
    id: str = string(1)
    name: str = string(2)
    weak: bool = boolean(3)


# -- api/types


@dataclass
class BuildkitVersion(Message):
    package: str = string(1)
    version: str = string(2)
    revision: str = string(3)


@dataclass
class GCPolicy(Message):
    all: bool = boolean(1)
    keep_duration: int = int64(2)
    keep_bytes: int = int64(3)
    filters: list[str] = strings(4)


@dataclass
class WorkerRecord(Message):
    id: str = string(1)
    labels: dict[str, str] = string_map(2)
    platforms: list[Platform] = messages(3, Platform)
    gc_policy: list[GCPolicy] = messages(4, GCPolicy)
    buildkit_version: BuildkitVersion | None = message(5, BuildkitVersion)


# -- moby.buildkit.v1.Control


@dataclass
class CacheOptionsEntry(Message):
    type: str = string(1)
    attrs: dict[str, str] = string_map(2)


@dataclass
class CacheOptions(Message):
    export_ref_deprecated: str = string(1)
    import_refs_deprecated: list[str] = strings(2)
    export_attrs_deprecated: dict[str, str] = string_map(3)
    exports: list[CacheOptionsEntry] = messages(4, CacheOptionsEntry)
    imports: list[CacheOptionsEntry] = messages(5, CacheOptionsEntry)


@dataclass
class Exporter(Message):
    type: str = string(1)
    attrs: dict[str, str] = string_map(2)


@dataclass
class SolveRequest(Message):
    ref: str = string(1)
    definition: Definition | None = message(2, Definition)
    exporter_deprecated: str = string(3)
    exporter_attrs_deprecated: dict[str, str] = string_map(4)
    session: str = string(5)
    frontend: str = string(6)
    frontend_attrs: dict[str, str] = string_map(7)
    cache: CacheOptions | None = message(8, CacheOptions)
    entitlements: list[str] = strings(9)
    frontend_inputs: dict[str, Definition] = message_map(10, Definition)
    internal: bool = boolean(11)
    exporters: list[Exporter] = messages(13, Exporter)


@dataclass
class SolveResponse(Message):
    exporter_response: dict[str, str] = string_map(1)


@dataclass
class StatusRequest(Message):
    ref: str = string(1)


@dataclass
class Vertex(Message):
    digest: str = string(1)
    inputs: list[str] = strings(2)
    name: str = string(3)
    cached: bool = boolean(4)
    started: int = time(5)
    completed: int = time(6)
    error: str = string(7)
    progress_group: ProgressGroup | None = message(8, ProgressGroup)


@dataclass
class VertexStatus(Message):
    id: str = string(1)
    vertex: str = string(2)
    name: str = string(3)
    current: int = int64(4)
    total: int = int64(5)
    timestamp: int = time(6)
    started: int = time(7)
    completed: int = time(8)


@dataclass
class VertexLog(Message):
    vertex: str = string(1)
    timestamp: int = time(2)
    stream: int = int64(3)
    msg: bytes = raw(4)


@dataclass
class VertexWarning(Message):
    vertex: str = string(1)
    level: int = int64(2)
    short: bytes = raw(3)
    detail: list[bytes] = raws(4)
    url: str = string(5)
    info: SourceInfo | None = message(6, SourceInfo)
    ranges: list[Range] = messages(7, Range)


@dataclass
class StatusResponse(Message):
    vertexes: list[Vertex] = messages(1, Vertex)
    statuses: list[VertexStatus] = messages(2, VertexStatus)
    logs: list[VertexLog] = messages(3, VertexLog)
    warnings: list[VertexWarning] = messages(4, VertexWarning)


@dataclass
class ListWorkersRequest(Message):
    filter: list[str] = strings(1)


@dataclass
class ListWorkersResponse(Message):
    record: list[WorkerRecord] = messages(1, WorkerRecord)


@dataclass
class InfoRequest(Message):
    pass


@dataclass
class InfoResponse(Message):
    buildkit_version: BuildkitVersion | None = message(1, BuildkitVersion)


@dataclass
class DiskUsageRequest(Message):
    filter: list[str] = strings(1)


@dataclass
class UsageRecord(Message):
    id: str = string(1)
    mutable: bool = boolean(2)
    in_use: bool = boolean(3)
    size: int = int64(4)
    created_at: int = time(6)
    last_used_at: int = time(7)
    usage_count: int = int64(8)
    description: str = string(9)
    record_type: str = string(10)
    shared: bool = boolean(11)
    parents: list[str] = strings(12)


@dataclass
class DiskUsageResponse(Message):
    record: list[UsageRecord] = messages(1, UsageRecord)


@dataclass
class PruneRequest(Message):
    filter: list[str] = strings(1)
    all: bool = boolean(2)
    keep_duration: int = int64(3)
    reserved_space: int = int64(4)
    """Of older clients, what they call keepBytes."""
    max_used_space: int = int64(5)
    min_free_space: int = int64(6)


@dataclass
class BuildHistoryRequest(Message):
    active_only: bool = boolean(1)
    ref: str = string(2)
    early_exit: bool = boolean(3)
    filter: list[str] = strings(4)
    limit: int = int32(5)


@dataclass
class Descriptor(Message):
    media_type: str = string(1)
    digest: str = string(2)
    size: int = int64(3)


@dataclass
class BuildHistoryRecord(Message):
    ref: str = string(1)
    frontend: str = string(2)
    frontend_attrs: dict[str, str] = string_map(3)
    exporters: list[Exporter] = messages(4, Exporter)
    error: RpcStatus | None = message(5, RpcStatus)
    created_at: int = time(6)
    completed_at: int = time(7)
    logs: Descriptor | None = message(8, Descriptor)
    exporter_response: dict[str, str] = string_map(9)
    pinned: bool = boolean(14)
    num_cached_steps: int = int32(15)
    num_total_steps: int = int32(16)
    num_completed_steps: int = int32(17)
    external_error: Descriptor | None = message(18, Descriptor)
    """The error with all details, as an encoded Status that is to be had of the content store."""
    num_warnings: int = int32(19)


HISTORY_STARTED, HISTORY_COMPLETE, HISTORY_DELETED = range(3)


@dataclass
class BuildHistoryEvent(Message):
    type: int = int32(1)
    """One of HISTORY_..."""
    record: BuildHistoryRecord | None = message(2, BuildHistoryRecord)


@dataclass
class UpdateBuildHistoryRequest(Message):
    ref: str = string(1)
    pinned: bool = boolean(2)
    delete: bool = boolean(3)
    finalize: bool = boolean(4)


@dataclass
class UpdateBuildHistoryResponse(Message):
    pass


_CONTROL = "/moby.buildkit.v1.Control"
SOLVE = Method(f"{_CONTROL}/Solve", SolveRequest, SolveResponse)
STATUS = Method(f"{_CONTROL}/Status", StatusRequest, StatusResponse)
LIST_WORKERS = Method(f"{_CONTROL}/ListWorkers", ListWorkersRequest, ListWorkersResponse)
INFO = Method(f"{_CONTROL}/Info", InfoRequest, InfoResponse)
DISK_USAGE = Method(f"{_CONTROL}/DiskUsage", DiskUsageRequest, DiskUsageResponse)
PRUNE = Method(f"{_CONTROL}/Prune", PruneRequest, UsageRecord)
LISTEN_BUILD_HISTORY = Method(f"{_CONTROL}/ListenBuildHistory", BuildHistoryRequest, BuildHistoryEvent)
UPDATE_BUILD_HISTORY = Method(f"{_CONTROL}/UpdateBuildHistory", UpdateBuildHistoryRequest, UpdateBuildHistoryResponse)

# -- containerd.services.content.v1.Content


@dataclass
class ContentInfo(Message):
    digest: str = string(1)
    size: int = int64(2)
    created_at: int = time(3)
    updated_at: int = time(4)


@dataclass
class ContentInfoRequest(Message):
    digest: str = string(1)


@dataclass
class ContentInfoResponse(Message):
    info: ContentInfo | None = message(1, ContentInfo)


@dataclass
class ReadContentRequest(Message):
    digest: str = string(1)
    offset: int = int64(2)
    size: int = int64(3)


@dataclass
class ReadContentResponse(Message):
    offset: int = int64(1)
    data: bytes = raw(2)


_CONTENT = "/containerd.services.content.v1.Content"
CONTENT_INFO = Method(f"{_CONTENT}/Info", ContentInfoRequest, ContentInfoResponse)
CONTENT_READ = Method(f"{_CONTENT}/Read", ReadContentRequest, ReadContentResponse)

# -- moby.buildkit.v1.frontend.LLBBridge


@dataclass
class APICap(Message):
    """moby.buildkit.v1.apicaps."""

    id: str = string(1)
    enabled: bool = boolean(2)
    deprecated: bool = boolean(3)


@dataclass
class PingRequest(Message):
    pass


@dataclass
class PongResponse(Message):
    frontend_api_caps: list[APICap] = messages(1, APICap)
    llb_caps: list[APICap] = messages(2, APICap)
    workers: list[WorkerRecord] = messages(3, WorkerRecord)


@dataclass
class Ref(Message):
    id: str = string(1)
    def_: Definition | None = message(2, Definition)


@dataclass
class RefMap(Message):
    refs: dict[str, Ref] = message_map(1, Ref)


@dataclass
class Result(Message):
    ref_deprecated: str | None = optional_string(1, oneof="result")
    ref: Ref | None = message(3, Ref, oneof="result")
    refs: RefMap | None = message(4, RefMap, oneof="result")
    metadata: dict[str, bytes] = raw_map(10)


@dataclass
class FrontendSolveRequest(Message):
    """SolveRequest."""

    definition: Definition | None = message(1, Definition)
    frontend: str = string(2)
    frontend_opt: dict[str, str] = string_map(3)
    allow_result_return: bool = boolean(5)
    allow_result_array_ref: bool = boolean(6)
    final: bool = boolean(10)
    exporter_attr: bytes = raw(11)
    cache_imports: list[CacheOptionsEntry] = messages(12, CacheOptionsEntry)
    frontend_inputs: dict[str, Definition] = message_map(13, Definition)
    evaluate: bool = boolean(14)


@dataclass
class FrontendSolveResponse(Message):
    """SolveResponse."""

    ref: str = string(1)
    result: Result | None = message(3, Result)


@dataclass
class EvaluateRequest(Message):
    ref: str = string(1)


@dataclass
class EvaluateResponse(Message):
    pass


@dataclass
class ReturnRequest(Message):
    result: Result | None = message(1, Result)
    error: RpcStatus | None = message(2, RpcStatus)


@dataclass
class ReturnResponse(Message):
    pass


_BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge"
PING = Method(f"{_BRIDGE}/Ping", PingRequest, PongResponse)
FRONTEND_SOLVE = Method(f"{_BRIDGE}/Solve", FrontendSolveRequest, FrontendSolveResponse)
EVALUATE = Method(f"{_BRIDGE}/Evaluate", EvaluateRequest, EvaluateResponse)
RETURN = Method(f"{_BRIDGE}/Return", ReturnRequest, ReturnResponse)

# -- opentelemetry.proto.collector.trace.v1.TraceService


@dataclass
class ExportTraceRequest(Message):
    """Spans, which nobody reads."""


@dataclass
class ExportTraceResponse(Message):
    pass


EXPORT_TRACE = Method(
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export", ExportTraceRequest, ExportTraceResponse
)

# -- the session: moby.filesync.v1, moby.upload.v1, moby.buildkit.secrets.v1, moby.sshforward.v1


@dataclass
class Stat(Message):
    """fsutil.types.Stat. ``mode`` is Go's os.FileMode, times in nanoseconds."""

    path: str = path_(1)
    mode: int = uint32(2)
    uid: int = uint32(3)
    gid: int = uint32(4)
    size: int = int64(5)
    mod_time: int = int64(6)
    linkname: str = path_(7)
    devmajor: int = int64(8)
    devminor: int = int64(9)
    xattrs: dict[str, bytes] = raw_map(10)


PACKET_STAT, PACKET_REQ, PACKET_DATA, PACKET_FIN, PACKET_ERR = range(5)


@dataclass
class Packet(Message):
    """fsutil.types.Packet."""

    type: int = int32(1)
    stat: Stat | None = message(2, Stat)
    id: int = uint32(3)
    data: bytes = raw(4)


@dataclass
class BytesMessage(Message):
    data: bytes = raw(1)


@dataclass
class CredentialsRequest(Message):
    host: str = string(1)


@dataclass
class CredentialsResponse(Message):
    username: str = string(1)
    secret: str = string(2)


@dataclass
class GetSecretRequest(Message):
    id: str = string(1)
    annotations: dict[str, str] = string_map(2)


@dataclass
class GetSecretResponse(Message):
    data: bytes = raw(1)


@dataclass
class CheckAgentRequest(Message):
    id: str = string(1)


@dataclass
class CheckAgentResponse(Message):
    pass


@dataclass
class HealthCheckRequest(Message):
    service: str = string(1)


@dataclass
class HealthCheckResponse(Message):
    status: int = int32(1)
    """1 is serving."""


FILE_SYNC = Method("/moby.filesync.v1.FileSync/DiffCopy", Packet, Packet)
FILE_SEND_TREE = Method("/moby.filesync.v1.FileSend/DiffCopy", Packet, Packet)
FILE_SEND_STREAM = Method("/moby.filesync.v1.FileSend/DiffCopy", BytesMessage, BytesMessage)
CREDENTIALS = Method("/moby.filesync.v1.Auth/Credentials", CredentialsRequest, CredentialsResponse)
PULL = Method("/moby.upload.v1.Upload/Pull", BytesMessage, BytesMessage)
GET_SECRET = Method("/moby.buildkit.secrets.v1.Secrets/GetSecret", GetSecretRequest, GetSecretResponse)
CHECK_AGENT = Method("/moby.sshforward.v1.SSH/CheckAgent", CheckAgentRequest, CheckAgentResponse)
FORWARD_AGENT = Method("/moby.sshforward.v1.SSH/ForwardAgent", BytesMessage, BytesMessage)
HEALTH_CHECK = Method("/grpc.health.v1.Health/Check", HealthCheckRequest, HealthCheckResponse)
