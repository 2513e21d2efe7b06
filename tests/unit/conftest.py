"""A guest's SSH and the way into it, for the tests of the host's side."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Way:
    """`engine` is a unix socket behind the guest's sshd; `serve` says what answers there."""

    def __init__(self, folder: Path) -> None:
        from cove.transport.ssh import make_key
        from guest_ssh import GuestSsh

        self.folder = folder
        self.engine = folder / "engine.sock"
        self.key, self.host_key = folder / "key", folder / "host_key"
        private, self.public = make_key()
        self.key.write_text(private)
        self.host_key.write_text(make_key()[0])
        self.targets = {"/run/docker.sock": self.engine}
        self.guest = GuestSsh(self.host_key, self.public, self.targets)
        self._listeners: list[Any] = []

    def transport(self) -> Any:
        from cove.transport.ssh import SshTransport

        return SshTransport(self.guest.port, self.key, self.host_key)

    def restart_sshd(self) -> None:
        """Another sshd on the same port."""
        from guest_ssh import GuestSsh

        port = self.guest.port
        self.guest.close()
        self.guest = GuestSsh(self.host_key, self.public, self.targets, port)

    def serve(self, behave: Callable[[Any], None]) -> Callable[[], None]:
        """An engine that does `behave` with each connection; what is returned ends it."""
        import contextlib
        import socket

        self.engine.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.engine))
        listener.listen(128)
        self._listeners.append(listener)

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
            self.engine.unlink(missing_ok=True)

        threading.Thread(target=accept, daemon=True).start()
        return end

    def close(self) -> None:
        self.guest.close()
        for listener in self._listeners:
            listener.close()


@pytest.fixture
def way() -> Iterator[Way]:
    folder = Path(tempfile.mkdtemp(prefix="cove-w", dir="/tmp"))
    made = Way(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)
