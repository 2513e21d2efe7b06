"""How a build that failed is told to BuildKit's clients: they print the lines of the Dockerfile that go with it."""

from __future__ import annotations

import base64
import json
from typing import Any

from coved.build.errors import BuildError
from coved.errors import EngineError
from coved.grpc.status import Code, Detail, GrpcError

_URL = "github.com/moby/buildkit/"


def to_grpc(error: BaseException) -> GrpcError | None:
    """None for what is a mistake of the engine. Of any other code than UNKNOWN clients print the name as well."""
    if isinstance(error, GrpcError):
        return error
    if isinstance(error, BuildError):
        return GrpcError(Code.UNKNOWN, str(error), _details(error))
    if isinstance(error, EngineError):
        return GrpcError(Code.UNKNOWN, str(error))
    return None


def _details(error: BuildError) -> list[Detail]:
    found = []
    if error.exit_code is not None:
        found.append(_detail("gatewayapi.ExitMessage+json", {"Code": error.exit_code}))
    if error.location is not None and error.text:
        info = {
            "filename": error.filename,
            "data": base64.b64encode(error.text.encode("utf-8", "replace")).decode("ascii"),
            "language": "Dockerfile",
        }
        lines = {"start": {"line": error.location.first}, "end": {"line": error.location.last}}
        found.append(_detail("errdefs.Source+json", {"info": info, "ranges": [lines]}))
    return found


def vertex_detail(digest: str) -> Detail:
    """Says which step it was."""
    return _detail("errdefs.Vertex+json", {"digest": digest})


def _detail(name: str, value: dict[str, Any]) -> Detail:
    return Detail(_URL + name, json.dumps(value, separators=(",", ":")).encode("utf-8"))
