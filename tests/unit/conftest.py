"""A guest's SSH and the way into it, for the tests of the host's side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ways import Way


class SshWay(Way):
    """By the guest's sshd."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from cove.transport.ssh import make_key
        from guest_ssh import GuestSsh

        self.key, self.host_key = folder / "key", folder / "host_key"
        private, self.public = make_key()
        self.key.write_text(private)
        self.host_key.write_text(make_key()[0])
        self.target = "/run/docker.sock"
        self.targets = {self.target: self.engine}
        self.guest = GuestSsh(self.host_key, self.public, self.targets)

    def transport(self) -> Any:
        from cove.transport.ssh import SshTransport

        return SshTransport(self.guest.port, self.key, self.host_key)

    def restart(self) -> None:
        """Another sshd on the same port."""
        from guest_ssh import GuestSsh

        port = self.guest.port
        self.guest.close()
        self.guest = GuestSsh(self.host_key, self.public, self.targets, port)


@pytest.fixture
def way() -> Iterator[Way]:
    with SshWay.made() as made:
        yield made
