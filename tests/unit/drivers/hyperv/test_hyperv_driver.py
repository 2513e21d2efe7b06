"""What the driver asks of Hyper-V, and what it makes of the answers: on a model of Hyper-V (`hyperv_model`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cove.drivers.base import Accelerator, Forward, StreamEnd, VmSpec
from cove.drivers.hyperv import console
from cove.drivers.hyperv.driver import HyperVDriver
from cove.drivers.hyperv.powershell import ScriptError
from cove.errors import DriverError, HypervisorMissing, StateError
from cove.machine.architecture import AMD64
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from coved.boot import seedform
from hyperv_model import HyperV, Vm, size_of

SPEC = VmSpec(
    "it's", 2, 2 << 30, 60 << 30, Path(), Path(), Path(), "quiet cove.image=0123", Accelerator("hyperv"),
    AMD64, boot_disk=Path("/images/boot.vhdx"),
)  # fmt: skip

SEED = b'{"host_key": "secret"}'


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePaths:
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "it's \u2019ours'"))
    made = MachinePaths("default")
    made.folder.mkdir(parents=True)
    return made


@pytest.fixture
def hyperv() -> HyperV:
    return HyperV()


def driver_of(paths: MachinePaths, hyperv: HyperV) -> HyperVDriver:
    return HyperVDriver(paths, hyperv, hyperv.open_console)


Do = Callable[[HyperVDriver], Coroutine[Any, Any, Any]]


def run(paths: MachinePaths, hyperv: HyperV, *steps: Do) -> None:
    async def all() -> None:
        driver = driver_of(paths, hyperv)
        try:
            for step in steps:
                await step(driver)
        finally:
            await driver.close()

    asyncio.run(all())


async def create(driver: HyperVDriver) -> None:
    await driver.create(SPEC)


async def start(driver: HyperVDriver) -> None:
    await driver.create(SPEC)
    await begin(driver, SPEC)


async def begin(driver: HyperVDriver, spec: VmSpec) -> None:
    await driver.start(spec)
    await driver.begin(spec, SEED)


def only(hyperv: HyperV) -> Vm:
    (vm,) = hyperv.vms.values()
    return vm


def test_create_makes_a_vm_and_a_disk_once(paths: MachinePaths, hyperv: HyperV) -> None:
    run(paths, hyperv, create, create)
    assert only(hyperv).name == "cove-default"
    assert hyperv.ran.count("CREATE") == 1
    assert size_of(paths.vhdx) == SPEC.disk_size


def test_a_vm_whose_agent_died_before_it_noted_it_is_found_again(paths: MachinePaths, hyperv: HyperV) -> None:
    run(paths, hyperv, create)
    (paths.folder / "hyper-v.json").unlink()
    run(paths, hyperv, create)
    assert hyperv.ran.count("CREATE") == 1
    assert json.loads((paths.folder / "hyper-v.json").read_text())["id"] in hyperv.vms


def test_a_vm_of_that_name_that_is_not_ours_is_left_alone(paths: MachinePaths, hyperv: HyperV) -> None:
    hyperv.vms["5b2e2b8a-0000-0000-0000-000000000000"] = Vm("cove-default", "Cove: somewhere else")
    with pytest.raises(DriverError, match="already"):
        run(paths, hyperv, create)
    assert len(hyperv.vms) == 1 and "CREATE" not in hyperv.ran


def test_a_vm_that_somebody_has_removed_is_made_again_and_the_disk_stays(paths: MachinePaths, hyperv: HyperV) -> None:
    run(paths, hyperv, create)
    hyperv.vms.clear()
    (paths.folder / "hyper-v").rmdir()
    (paths.folder / "data.vhdx").write_text("7")
    run(paths, hyperv, create)
    assert len(hyperv.vms) == 1
    assert (paths.folder / "data.vhdx").read_text() == "7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": False}, "not there"),
        ({"service": "Stopped"}, "vmms"),
        ({"may": False}, "may not use"),
        ({"registered": False}, "does not let Cove in"),
    ],
)
def test_a_computer_without_hyper_v(
    paths: MachinePaths, hyperv: HyperV, change: dict[str, Any], message: str
) -> None:  # fmt: skip
    hyperv.host |= change
    with pytest.raises(HypervisorMissing, match=message):
        run(paths, hyperv, create)
    with pytest.raises(HypervisorMissing, match=message):
        driver_of(paths, hyperv).version()
    assert not hyperv.vms


def test_start_equips_the_vm_with_what_the_spec_says_now(paths: MachinePaths, hyperv: HyperV) -> None:
    larger = replace(SPEC, disk_size=100 << 30, cpus=4, memory=4 << 30)

    async def larger_start(driver: HyperVDriver) -> None:
        await begin(driver, larger)
        assert driver.answers() and driver.pid() == 4711
        assert "Running" in await driver.inspected()

    run(paths, hyperv, create, larger_start)
    vm = only(hyperv)
    assert vm.state == "Running"
    assert vm.sizes == (4, 4 << 30)
    assert vm.disks == [str(paths.folder / f"{name}.vhdx") for name in ("system", "data", "seed")]
    assert (paths.folder / "system.vhdx").read_text() == str(SPEC.boot_disk)
    assert size_of(paths.vhdx) == 100 << 30


def test_the_seed_is_on_a_disk_of_the_users_alone(paths: MachinePaths, hyperv: HyperV) -> None:
    async def look(driver: HyperVDriver) -> None:
        assert uuid.UUID(driver.guest()) == uuid.UUID(next(iter(hyperv.vms)))

    run(paths, hyperv, start, look)
    disk = paths.folder / "seed.vhdx"
    assert SEED + b"\n" in disk.read_bytes()
    assert sys.platform == "win32" or disk.stat().st_mode & 0o777 == 0o600


def test_a_seed_that_has_no_room_is_told_of(paths: MachinePaths, hyperv: HyperV) -> None:
    async def too_much(driver: HyperVDriver) -> None:
        await driver.start(SPEC)
        await driver.begin(SPEC, bytes(seedform.SIZE))

    with pytest.raises(DriverError, match="cannot be told all"):
        run(paths, hyperv, create, too_much)
    assert only(hyperv).state == "Off"


def test_the_machines_lock_is_held_while_its_vm_is_followed(paths: MachinePaths, hyperv: HyperV) -> None:
    lock = FileLock(paths.vm_lock)

    async def follow(driver: HyperVDriver) -> None:
        assert not lock.is_free()
        hyperv.ended(only(hyperv))
        await driver.wait_exit()
        assert lock.is_free()

    run(paths, hyperv, start, follow)
    run(paths, hyperv, start)
    assert lock.is_free()  # an agent that is gone holds nothing; the VM is found by the next


def test_a_disk_is_never_made_smaller(paths: MachinePaths, hyperv: HyperV) -> None:
    run(
        paths,
        hyperv,
        start,
        lambda driver: driver.quit(),
        lambda driver: begin(driver, replace(SPEC, disk_size=1 << 30)),
    )
    assert size_of(paths.vhdx) == SPEC.disk_size


def test_a_start_that_fails_leaves_nothing_running(paths: MachinePaths, hyperv: HyperV) -> None:
    hyperv.fails["START"] = ScriptError("no memory (0x8007000E)", "OutOfMemory,X")
    with pytest.raises(DriverError, match="no memory left"):
        run(paths, hyperv, start)
    assert only(hyperv).state == "Off"
    assert hyperv.ran[-2:] == ["TURN_OFF", "LOOK"]


def test_an_error_that_may_be_want_of_rights_is_looked_into(paths: MachinePaths, hyperv: HyperV) -> None:
    """Windows tells of a thing that was not found, in the user's language."""
    run(paths, hyperv, create)
    hyperv.host["may"] = False
    hyperv.fails["START"] = ScriptError("Objekt nicht gefunden", "ObjectNotFound,X")
    with pytest.raises(HypervisorMissing, match="may not use"):
        run(paths, hyperv, lambda driver: begin(driver, SPEC))


