"""How builds reach the engine: over the same socket as all else."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from cove.build.engine import Dial
from cove.cli.client import EngineClient
from cove.cli.errors import CliError, DaemonError

NO_BUILDKIT = (404, 405, 501)


def dialer(engine: EngineClient) -> Dial:
    """Connections to `engine`, whose machine is started when it has to be. Raises what `EngineClient.connect` does."""
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
