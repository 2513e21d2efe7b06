"""The queue of a listening socket of another process."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

import pytest
from cove.drivers.qemu import backlog

SCRIPT = "import socket; s = socket.create_server(('127.0.0.1', 0), backlog=1); print(s.fileno(), s.getsockname()[1], flush=True); input()"


def waiting(port: int) -> int:
    """How many of twenty connections get in at once, though nobody accepts them."""
    with contextlib.ExitStack() as stack:
        for number in range(20):
            one = stack.enter_context(socket.socket())
            one.settimeout(0.3)
            try:
                one.connect(("127.0.0.1", port))
            except TimeoutError:
                return number
    return 20


def test_it_can_be_made_longer() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        fd, port = map(int, process.stdout.readline().split())
        assert waiting(port) < 5
        backlog.lengthen(process.pid, fd)
        assert waiting(port) == 20
        with pytest.raises(OSError):
            backlog.lengthen(process.pid, 1000)
        process.kill()
    with pytest.raises(ProcessLookupError):
        backlog.lengthen(process.pid, fd)
