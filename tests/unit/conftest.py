"""A guest's SSH and the way into it, for the tests of the host's side; and what is left out on Windows."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from not_on_windows import left_out
from ways import Way

if sys.platform == "win32":

    class LeftOut(pytest.Module):
        """A file of tests that is not even imported."""

        reason = ""

        def collect(self) -> Any:
            raise pytest.skip.Exception(self.reason, allow_module_level=True)

    def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        reason = left_out(module_path)
        if not reason:
            return None
        made = LeftOut.from_parent(parent, path=module_path)
        made.reason = reason
        return made

    def pytest_itemcollected(item: pytest.Item) -> None:
        if reason := left_out(item.path, getattr(item, "originalname", item.name)):
            item.add_marker(pytest.mark.skip(reason=reason))


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
        listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.guest = GuestSsh(self.host_key, self.public, self.targets, listener)


@pytest.fixture
def way() -> Iterator[Way]:
    with SshWay.made() as made:
        yield made
