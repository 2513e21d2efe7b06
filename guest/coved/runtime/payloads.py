"""What the engine and a shim say to each other, between frames of JSON (``wire``) and the engine's own types."""

import base64
from typing import Any

from coved.runtime.errors import (
    CreateError,
    InvalidRequest,
    NotRunning,
    RuntimeFailure,
    RuntimeTimeout,
    StartError,
)
from coved.runtime.spec import Attachment, Exit, LogTarget, Stdio

_ERRORS: dict[str, type[RuntimeFailure]] = {
    "create": CreateError,
    "not-running": NotRunning,
    "invalid": InvalidRequest,
    "timeout": RuntimeTimeout,
}


def of_stdio(stdio: Stdio) -> dict[str, Any]:
    return {
        "terminal": stdio.terminal,
        "open_stdin": stdio.open_stdin,
        "stdin_once": stdio.stdin_once,
        "height": stdio.height,
        "width": stdio.width,
    }


def of_log(log: LogTarget) -> dict[str, Any]:
    """Raises CreateError for a driver that shims do not have."""
    if log.driver not in ("json-file", "local"):
        raise CreateError(f"the runtime has no log driver '{log.driver}'")
    return {
        "path": str(log.path),
        "driver": log.driver,
        "max_size": log.max_size,
        "max_files": log.max_files,
        "compress": log.compress,
        "attrs": log.attrs,
    }


def of_attachment(attachment: Attachment) -> dict[str, Any]:
    return {
        "stdin": attachment.stdin,
        "stdout": attachment.stdout,
        "stderr": attachment.stderr,
        "raw": attachment.raw,
        "detach_keys": base64.b64encode(attachment.detach_keys).decode(),
        "pending": base64.b64encode(attachment.pending).decode(),
    }


def to_error(payload: dict[str, Any]) -> RuntimeFailure:
    message = str(payload.get("message", "unknown error"))
    if payload.get("kind") == "start":
        return StartError(message, int(payload.get("exit_code", 127)))
    return _ERRORS.get(str(payload.get("kind")), RuntimeFailure)(message)


def to_exit(payload: dict[str, Any]) -> Exit:
    return Exit(int(payload["code"]), bool(payload["oom_killed"]), int(payload["exited_at_ns"]))