def test_no_switch(paths: MachinePaths, hyperv: HyperV) -> None:
    hyperv.switches = None
    with pytest.raises(HypervisorMissing, match="Default Switch"):
        run(paths, hyperv, start)
    assert only(hyperv).state == "Off"


def test_no_template_and_no_boot_disk(paths: MachinePaths, hyperv: HyperV) -> None:
    assert not HyperVDriver.keeps_templates
    with pytest.raises(DriverError, match="template"):
        run(paths, hyperv, create, lambda driver: driver.start(SPEC, Path("template")))
    with pytest.raises(DriverError, match="no disk"):
        run(paths, hyperv, lambda driver: driver.start(replace(SPEC, boot_disk=None)))


def test_the_end_of_the_vm_is_noticed_by_its_console(paths: MachinePaths, hyperv: HyperV) -> None:
    async def end(driver: HyperVDriver) -> None:
        waiting = asyncio.ensure_future(driver.wait_exit())
        hyperv.consoles[0].data_received(b"hello\n")  # type: ignore[attr-defined]
        hyperv.ended(only(hyperv))
        await waiting
        assert not driver.answers() and driver.pid() is None

    run(paths, hyperv, start, end)
    assert paths.console_log.read_bytes() == b"hello\n"


def test_a_console_that_breaks_is_not_the_end_of_the_vm(paths: MachinePaths, hyperv: HyperV) -> None:
    async def break_off(driver: HyperVDriver) -> None:
        hyperv.heard.clear()
        hyperv.consoles.pop().connection_lost(None)
        await hyperv.heard.wait()
        assert driver.answers()
        hyperv.ended(only(hyperv))
        await driver.wait_exit()

    run(paths, hyperv, start, break_off)


