"""What dockerd adds to a runtime's words about a process that could not be started."""

from __future__ import annotations

_RUNTIME = "OCI runtime "
_NOT_A_DIRECTORY = "not a directory"
_PERHAPS_A_MOUNT = (
    ": Are you trying to mount a directory onto a file (or vice-versa)?"
    " Check if the specified host path exists and is the expected type"
)


def with_hint(message: str) -> str:
    """``message``, and what most often is the cause of it, as dockerd's ``translateContainerdStartErr`` has it."""
    perhaps = _RUNTIME in message and _NOT_A_DIRECTORY in message.lower()
    return message + _PERHAPS_A_MOUNT if perhaps else message
