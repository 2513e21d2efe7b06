"""containerd.services.content.v1.Content, of which clients have what records of builds refer to: logs, and errors with all details."""

from __future__ import annotations

from coved.buildkit import records
from coved.buildkit.history import History
from coved.buildkit.messages import (
    CONTENT_INFO,
    CONTENT_READ,
    ContentInfo,
    ContentInfoRequest,
    ContentInfoResponse,
    ReadContentRequest,
    ReadContentResponse,
)
from coved.grpc.call import Call
from coved.grpc.server import Services
from coved.grpc.status import Code, GrpcError

_PIECE = 1 << 20


class Content:
    def __init__(self, history: History) -> None:
        self._history = history

    def register(self, services: Services) -> None:
        services.unary(CONTENT_INFO, self._info)
        services.stream(CONTENT_READ, self._read)

    async def _found(self, digest: str) -> tuple[bytes, int]:
        """The content, and since when it is there."""
        for entry in await self._history.entries():
            record, error = records.as_clients_have_it(entry.record)
            if record.external_error is not None and record.external_error.digest == digest:
                return error, record.completed_at
            if record.logs is not None and record.logs.digest == digest:
                return await self._history.packed_log(entry), record.completed_at
        raise GrpcError(Code.NOT_FOUND, f"content {digest}: not found")

    async def _info(
        self, request: ContentInfoRequest, call: Call[ContentInfoRequest, ContentInfoResponse]
    ) -> ContentInfoResponse:
        data, since = await self._found(request.digest)
        return ContentInfoResponse(ContentInfo(request.digest, len(data), since, since))

    async def _read(self, call: Call[ReadContentRequest, ReadContentResponse]) -> None:
        request = await call.one()
        data, _ = await self._found(request.digest)
        if not 0 <= request.offset <= len(data) or request.size < 0:
            raise GrpcError(Code.OUT_OF_RANGE, f"content {request.digest} has {len(data)} bytes")
        end = min(len(data), request.offset + request.size) if request.size else len(data)
        for at in range(request.offset, end, _PIECE):
            await call.send(ReadContentResponse(at, data[at : min(end, at + _PIECE)]))
