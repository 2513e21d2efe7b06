"""What can go wrong in the runtime, as the engine sees it.

Texts that docker clients match on (``executable file not found in $PATH``, ``permission denied``) are kept word for
word.
"""

CREATE_REFUSED = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    "runc create failed: {}: unknown"
)
"""What docker's engine, containerd and runc make of a spec that is not to be had; clients match on it."""


class Refused(Exception):
    """What a shim or the spawner answers a request with that it cannot do; ``kind`` names the client's exception."""

    def __init__(self, kind: str, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.payload: dict[str, object] = {"kind": kind, "message": message}
        if exit_code is not None:
            self.payload["exit_code"] = exit_code


class RuntimeFailure(Exception):
    """Base of all errors of this package."""


class CreateError(RuntimeFailure):
    """The container could not be made: a mount, a namespace, the cgroup or the spec itself is at fault.

    Nothing is left behind: cgroup, mounts and shim are gone when this is raised.
    """


class StartError(RuntimeFailure):
    """The process could not be executed. ``exit_code`` is docker's: 127 not found, 126 found but not executable."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class NotRunning(RuntimeFailure):
    """The process is not (or no longer) running, so it cannot be signalled, attached to or joined."""


class InvalidRequest(RuntimeFailure):
    """The shim refused a request that cannot be right, such as an exec id that is in use."""


class ShimGone(RuntimeFailure):
    """The container's shim does not answer (any more). The container has ended with it."""


class SpawnerGone(RuntimeFailure):
    """The spawner does not answer: it is not running or has just been killed."""


class RuntimeTimeout(RuntimeFailure):
    """A bounded wait ended without an answer."""
