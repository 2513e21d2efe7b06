"""A run of a VM leaves nothing behind in its agent, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cove.agent.vm import Vm
from cove.errors import CoveError
from cove.progress import ignore


def tasks() -> list[str]:
    """What goes on but for this test."""
    return [str(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.mark.parametrize("end", ["stop", "suspend", "kill"])
def test_a_run_that_is_over(cove: Any, end: str) -> None:
    paths = cove.make()

    async def run() -> None:
        vm = Vm(paths)
        await vm.start(ignore)
        if end == "kill":
            assert vm._driver is not None
            await vm._driver.kill()
        else:
            await (vm.stop(ignore) if end == "stop" else vm.suspend(ignore))
        await vm.close()
        assert tasks() == []

    asyncio.run(run())
    assert paths.qemu_log.read_text().count("--- QEMU ") == 2  # it starts, it ended


def test_a_suspension_that_nobody_asked_for_is_given_up_before_its_memory_is_written(cove: Any) -> None:
    """While folders of this computer are taken away, which takes a guest its time."""
    paths = cove.make()

    async def run() -> None:
        vm, wanted = Vm(paths), asyncio.Event()
        await vm.start(ignore)
        assert vm.folders is not None

        @contextlib.asynccontextmanager
        async def away(unless: asyncio.Event) -> AsyncIterator[None]:
            await unless.wait()
            raise CoveError("it was given up")
            yield

        vm.folders.away = away  # type: ignore[method-assign,assignment]
        going = asyncio.create_task(vm.suspend(ignore, 1.0, wanted))
        wanted.set()
        with pytest.raises(CoveError, match="it was given up"):
            await asyncio.wait_for(going, 30)
        await vm.stop(ignore)
        await vm.close()

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["refuse", "silent", "no-streams silent"])
def test_a_start_that_fails(cove: Any, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cove.make()
    monkeypatch.setenv("COVE_FAKE", fault)
    monkeypatch.setattr("cove.agent.vm.BOOT_TIMEOUT_S", 1)

    async def run() -> None:
        with pytest.raises(CoveError):
            await Vm(paths).start(ignore)
        assert tasks() == []

    asyncio.run(run())


def test_a_vm_that_goes_on_can_be_taken_over(cove: Any) -> None:
    paths = cove.make()

    async def run() -> None:
        pids = []
        for _ in range(2):
            vm = Vm(paths)
            await vm.start(ignore)
            pids.append(vm.pid)
            await vm.close()
            assert tasks() == []
        assert pids == [pids[0]] * 2 and vm.adopted

    asyncio.run(run())
