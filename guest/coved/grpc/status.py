"""How calls end: gRPC's codes, and their way through HTTP/2 trailers (grpc.io, "gRPC over HTTP2", and google.rpc.Status)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import unquote_to_bytes

from coved.grpc.codec import Message, WireError, int32, messages, raw, string

Metadata = Sequence[tuple[str, str]]
"""Names in lower case; a name may come more than once."""


class Code(IntEnum):
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass
class Detail(Message):
    """google.protobuf.Any; BuildKit writes JSON into it, and says so at the end of the URL."""

    type_url: str = string(1)
    value: bytes = raw(2)


@dataclass
class Status(Message):
    """google.rpc.Status."""

    code: int = int32(1)
    message: str = string(2)
    details: list[Detail] = messages(3, Detail)


class GrpcError(Exception):
    """A call did not end well; ``details`` are for programs."""

    def __init__(self, code: int, message: str, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)


_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}


def trailers(status: Status) -> list[tuple[str, str]]:
    found = [("grpc-status", str(status.code))]
    if status.message:
        data = status.message.encode("utf-8", "replace")
        text = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data)
        found.append(("grpc-message", text))
    if status.details:
        encoded = base64.b64encode(status.encode()).rstrip(b"=").decode("ascii")
        found.append(("grpc-status-details-bin", encoded))
    return found


_BY_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


def of_trailers(found: Metadata, http: str) -> Status:
    """The status that ``found`` says, or that follows from the status code of the response when it says none."""
    fields = dict(found)
    text = fields.get("grpc-status")
    if text is None:
        code = _BY_HTTP.get(int(http) if http.isdecimal() else 0, Code.UNKNOWN)
        return Status(code, f"the peer ended the call without a status (HTTP status {http or 'unknown'})")
    if not text.isdecimal() or len(text) > 9:
        return Status(Code.UNKNOWN, "the peer ended the call with a malformed status")
    message = unquote_to_bytes(fields.get("grpc-message", "").encode("latin-1", "replace")).decode("utf-8", "replace")
    status = Status(int(text), message)
    if (details := fields.get("grpc-status-details-bin")) is not None:
        try:
            data = base64.b64decode(details.partition(",")[0] + "=" * (-len(details) % 4), validate=True)
            status.details = Status.decode(data).details
        except (binascii.Error, WireError, ValueError):
            pass  # they add to what is known already
    return status
