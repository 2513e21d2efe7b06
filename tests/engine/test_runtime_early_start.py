"""A process that was announced to be started executes before its start is asked for: nobody can tell the difference.

The engine asks in the same breath as it announces; here the question is held back for as long as a test likes.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from unittest.mock import patch

import pytest
from coved.runtime.errors import InvalidRequest, ShimGone, StartError
from coved.runtime.shim_client import ShimClient
from coved.runtime.spec import LogTarget, Process

from runtime_support import TIMEOUT_S, Harness, frames, gone, process, with_harness

pytestmark = pytest.mark.root


async def announced(made: Harness, init: Process) -> ShimClient:
    container_id = made.new_id()
    with patch.object(ShimClient, "ask_early", lambda self, attach, *, start: []):
        shim = await made.client.create(
            container_id, made.spec(init, container_id), stdio=made.stdio(init),
            log=LogTarget(made.folder / f"{container_id}.log"), exit_file=made.exit_file(container_id), start=True,
        )  # fmt: skip
    made.made[container_id] = shim
    return shim


async def executed(shim: ShimClient, name: str) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while Path(f"/proc/{shim.pid}/comm").read_text() != f"{name}\n":  # noqa: ASYNC110 - of an execve nobody is told
            await asyncio.sleep(0.01)


@with_harness
async def test_output_and_end_are_held_back_until_the_start_is_asked_for(made: Harness) -> None:
    shim = await announced(made, process("sh", "-c", "echo early; echo bad >&2; exit 3"))
    await gone(shim.pid)
    again = await made.client.reconnect(shim.container_id)  # its state is what another engine would be told
    assert again is not None
    assert not again.started and not again.exits
    again.close()
    assert not made.exit_file(shim.container_id).exists()
    client = await made.attach(shim)
    await shim.start()
    assert frames(await client.read_all()) == {1: b"early\n", 2: b"bad\n"}
    assert (await asyncio.wait_for(shim.wait(), TIMEOUT_S)).code == 3
    log = (made.folder / f"{shim.container_id}.log").read_text()
    assert "early" in log and "bad" in log
    with pytest.raises(InvalidRequest):
        await shim.start()
    client.close()


@with_harness
async def test_what_cannot_be_executed_is_told_to_whoever_asks_for_the_start(made: Harness) -> None:
    for words, code in ((["/no/such"], 127), (["/etc"], 126)):
        shim = await announced(made, process(*words))
        await gone(shim.pid)
        assert not shim.exits
        with pytest.raises(StartError) as failed:
            await shim.start()
        assert failed.value.exit_code == code
        await shim.delete()
        made.leaves_nothing(shim)


@with_harness
async def test_one_that_is_killed_before_its_start_is_asked_for_has_been_started(made: Harness) -> None:
    shim = await announced(made, process("sleep", "60"))
    await executed(shim, "sleep")
    await shim.kill(signal.SIGKILL)
    await gone(shim.pid)
    assert not shim.exits
    await shim.start()
    assert (await asyncio.wait_for(shim.wait(), TIMEOUT_S)).code == 137


@with_harness
async def test_nothing_is_left_of_one_whose_engine_never_asks(made: Harness) -> None:
    for init, name in ((process("sleep", "60"), "sleep"), (process("true"), "")):
        shim = await announced(made, init)
        if name:
            await executed(shim, name)
        else:
            await gone(shim.pid)
        shim_pid = int(Path(f"/proc/{shim.pid}/stat").read_text().rsplit(")")[-1].split()[1])
        pid = shim.pid
        shim.close()
        await gone(shim_pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            pytest.fail("its process outlives the shim")
        made.leaves_nothing(shim)


@with_harness
async def test_one_that_is_deleted_before_its_start_is_asked_for(made: Harness) -> None:
    for init, name in ((process("sleep", "60"), "sleep"), (process("true"), "")):
        shim = await announced(made, init)
        if name:
            await executed(shim, name)
        else:
            await gone(shim.pid)
        await shim.delete()
        with pytest.raises(ShimGone):
            await shim.start()
        made.leaves_nothing(shim)
