"""A shim that is being made waits for what its container joins, and is gone when that will not be there."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from coved.runtime.errors import CreateError, ShimGone
from coved.runtime.shim_client import ShimClient
from coved.runtime.spec import Attachment, LogTarget, Spec

from kill_look import processes
from runtime_support import TIMEOUT_S, Client, Harness, gone, process, with_harness

pytestmark = pytest.mark.root


def unchanged(spec: Spec) -> None:
    pass


def creating(
    made: Harness,
    container_id: str,
    after: "asyncio.Future[Any]",
    change: Callable[[Spec], None] = unchanged,
    attach: Sequence[Attachment] = (),
) -> "asyncio.Task[ShimClient]":
    init = process("sh", "-c", "readlink /proc/self/ns/net")
    spec = made.spec(init, container_id)
    change(spec)
    return asyncio.get_running_loop().create_task(
        made.client.create(
            container_id, spec, stdio=made.stdio(init), log=LogTarget(made.folder / f"{container_id}.log"),
            exit_file=made.exit_file(container_id), after=after, attach=attach, start=True,
        )
    )  # fmt: skip


async def held(made: Harness, container_id: str) -> None:
    """Returns when its shim has made all that comes before the wait, its log last of all that can be seen."""
    async with asyncio.timeout(TIMEOUT_S):
        while not (made.folder / f"{container_id}.log").exists():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def leaves_nothing(made: Harness, container_id: str) -> None:
    assert not (made.shims / container_id).exists()
    assert subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", container_id], capture_output=True, text=True, check=True, timeout=30
    ).stdout == ""  # fmt: skip


@with_harness
async def test_it_joins_what_was_not_there_when_it_was_asked_for(made: Harness) -> None:
    container_id, name = made.new_id(), made.new_id()[:12]
    after: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def join(spec: Spec) -> None:
        spaces = [one for one in spec["linux"]["namespaces"] if one["type"] != "network"]
        spec["linux"]["namespaces"] = [*spaces, {"type": "network", "path": f"/run/netns/{name}"}]

    client = Client()
    task = creating(made, container_id, after, join, [client.attachment()])
    await held(made, container_id)
    assert not task.done()
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=30)
    try:
        after.set_result(None)
        shim = made.made[container_id] = await asyncio.wait_for(task, TIMEOUT_S)
        client.handed_over()
        await shim.start()
        said = await client.read_all()
        inode = Path(f"/run/netns/{name}").stat().st_ino
        assert said[8:] == f"net:[{inode}]\n".encode()
        client.close()
        await shim.delete()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=30)


@with_harness
async def test_it_is_gone_when_that_fails_and_can_be_asked_for_again(made: Harness) -> None:
    container_id = made.new_id()
    for _ in range(3):
        after: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = creating(made, container_id, after)
        await held(made, container_id)
        after.set_exception(ZeroDivisionError("no network today"))
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(task, TIMEOUT_S)
        leaves_nothing(made, container_id)
        (made.folder / f"{container_id}.log").unlink()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await creating(made, container_id, done)
    assert not (made.folder / f"{container_id}.log").exists()  # nobody was asked
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    shim = made.made[container_id] = await asyncio.wait_for(creating(made, container_id, done), TIMEOUT_S)
    await shim.start()
    assert (await asyncio.wait_for(shim.wait(), TIMEOUT_S)).code == 0


@with_harness
async def test_what_the_shim_cannot_make_meanwhile_is_told(made: Harness) -> None:
    def spoil(spec: Spec) -> None:
        spec["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]})

    container_id = made.new_id()
    after: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = creating(made, container_id, after, spoil)
    await held(made, container_id)
    async with asyncio.timeout(TIMEOUT_S):
        while (made.shims / container_id).exists():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    after.set_result(None)
    with pytest.raises(CreateError, match="/no/such"):
        await asyncio.wait_for(task, TIMEOUT_S)
    leaves_nothing(made, container_id)


@with_harness
async def test_it_is_gone_when_whoever_asks_gives_up(made: Harness) -> None:
    container_id = made.new_id()
    after: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = creating(made, container_id, after)
    await held(made, container_id)
    task.cancel()
    await asyncio.wait([task], timeout=TIMEOUT_S)
    assert task.cancelled()
    assert not after.cancelled()  # that is its maker's
    leaves_nothing(made, container_id)


@with_harness
async def test_one_that_is_killed_is_not_made_once_more(made: Harness) -> None:
    """Nobody knows whether its process has been executed by then, and that must not happen twice."""
    container_id = made.new_id()
    after: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = creating(made, container_id, after)
    await held(made, container_id)
    (shim,) = [pid for pid, name in processes(made.folder) if name == f"shim:{container_id[:10]}"]
    os.kill(shim, signal.SIGKILL)
    await gone(shim)
    after.set_result(None)
    with pytest.raises(ShimGone, match=container_id):
        await asyncio.wait_for(task, TIMEOUT_S)
    leaves_nothing(made, container_id)
