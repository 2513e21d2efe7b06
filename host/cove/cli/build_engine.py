"""How builds reach the engine: over the same socket as all else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Flag

if TYPE_CHECKING:
    import socket

    from cove.build.engine import Dial
    from cove.cli.client import EngineClient

NO_BUILDKIT = (404, 405, 501)
BUILDER = Flag("builder", kind="string", default="", help="Override the configured builder instance", hidden=True)


def builder_name(engine: EngineClient, asked: str) -> str:
    """What docker calls the builder instance: an engine has the one, named as its machine. Raises `CliError` when another
    was asked for.
    """
    name = engine.machine or "default"
    if asked not in ("", "default", name):
        raise CliError(f'ERROR: no builder "{asked}" found')
    return name


def dialer(engine: EngineClient) -> Dial:
    """Connections to `engine`, whose machine is started when it has to be. Raises what `EngineClient.connect` does."""
    from cove.cli.client import EngineClient

    engine.connect().close()  # once, while nothing else is shown

    def dial(path: str, headers: Sequence[tuple[str, str]]) -> tuple[socket.socket, bytes]:
        try:
            hijacked = EngineClient(engine.path, engine.machine).hijack(path, upgrade="h2c", headers=headers)
        except DaemonError as error:
            if error.code in NO_BUILDKIT:
                raise CliError("ERROR: the engine does not offer BuildKit, which builds need") from error
            raise
        return hijacked.sock, hijacked.pending

    return dial
