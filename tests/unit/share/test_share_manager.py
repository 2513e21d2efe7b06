"""The folders of a VM that runs, on a driver and a guest that only say what they were told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cove.errors import CoveError, DriverError
from cove.machine import usual_socket
from cove.machine.paths import MachinePaths
from cove.share import manager, servers
from cove.share.folders import Folder
from cove.share.manager import Folders
from coved.link.protocol import Shared

HOME = Folder("folder0", Path("/home/me"), False, Path("/home/me"))
DATA = Folder("folder1", Path("/data"), True, Path("/link"))


class Vm:
    """A driver, and the guest at the other end of the link."""

    def __init__(self) -> None:
        self.devices: set[str] = set()
        self.done: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.in_use: tuple[str, ...] = ()
        self.errors: dict[str, str] = {}
        self.refused: set[str] = set()
        self.held: list[str] = []
        self.gone = False
        self.folders: Folders | None = None

    async def plugged(self) -> set[str]:
        if self.gone:
            raise DriverError("QEMU has ended")
        return {*self.devices}

    async def plug_folder(self, tag: str) -> None:
        if tag in self.refused:
            raise DriverError("no such fsdev")
        self.devices.add(tag)
        self.done.append(f"+{tag}")

    async def unplug(self, tag: str) -> None:
        self.devices.discard(tag)
        self.done.append(f"-{tag}")

    async def held_by(self) -> list[str]:
        return self.held

    def over(self) -> set[str]:
        return set()

    def on_over(self, callback: Callable[[], object]) -> None:
        pass

    def send(self, message: dict[str, Any]) -> None:
        self.told.append(message)
        assert self.folders is not None
        wanted = {one["tag"] for one in message["shares"]}
        errors = {tag: words for tag, words in self.errors.items() if tag in wanted}
        in_use = () if wanted or message["lost"] else self.in_use
        asyncio.get_running_loop().call_soon(self.folders.answered, Shared(message["id"], errors, in_use))


@contextlib.asynccontextmanager
async def running(vm: Vm, *folders: Folder, carrier: str = "9p") -> Any:
    made = Folders(MachinePaths("x"), vm, folders, carrier)  # type: ignore[arg-type]
    made.send, vm.folders = vm.send, made
    made.plug()
    made.wanted_by_guest()
    await settle()
    try:
        yield made
    finally:
        await made.close()


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def states(folders: Folders) -> list[str]:
    return [one["state"] for one in folders.status()]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "c"))
    yield


def test_devices_come_first_and_then_the_guest_is_told() -> None:
    async def run() -> None:
        vm = Vm()
        vm.refused, vm.errors = {"folder2"}, {"folder1": "Invalid argument"}
        broken = Folder("folder2", Path("/b"), False, Path("/b"))
        async with running(vm, HOME, DATA, broken) as folders:
            assert vm.devices == {"folder0", "folder1"}
            (told,) = vm.told
            assert [(one["tag"], one["path"], one["read_only"]) for one in told["shares"]] == [
                ("folder0", "/home/me", False), ("folder1", "/data", True), ("folder1", "/link", True),
            ]  # fmt: skip
            assert states(folders) == ["shared", "the machine cannot mount it: Invalid argument", "no such fsdev"]

    asyncio.run(run())


def test_an_agent_that_comes_later_leaves_devices_alone() -> None:
    async def run() -> None:
        vm = Vm()
        vm.devices = {"folder0"}
        async with running(vm, HOME) as folders:
            assert (vm.done, states(folders)) == ([], ["shared"])

    asyncio.run(run())


def test_a_suspension_takes_them_away_when_nobody_uses_them() -> None:
    async def run() -> None:
        vm = Vm()
        async with running(vm, HOME) as folders:
            async with folders.away():
                assert (vm.devices, vm.told[-1]["shares"]) == (set(), [])
                folders.wanted_by_guest()  # an engine that starts meanwhile gets none
                await settle()
                assert len(vm.told) == 2
            vm.devices = {"folder0"}
            vm.in_use = ("web", "db")
            with pytest.raises(CoveError, match=r"cannot be suspended while containers use .*: web, db"):
                async with folders.away():
                    raise AssertionError
            await settle()
            assert vm.devices == {"folder0"}
            assert [one["tag"] for one in vm.told[-1]["shares"]] == ["folder0"]

    asyncio.run(run())


def test_a_vm_that_could_not_be_saved_gets_them_back() -> None:
    async def run() -> None:
        vm = Vm()
        async with running(vm, HOME) as folders:
            vm.held = ["somebody has it mounted"]
            with pytest.raises(DriverError, match="somebody has it mounted"):
                async with folders.away():
                    raise AssertionError
            await settle()
            assert (vm.devices, states(folders)) == ({"folder0"}, ["shared"])
            vm.held = []
            with pytest.raises(CoveError, match="the disk is full"):
                async with folders.away():
                    raise CoveError("the disk is full")
            await settle()
            assert (vm.devices, states(folders)) == ({"folder0"}, ["shared"])

    asyncio.run(run())


def test_a_suspension_that_nobody_asked_for_is_given_up_while_the_guest_lets_go_of_them() -> None:
    async def run() -> None:
        vm, asked, wanted = Vm(), asyncio.Event(), asyncio.Event()
        async with running(vm, HOME, DATA) as folders:
            folders.send = lambda _: asked.set()  # a guest that takes its time

            async def take_away() -> None:
                async with folders.away(wanted):
                    raise AssertionError

            going = asyncio.create_task(take_away())
            await asked.wait()
            wanted.set()
            folders.send = vm.send
            with pytest.raises(CoveError, match="it was given up"):
                await going
            await settle()
            assert (vm.devices, states(folders)) == ({"folder0", "folder1"}, ["shared", "shared"])
            assert {one["tag"] for one in vm.told[-1]["shares"]} == {"folder0", "folder1"}

    asyncio.run(run())


def test_devices_that_are_there_still_when_it_is_given_up_stay() -> None:
    async def run() -> None:
        vm, wanted = Vm(), asyncio.Event()
        unplug = vm.unplug

        async def unplug_slowly(tag: str) -> None:
            await unplug(tag)
            wanted.set()

        vm.unplug = unplug_slowly  # type: ignore[method-assign]
        async with running(vm, HOME, DATA) as folders:
            with pytest.raises(CoveError, match="it was given up"):
                async with folders.away(wanted):
                    raise AssertionError
            await settle()
            assert vm.done == ["+folder0", "+folder1", "-folder0", "+folder0"]
            assert states(folders) == ["shared", "shared"]

    asyncio.run(run())


@pytest.mark.parametrize("errors", [None, {"folder0": "Device or resource busy"}])
def test_a_guest_that_keeps_them_is_told_with_the_way_out(
    errors: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with running(Vm(), HOME) as folders:

            def send(message: dict[str, Any]) -> None:
                if errors is not None:
                    folders.answered(Shared(message["id"], errors, ()))

            monkeypatch.setattr(manager, "ANSWER_S", 0.1)
            folders.send = send
            with pytest.raises(CoveError, match="the machine x does not let go of its folders") as told:
                async with folders.away():
                    raise AssertionError
            assert told.value.hint == "stop it instead: cove machine stop x"

    asyncio.run(run())


def test_a_server_that_ends_is_started_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        vm = Vm()
        ends: asyncio.Queue[None] = asyncio.Queue()

        async def serve(paths: object, driver: Vm, folder: Folder) -> Any:
            await driver.plug_folder(folder.tag)
            return SimpleNamespace(pid=1)

        async def ended(paths: object, tag: str) -> None:
            await ends.get()

        monkeypatch.setattr(servers, "serve_9p", serve)
        monkeypatch.setattr(servers, "ended", ended)
        async with running(vm, HOME, carrier="agent") as folders:
            for _ in range(3):
                ends.put_nowait(None)
                await settle()
                assert [one["lost"] for one in vm.told[-2:]] == [["folder0"], []]
                assert vm.done[-2:] == ["-folder0", "+folder0"]
                assert states(folders) == ["shared"]
            ends.put_nowait(None)
            await settle()
            assert vm.done[-1] == "-folder0"
            assert "its server has ended" in states(folders)[0]

        vm.devices.clear()
        async with running(vm, HOME, carrier="agent"):
            said, vm.gone = len(vm.told), True
            ends.put_nowait(None)  # with QEMU
            await settle()
            assert len(vm.told) == said

    asyncio.run(run())


def test_read_only_folders_go_by_what_can_keep_a_guest_from_writing() -> None:
    folders = Folders(MachinePaths("x"), Vm(), (HOME, DATA), "virtiofs")  # type: ignore[arg-type]
    assert [folders.carrier(one) for one in (HOME, DATA)] == ["virtiofs", "agent"]
    assert [one.guest for one in folders.carried()] == ["/run/cove/host/folder1"], "of others nobody can tell changes"


def test_what_the_guest_says_is_shown_without_what_a_terminal_would_do() -> None:
    async def run() -> None:
        vm = Vm()
        vm.errors = {"folder0": "\x1b[2Jgone"}
        async with running(vm, HOME) as folders:
            assert states(folders) == ["the machine cannot mount it: ?[2Jgone"]
            vm.errors = {}
            folders.wanted_by_guest()
            await settle()
            assert states(folders) == ["shared"], "an engine that came later has mounted it"
            vm.in_use = ("web", "x;rm", "\x1b]0;t\x07")
            with pytest.raises(CoveError, match=r"web, x;rm, \?\]0;t\?") as refused:
                async with folders.away():
                    raise AssertionError
            assert refused.value.hint == "stop them first: docker stop web"

    asyncio.run(run())


def test_a_folder_is_plugged_once_however_often_that_is_begun() -> None:
    async def run() -> None:
        vm = Vm()
        plug = vm.plug_folder

        async def slow(tag: str) -> None:
            await asyncio.sleep(0)
            await plug(tag)

        vm.plug_folder = slow  # type: ignore[method-assign]
        async with running(vm, HOME, DATA) as folders:
            vm.devices.clear()
            folders.plug()
            folders.plug()
            await settle()
            assert vm.done == ["+folder0", "+folder1"] * 2

    asyncio.run(run())


def test_the_guest_is_told_where_its_socket_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)

    async def told(machine: str) -> list[str]:
        vm, paths = Vm(), MachinePaths(machine)
        paths.make_run_dir()
        usual_socket.create(paths)
        made = Folders(paths, vm, (), "9p")  # type: ignore[arg-type]
        made.send, vm.folders = vm.send, made
        made.wanted_by_guest()
        await settle()
        await made.close()
        return list(vm.told[0]["sockets"])

    own = str(MachinePaths("default").docker_socket)
    assert asyncio.run(told("default")) == [own, f"{tmp_path}/home/.docker/run/docker.sock"]
    assert asyncio.run(told("x")) == [str(MachinePaths("x").docker_socket)]
