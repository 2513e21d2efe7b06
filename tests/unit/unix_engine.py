"""Stand-ins for the engine on a unix socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path


def serve(path: Path, behave: Callable[[socket.socket], None]) -> Callable[[], None]:
    """An engine at `path` that does `behave` with each connection; what is returned ends it."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(128)

    def one(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            behave(client)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(client,), daemon=True).start()

    def end() -> None:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        path.unlink(missing_ok=True)

    threading.Thread(target=accept, daemon=True).start()
    return end