@pytest.mark.parametrize("error", [PermissionError(5, "Access is denied"), FileNotFoundError(2, "none")])
def test_without_a_console_the_end_is_noticed_too(
    paths: MachinePaths, hyperv: HyperV, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    monkeypatch.setattr(console, "AGAIN_S", 0)
    monkeypatch.setattr("cove.drivers.hyperv.driver.LOOK_AGAIN_S", 0)
    hyperv.no_console = error

    async def end(driver: HyperVDriver) -> None:
        assert driver.answers()
        hyperv.ended(only(hyperv))
        await driver.wait_exit()

    run(paths, hyperv, start, end)


def test_the_power_button_does_not_wait_for_the_guest(paths: MachinePaths, hyperv: HyperV) -> None:
    async def press(driver: HyperVDriver) -> None:
        await driver.power_button()
        assert only(hyperv).state == "Running"
        await driver.wait_exit()

    run(paths, hyperv, start, press)


def test_the_ladder_ends_at_the_process(paths: MachinePaths, hyperv: HyperV) -> None:
    hyperv.guest_obeys, hyperv.hangs_on_turn_off = False, True

    async def ladder(driver: HyperVDriver) -> None:
        await driver.power_button()
        await driver.quit()
        assert only(hyperv).state == "Running"
        await driver.kill()
        await driver.wait_exit()

    run(paths, hyperv, start, ladder)
    assert only(hyperv).state == "Off"
    assert hyperv.ran.index("TURN_OFF") < hyperv.ran.index("END_WORKER")


def test_a_vm_that_does_not_end_is_told_of(paths: MachinePaths, hyperv: HyperV) -> None:
    hyperv.hangs_on_turn_off = True
    hyperv.fails["END_WORKER"] = ScriptError("Access is denied", "CouldNotStopProcess", code="0x80070005")
    with pytest.raises(DriverError, match="does not end") as caught:
        run(paths, hyperv, start, lambda driver: driver.kill())
    assert "Stop-Process -Force -Id 4711" in caught.value.hint


async def consumed() -> None: ...


def test_suspend_and_wake(paths: MachinePaths, hyperv: HyperV) -> None:
    happened: list[str] = []

    async def consume() -> None:
        happened.append(only(hyperv).state)

    async def suspend(driver: HyperVDriver) -> None:
        await driver.suspend(paths.suspended)
        await driver.quit()
        await driver.wait_exit()
        await driver.kill()
        assert only(hyperv).state == "Saved"

    async def wake(driver: HyperVDriver) -> None:
        await driver.wake(SPEC, paths.suspended, consume)
        assert driver.answers()

    run(paths, hyperv, start, suspend)
    run(paths, hyperv, wake)
    assert happened == ["Saved"]
    assert only(hyperv).state == "Running"


def test_a_suspend_that_is_not_wanted_any_more(paths: MachinePaths, hyperv: HyperV) -> None:
    async def suspend(driver: HyperVDriver) -> None:
        unless = asyncio.Event()
        unless.set()
        with pytest.raises(DriverError, match="wanted again"):
            await driver.suspend(paths.suspended, unless)
        assert driver.answers()

    run(paths, hyperv, start, suspend)
    assert only(hyperv).state == "Running" and not paths.suspended.exists()


def test_whoever_waits_for_its_end_waits_on_when_a_suspension_is_given_up(paths: MachinePaths, hyperv: HyperV) -> None:
    async def give_up(driver: HyperVDriver) -> None:
        waiting = asyncio.ensure_future(driver.wait_exit())
        unless = asyncio.Event()
        unless.set()
        with pytest.raises(DriverError, match="wanted again"):
            await driver.suspend(paths.suspended, unless)
        assert not waiting.done()
        hyperv.ended(only(hyperv))
        await waiting

    run(paths, hyperv, start, give_up)


def test_a_state_that_comes_to_nothing_after_it_was_written_goes_on(paths: MachinePaths, hyperv: HyperV) -> None:
    async def go_on(driver: HyperVDriver) -> None:
        waiting = asyncio.ensure_future(driver.wait_exit())
        await driver.suspend(paths.suspended)
        await driver.unfreeze()
        assert only(hyperv).state == "Running" and driver.answers() and not waiting.done()
        hyperv.ended(only(hyperv))
        await waiting

    run(paths, hyperv, start, go_on)


def test_a_saved_vm_that_does_not_start_again_is_gone(paths: MachinePaths, hyperv: HyperV) -> None:
    async def fail(driver: HyperVDriver) -> None:
        hyperv.fails["START"] = ScriptError("no memory (0x8007000E)", "OutOfMemory,X")
        await driver.suspend(paths.suspended)
        with pytest.raises(DriverError, match="no memory left"):
            await driver.unfreeze()
        await driver.wait_exit()
        assert not driver.answers() and FileLock(paths.vm_lock).is_free()

    run(paths, hyperv, start, fail)


def test_a_save_that_goes_on_though_it_was_given_up_is_waited_for(
    paths: MachinePaths, hyperv: HyperV, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cove.drivers.hyperv.driver.LOOK_AGAIN_S", 0)
    looked = hyperv._look
    states = ["Saving", "Saving", "Saved"]

    def look(id: str) -> Any:
        if states:
            only(hyperv).state = states.pop(0)
        return looked(id)

    async def give_up(driver: HyperVDriver) -> None:
        hyperv.fails["SAVE"] = DriverError("PowerShell has not answered")
        monkeypatch.setattr(hyperv, "_look", look)
        with pytest.raises(DriverError, match="not answered"):
            await driver.suspend(paths.suspended)
        assert driver.answers() and only(hyperv).state == "Running"

    run(paths, hyperv, start, give_up)


def test_a_save_that_fails_leaves_the_vm_followed(paths: MachinePaths, hyperv: HyperV) -> None:
    async def fail(driver: HyperVDriver) -> None:
        hyperv.fails["SAVE"] = ScriptError("no room (0x80070070)", "X")
        with pytest.raises(DriverError, match="disk is full"):
            await driver.suspend(paths.suspended)
        assert driver.answers() and hyperv.ran.count("START") == 1
        hyperv.ended(only(hyperv))
        await driver.wait_exit()

    run(paths, hyperv, start, fail)


def test_a_disk_without_room_is_noticed_while_the_console_goes_on(
    paths: MachinePaths, hyperv: HyperV, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cove.drivers.hyperv.driver.LOOK_S", 0.01)

    async def fill(driver: HyperVDriver) -> None:
        only(hyperv).state = "PausedCritical"
        async with asyncio.timeout(60):
            await driver.wait_disk_full()
        assert driver.answers() and len(hyperv.consoles) == 1

    run(paths, hyperv, start, fill)


def test_a_disk_without_room_still_is_told_by_the_one_who_lets_the_vm_go_on(
    paths: MachinePaths, hyperv: HyperV, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(paths, hyperv, start)
    only(hyperv).state = "PausedCritical"
    monkeypatch.setattr(hyperv, "_continue", lambda id: None)

    async def resume(driver: HyperVDriver) -> None:
        assert await driver.adopt()
        await driver.resume()
        assert driver.disk_is_full()

    run(paths, hyperv, resume)


@pytest.mark.parametrize("failing", ["EQUIP", ""])
def test_a_seed_that_no_guest_has_taken_does_not_stay(paths: MachinePaths, hyperv: HyperV, failing: str) -> None:
    if failing:
        hyperv.fails |= {name: ScriptError("it hangs", "X") for name in (failing, "TURN_OFF", "LOOK")}

    async def fail(driver: HyperVDriver) -> None:
        await driver.start(SPEC)
        await driver.begin(SPEC, SEED)
        assert driver.seed_disk.exists()
        await driver.kill()

    async def made(driver: HyperVDriver) -> None:
        with contextlib.suppress(DriverError):
            await fail(driver)
        assert not driver.seed_disk.exists()

    run(paths, hyperv, create, made)


def test_a_state_is_not_used_when_it_is_another_vms_or_gone(paths: MachinePaths, hyperv: HyperV) -> None:
    run(paths, hyperv, start, lambda driver: driver.suspend(paths.suspended))
    marker = paths.suspended.read_text()
    for broken in ("", "{}", json.dumps({"id": "5b2e2b8a-0000-0000-0000-000000000000"})):
        paths.suspended.write_text(broken)
        with pytest.raises(StateError):
            run(paths, hyperv, lambda driver: driver.wake(SPEC, paths.suspended, consumed))
    paths.suspended.write_text(marker)
    only(hyperv).state = "Off"
    with pytest.raises(StateError):
        run(paths, hyperv, lambda driver: driver.wake(SPEC, paths.suspended, consumed))


def test_a_saved_state_that_nobody_wants_is_thrown_away_by_a_start(paths: MachinePaths, hyperv: HyperV) -> None:
    run(paths, hyperv, start, lambda driver: driver.suspend(paths.suspended))
    run(paths, hyperv, start)
    assert only(hyperv).state == "Running"


def test_a_state_fits_to_the_same_image_and_sizes_alone(paths: MachinePaths, hyperv: HyperV) -> None:
    driver = driver_of(paths, hyperv)
    kind = driver.state_kind(SPEC)
    assert kind and int(kind, 16)
    assert kind == driver.state_kind(replace(SPEC, boot_disk=Path("/elsewhere"), name="other"))
    for other in (replace(SPEC, cpus=3), replace(SPEC, memory=1 << 30), replace(SPEC, command_line="cove.image=9")):
        assert driver.state_kind(other) != kind


@pytest.mark.parametrize("state", ["Running", "Paused", "PausedCritical"])
def test_a_vm_that_an_earlier_agent_left_is_taken_over(paths: MachinePaths, hyperv: HyperV, state: str) -> None:
    run(paths, hyperv, start)
    only(hyperv).state = state

    async def adopt(driver: HyperVDriver) -> None:
        assert await driver.adopt() and driver.answers()
        assert driver.disk_is_full() == (state == "PausedCritical")
        await driver.unfreeze()
        assert only(hyperv).state == "Running" and not driver.disk_is_full()

    run(paths, hyperv, adopt)


@pytest.mark.parametrize("state", ["Off", "Saved", "Stopping"])
def test_nothing_is_taken_over_that_does_not_run(paths: MachinePaths, hyperv: HyperV, state: str) -> None:
    run(paths, hyperv, start)
    only(hyperv).state = state

    async def adopt(driver: HyperVDriver) -> None:
        assert not await driver.adopt()

    run(paths, hyperv, adopt)
    assert only(hyperv).state == ("Off" if state == "Stopping" else state)


def test_a_machine_that_never_was_is_not_there(paths: MachinePaths, hyperv: HyperV) -> None:
    async def adopt(driver: HyperVDriver) -> None:
        assert not await driver.adopt()
        await driver.kill()

    run(paths, hyperv, adopt)
    assert hyperv.ran == []


def test_remove_leaves_nothing(paths: MachinePaths, hyperv: HyperV) -> None:
    run(paths, hyperv, start, lambda driver: driver.remove())
    assert not hyperv.vms
    assert [path.name for path in paths.folder.iterdir()] == ["vm.lock"]


def test_what_hyper_v_cannot_do_is_said(paths: MachinePaths, hyperv: HyperV) -> None:
    calls: list[Callable[[HyperVDriver], Awaitable[Any]]] = [
        lambda driver: driver.save(Path("x")),
        lambda driver: driver.plug_folder("folder0"),
        lambda driver: driver.plug_virtiofs("folder0", Path("x")),
        lambda driver: driver.plug_stream("folder0", never),
        lambda driver: driver.unplug("folder0"),
        lambda driver: driver.wait_held(),
        lambda driver: driver.byte_code(1),
        lambda driver: driver.on_link_change(lambda _: None),
        lambda driver: driver.on_streams_change(lambda _: None),
        lambda driver: driver.forward(Forward("tcp", "127.0.0.1", 1, 2)),
        lambda driver: driver.unforward(Forward("tcp", "127.0.0.1", 1, 2)),
        lambda driver: driver.forwards(),
    ]

    def never(end: StreamEnd) -> subprocess.Popen[bytes]:
        raise AssertionError("nothing is served")

    async def ask() -> None:
        driver = driver_of(paths, hyperv)
        for call in calls:
            with pytest.raises(DriverError, match="cannot"):
                await call(driver)
        assert await driver.plugged() == set() and await driver.held_by() == [] and await driver.written() is None

    asyncio.run(ask())
