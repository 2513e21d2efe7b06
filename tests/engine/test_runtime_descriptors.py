"""A shim without descriptors to spare."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from pathlib import Path

import pytest

from runtime_support import Harness, process, with_harness

pytestmark = [pytest.mark.root, pytest.mark.native]


@with_harness
async def test_an_engine_that_cannot_be_let_in_waits_and_ends_no_container(made: Harness) -> None:
    shim = await made.create(process("sleep", "300"))
    await shim.start()
    pid = int(Path(f"/proc/{shim.pid}/stat").read_text().split()[3])
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, before[1]))
    ticks = used(pid)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.setblocking(False)
        folder = os.open(made.shims / shim.container_id, os.O_PATH)
        engine.connect(f"/proc/self/fd/{folder}/shim.sock")
        os.close(folder)
        await asyncio.sleep(1)  # not for a condition: that nothing happens
        assert used(pid) - ticks < 0.3 * os.sysconf("SC_CLK_TCK")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        async with asyncio.timeout(10):
            assert await asyncio.get_running_loop().sock_recv(engine, 4)
    assert not shim.gone


def used(pid: int) -> int:
    """Ticks of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
