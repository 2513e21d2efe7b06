"""The errors that domains raise, each with the status code that the Docker Engine API gives it.

The API answers them as ``{"message": str(error)}``; messages are Docker's own where clients match on them.
"""

import errno

UNFIT = 78
"""Exit status of an engine that must not touch the data that it finds (EX_CONFIG of sysexits.h): another start would not help."""


class EngineError(Exception):
    """Something the caller is told about. ``status`` is the HTTP status code of the answer."""

    status = 500
    exit_code: int | None = None
    """What a stream of messages tells beside the words (``errorDetail.code``): a command's exit status."""


class InvalidParameter(EngineError):
    """The request cannot be right, whatever the engine's state (400)."""

    status = 400


class Forbidden(EngineError):
    """The engine will not do this (403)."""

    status = 403


class NotFound(EngineError):
    """The named thing does not exist (404)."""

    status = 404


class NotModified(EngineError):
    """The thing is already in the asked-for state (304, which has no body)."""

    status = 304


class Conflict(EngineError):
    """The thing's present state forbids this (409)."""

    status = 409


class NotImplementedByEngine(EngineError):
    """A part of the API that Cove does not have (501)."""

    status = 501


class Unavailable(EngineError):
    """Not now: for instance, swarm requests to an engine that is in no swarm (503)."""

    status = 503


class StorageFull(EngineError):
    """The disk that holds the engine's data has no room left, or no inodes (500, as dockerd answers)."""


class OutOfMemory(EngineError):
    """The engine gets no more memory of the machine (500)."""


def no_space(path: str = "", reason: str = "no space left on device") -> StorageFull:
    """What to say when ``path`` cannot be written, as Go's programs put it, and what helps."""
    said = f"write {path}: {reason}" if path else reason
    return StorageFull(f"{said}: remove images, containers or volumes, or give the machine a larger disk")


def no_room(error: BaseException) -> StorageFull | None:
    """What to say of a system's error when it means that the disk is full; None for any other."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    reason = "no space left on device" if error.errno == errno.ENOSPC else "disk quota exceeded"
    return no_space(str(error.filename or ""), reason)


def no_memory(error: BaseException) -> OutOfMemory | None:
    """What to say of an error when it means that there is no more memory; None for any other."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return OutOfMemory("cannot allocate memory: stop containers, or give the machine more memory")
    return None
