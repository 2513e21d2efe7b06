"""Streams over vsock, with real sockets of that kind: the machine speaks to itself (vsock_loopback), both the guest's end and the host's
run in it. What is between them on a host with vhost-vsock, or under Hyper-V, is the kernel's."""

from __future__ import annotations

from typing import Any

import host_in_guest
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

SCRIPT = """
from coved.streams import knock
from coved.streams.key import KEY_SIZE

strict = len(sys.argv) > 1
transport = served(vsock.VsockStreams if strict else Here, b"k" * KEY_SIZE, knock.PORT)
try:
    said = asked(transport, "/run/docker.sock", b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
except Exception as error:
    print("refused:", error)
    raise SystemExit
print(said.split("\\r\\n\\r\\n")[-1])
"""


def run(machine: Any, *words: str) -> str:
    done = machine.cove("machine", "ssh", host_in_guest.line(SCRIPT, *words), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return str(done.stdout).strip()


def test_the_engine_answers_by_vsock(machine: Any) -> None:
    assert run(machine) == "OK"


def test_the_machine_itself_is_not_its_host(machine: Any) -> None:
    """What runs in it cannot come in by the host's door."""
    assert run(machine, "strict").startswith("refused: ")
