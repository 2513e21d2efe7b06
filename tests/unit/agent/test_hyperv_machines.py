"""A machine that Hyper-V runs, from its seed to its end: on the model of Hyper-V, whose VM is the guest's own streams and link."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cove.agent import changes, ending, hypervisor, removal, stream_folders, unattended
from cove.agent.service import Service
from cove.agent.supervisor import Listeners
from cove.agent.vm import LINK, Vm
from cove.cli import ended
from cove.drivers.hyperv.driver import HyperVDriver
from cove.drivers.hyperv.powershell import PowerShell, ScriptError
from cove.drivers.qemu import binary
from cove.errors import BootError, CoveError, DriverError, HypervisorMissing, MachineBusy, SettingsError
from cove.image import bootdisk, store
from cove.image.store import VmImage
from cove.local.sockets import connect
from cove.machine import crashes, docker_context, lifecycle, runstate, settings, suspended
from cove.machine.paths import MachinePaths
from cove.machine.running import vm_may_run
from cove.machine.settings import Settings
from cove.progress import Event, Report
from cove.support import leftovers
from cove.support.computer import look_at_hypervisor, look_at_virtualisation
from cove.transport.serial import Dial
from cove.transport.vsock import greet
from coved.boot.seedform import BEGIN, MARK
from coved.link.client import LinkClient
from coved.link.protocol import PortForward, Shares
from coved.streams.vsock import VsockStreams
from made_vm_images import publish_image

sys.path.insert(0, str(Path(__file__).parents[1] / "drivers/hyperv"))
sys.path.insert(0, str(Path(__file__).parents[1] / "share"))
from hyperv_model import HyperV, make_disk
from ninep_client import Client

ENGINE = "/run/docker.sock"


class GuestStreams(VsockStreams):
    """The guest's paths are in a folder."""

    def __init__(self, listener: socket.socket, key: bytes, folder: Path) -> None:
        super().__init__(listener, key)
        self._folder = folder
        self._outside: dict[bytes, bytes] = {}

    def _inside(self, path: bytes) -> bytes:
        inside = f"{self._folder}{path.decode().replace('/', '-')}".encode()
        self._outside[inside] = path
        return inside

    def is_host(self, address: Any) -> bool:
        return True

    def _open(self, number: int, target: bytes) -> None:
        super()._open(number, self._inside(target) if target.startswith(b"/") else target)

    def _listen(self, path: bytes) -> None:
        super()._listen(self._inside(path))

    def _accept(self, listener: socket.socket, path: bytes) -> None:
        super()._accept(listener, self._outside[path])


class Computer(HyperV):
    """Hyper-V whose VM boots: it takes its seed from the disk, and serves link and streams. In the event loop."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.seed: dict[str, Any] = {}
        self.engine: LinkClient | None = None
        self.started = asyncio.Event()
        self.shared: asyncio.Queue[Shares] = asyncio.Queue()
        self.asked_to_stop: list[float] = []
        self.boots = True
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def door(self) -> Path:
        return self.folder / "vsock"

    def _start(self, id: str) -> None:
        woken = self._vm(id).state == "Saved"
        super()._start(id)
        if woken or not self.boots:
            return
        disk = Path(self._vm(id).disks[2]).read_bytes()
        line, _, _ = disk[disk.index(MARK) + BEGIN :].partition(b"\n")
        self.seed = json.loads(line)
        self.door.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.door))
        listener.listen(8)
        streams = GuestStreams(listener, bytes.fromhex(self.seed["streams_key"]), self.folder)
        threading.Thread(target=streams.run, daemon=True).start()
        self._do(self.begin_engine())

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def inside(self, path: str) -> str:
        """Where a socket of the guest is."""
        return f"{self.folder}{path.replace('/', '-')}"

    async def _take_shares(self, told: Shares) -> tuple[dict[str, str], list[str]]:
        self.shared.put_nowait(told)
        return {}, []

    async def begin_engine(self) -> None:
        door = Path(self.inside(LINK))
        self.engine = LinkClient(
            self.folder / "no-port", "1.2.3", set_clock=False, boot_id=self.seed["boot_id"], door=door
        )
        self.engine.on_shares = self._take_shares
        self.engine.on_shutdown = self._stop
        self.engine.power_off = self._power_off
        await self.engine.start()
        self.engine.announce_ready()
        self.started.set()

    async def end_engine(self) -> None:
        assert self.engine is not None
        await self.engine.close()

    async def _stop(self, timeout_s: float) -> None:
        self.asked_to_stop.append(timeout_s)

    def _power_off(self) -> None:
        (vm,) = self.vms.values()
        self.ended(vm)

    def close(self) -> None:
        if self.engine is not None:
            self._do(self.engine.close())


class OnModel(hypervisor.HyperV):
    def __init__(self, paths: MachinePaths, computer: Computer) -> None:
        self.computer = computer
        super().__init__(paths, lambda its: HyperVDriver(its, computer, computer.open_console))

    def again(self) -> OnModel:
        return OnModel(self._paths, self.computer)

    def boot_disk(self, image: VmImage, progress: Report) -> Path:
        return image.directory / "boot.vhdx"

    def dial(self, key: bytes) -> Dial:
        assert self.driver.guest() in self.computer.vms

        def dialled(timeout_s: float) -> socket.socket:
            made = connect(self.computer.door, timeout_s)
            made.settimeout(timeout_s)
            greet(made, key)
            return made

        return dialled


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[MachinePaths]:
    home = Path(tempfile.mkdtemp(prefix="cove-h", dir="/tmp"))
    monkeypatch.setenv("COVE_HOME", str(home))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    monkeypatch.setattr(socket, "AF_HYPERV", 34, raising=False)  # the model's sockets are others
    publish_image()
    made = lifecycle.init("default")
    settings.set_value(made.settings, "share_home", "no")
    try:
        yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


Scenario = Callable[[Vm, Computer], Awaitable[None]]


def scene(paths: MachinePaths, *scenarios: Scenario) -> list[str]:
    """Each with a start of its own, by an agent of its own, on one computer. What was reported."""
    said: list[str] = []

    def report(event: Event) -> None:
        said.append(event.text)

    async def all() -> None:
        computer = Computer(paths.folder)
        try:
            async with asyncio.timeout(120):
                for scenario in scenarios:
                    vm = Vm(paths, run_by=OnModel(paths, computer))
                    await vm.start(report)
                    try:
                        await scenario(vm, computer)
                    finally:
                        await vm.close()
        finally:
            computer.close()

    asyncio.run(all())
    return said


@contextlib.contextmanager
def echo(kind: socket.SocketKind) -> Iterator[int]:
    """Something in the guest that answers what it hears; its port."""
    server = socket.socket(socket.AF_INET, kind)
    server.bind(("127.0.0.1", 0))

    def answer(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                client.sendall(data.upper())

    def serve() -> None:
        with contextlib.suppress(OSError):
            while kind is socket.SOCK_STREAM:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
            while (heard := server.recvfrom(1 << 16))[1]:
                data, peer = heard
                server.sendto(data.upper(), peer)

    if kind is socket.SOCK_STREAM:
        server.listen()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def asked(port: int, data: bytes) -> bytes:
    """By a connection to a published port; empty when it was reset, which the system tells in several ways."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while more := client.recv(1 << 16):
                answer += more
    except ConnectionRefusedError:
        raise
    except OSError:
        return b""
    return answer


def asked_by_udp(port: int, *datagrams: bytes) -> list[bytes]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        answers = []
        for data in datagrams:
            client.send(data)
            answers.append(client.recv(1 << 16))
        return answers


async def publish(computer: Computer, proto: Any, guest_port: int) -> PortForward:
    assert computer.engine is not None
    reply = await computer.engine.publish(PortForward(proto, guest_port), 30)
    assert reply.ok, reply.error
    return reply.ports[0]


def test_a_machine_starts_and_ends_in_order(paths: MachinePaths) -> None:
    async def look(vm: Vm, computer: Computer) -> None:
        assert vm.run is not None and vm.link is not None and vm.door is not None
        assert vm.run.boot_id == computer.seed["boot_id"] and computer.seed["machine"] == "default"
        assert vm.link.ready.is_set()
        assert (vm.run.accelerator, vm.run.qemu_version) == ("hyperv", "10.0.22631.0")
        assert unattended.status(paths)["state"] == "running"
        await vm.stop(lambda event: None)
        assert computer.asked_to_stop == [10]
        assert vm.pid is None

    said = scene(paths, look)
    assert any("Hyper-V" in text for text in said)
    assert [name for name in ("data.vhdx", "data.qcow2") if (paths.folder / name).exists()] == ["data.vhdx"]
    assert hypervisor.has(paths) == hypervisor.HYPERV


def test_published_ports_lead_into_the_machine(paths: MachinePaths) -> None:
    async def look(vm: Vm, computer: Computer) -> None:
        assert vm.run is not None
        with echo(socket.SOCK_STREAM) as tcp, echo(socket.SOCK_DGRAM) as udp:
            by_tcp, by_udp = await publish(computer, "tcp", tcp), await publish(computer, "udp", udp)
            much = b"abc" * 700_000
            assert await asyncio.to_thread(asked, by_tcp.host_port, much) == much.upper()
            sizes = [b"a", b"b" * 60_000, b"c" * 1472]
            assert await asyncio.to_thread(asked_by_udp, by_udp.host_port, *sizes) == [one.upper() for one in sizes]
        # Now nobody is there.
        assert await asyncio.to_thread(asked, by_tcp.host_port, b"anybody?") == b""
        assert computer.engine is not None
        assert (await computer.engine.unpublish(by_tcp, 30)).ok
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(asked, by_tcp.host_port, b"x")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            refused = await computer.engine.publish(
                PortForward("tcp", 50000, "127.0.0.1", taken.getsockname()[1]), 30
            )  # fmt: skip
            assert not refused.ok and refused.in_use

    scene(paths, look)


def test_an_engine_that_dies_is_found_again(paths: MachinePaths) -> None:
    async def look(vm: Vm, computer: Computer) -> None:
        assert vm.link is not None
        died = asyncio.Event()
        vm.link.on_engine_death = lambda at: died.set()
        await computer.end_engine()
        await computer.begin_engine()
        await died.wait()
        await vm.link.ready.wait()

    scene(paths, look)


def test_a_machine_sleeps_and_goes_on(paths: MachinePaths) -> None:
    async def sleep(vm: Vm, computer: Computer) -> None:
        await vm.suspend(lambda event: None)
        assert suspended.load(paths) is not None
        assert [one.state for one in computer.vms.values()] == ["Saved"]

    async def awake(vm: Vm, computer: Computer) -> None:
        assert vm.run is not None and vm.link is not None
        assert vm.run.start == "resumed" and vm.link.ready.is_set()
        assert suspended.load(paths) is None

    scene(paths, sleep, awake)


def test_a_sleep_that_is_given_up_leaves_the_machine_as_it_was(paths: MachinePaths) -> None:
    async def look(vm: Vm, computer: Computer) -> None:
        assert vm.link is not None
        deaths: list[float] = []
        vm.link.on_engine_death = deaths.append
        unless = asyncio.Event()
        unless.set()
        with pytest.raises(Exception, match=r"wanted again|given up"):
            await vm.suspend(lambda event: None, unless=unless)
        await vm.link.ready.wait()
        assert not deaths
        assert [one.state for one in computer.vms.values()] == ["Running"]

    scene(paths, look)


def test_a_sleep_that_cannot_be_noted_leaves_the_machine_as_it_was(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    async def look(vm: Vm, computer: Computer) -> None:
        assert vm.link is not None
        with monkeypatch.context() as patch, pytest.raises(CoveError):
            patch.setattr(suspended, "note", no_room)
            await vm.suspend(lambda event: None)
        await vm.link.ready.wait()
        assert [one.state for one in computer.vms.values()] == ["Running"]

    scene(paths, look)
    assert suspended.load(paths) is None


def test_an_agent_lives_on_when_a_sleep_is_given_up_and_tells_of_the_vms_end(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all() -> None:
        computer = Computer(paths.folder)
        monkeypatch.setattr(hypervisor, "of_machine", lambda its: OnModel(its, computer))
        monkeypatch.setattr(hypervisor, "choose", lambda its, wanted: (OnModel(its, computer), ""))
        paths.make_run_dir()
        service = Service(paths, Listeners(paths))
        living = asyncio.create_task(service.run(lambda: None))
        resting = asyncio.Event()
        rest = service._rest

        async def rested(**how: Any) -> None:
            await rest(**how)
            resting.set()

        monkeypatch.setattr(service, "_rest", rested)
        try:
            async with asyncio.timeout(120):
                await service._up()
                (vm,) = computer.vms.values()
                saved = computer._save

                def wanted_again(id: str) -> None:
                    saved(id)
                    service._used_again.set()

                monkeypatch.setattr(computer, "_save", wanted_again)
                service._suspend_unused(0.0)
                assert service._suspending is not None
                await asyncio.wait([service._suspending])
                assert not living.done() and vm.state == "Running"
                assert service._status()["state"] == "running" and not resting.is_set()
                assert service._vm is not None and service._vm.link is not None
                await service._vm.link.ready.wait()

                computer.ended(vm)
                await resting.wait()
                # Nobody asks Hyper-V now, and it is known all the same.
                assert not living.done()
                for told in (service._status(), unattended.status(paths)):
                    assert told["state"] == "stopped" and told["crash"]["how"] == "its VM ended"
                last = crashes.load(paths)
                assert last is not None and last.what == "VM"
                await service._stop(lambda told: None, in_order=True, forced=False)
                await living
        finally:
            living.cancel()
            computer.close()
            await asyncio.gather(living, return_exceptions=True)

    asyncio.run(all())


def test_an_end_that_nobody_saw_is_noted_by_the_next_start(paths: MachinePaths) -> None:
    async def left(vm: Vm, computer: Computer) -> None: ...

    async def booted_again(vm: Vm, computer: Computer) -> None:
        last = crashes.load(paths)
        assert not vm.adopted and last is not None and last.how == "its VM ended"

    async def all() -> None:
        computer = Computer(paths.folder)
        try:
            async with asyncio.timeout(120):
                for scenario in (left, booted_again):
                    vm = Vm(paths, run_by=OnModel(paths, computer))
                    await vm.start(lambda event: None)
                    await scenario(vm, computer)
                    await vm.close()
                    await computer.end_engine()
                    computer.ended(*computer.vms.values())
        finally:
            computer.close()

    asyncio.run(all())


def test_the_next_agent_takes_the_vm_over_with_its_ports(paths: MachinePaths) -> None:
    ports: list[PortForward] = []
    with echo(socket.SOCK_STREAM) as tcp:

        async def first(vm: Vm, computer: Computer) -> None:
            assert computer.engine is not None
            ports.append(await publish(computer, "tcp", tcp))
            computer.engine.live_ports = lambda: ports

        async def second(vm: Vm, computer: Computer) -> None:
            assert vm.adopted
            assert await asyncio.to_thread(asked, ports[0].host_port, b"again") == b"AGAIN"

        scene(paths, first, second)


def test_a_guest_that_does_not_come_is_given_up(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cove.agent.vm.BOOT_TIMEOUT_S", 0.5)

    async def all() -> None:
        computer = Computer(paths.folder)
        computer.boots = False
        with pytest.raises(BootError, match="did not answer within"):
            await Vm(paths, run_by=OnModel(paths, computer)).start(lambda event: None)
        assert [one.state for one in computer.vms.values()] == ["Off"]

    asyncio.run(all())
    assert runstate.load(paths) is None


def test_a_vm_whose_agent_is_gone_is_not_taken_for_stopped(paths: MachinePaths) -> None:
    async def nothing(vm: Vm, computer: Computer) -> None: ...

    scene(paths, nothing)
    assert vm_may_run(paths)
    with pytest.raises(MachineBusy):
        lifecycle.check_stopped(paths)
    assert changes.runs(paths) and not ended.has_ended(paths.name)
    run = runstate.load(paths)
    assert run is not None
    paths.run_state.write_text(json.dumps({**json.loads(paths.run_state.read_text()), "started_at": 1.0}))
    assert crashes.computer_began() > 1.0
    assert not vm_may_run(paths)
    lifecycle.check_stopped(paths)
    assert not changes.runs(paths) and ended.has_ended(paths.name)


def test_a_disk_is_not_made_smaller_and_that_is_said(paths: MachinePaths) -> None:
    make_disk(paths.vhdx, 60 << 30)
    smaller, larger = replace(Settings(), disk=30 << 30), replace(Settings(), disk=90 << 30)
    with pytest.raises(SettingsError, match="cannot become smaller"):
        changes.taken(paths, smaller, ["disk"])
    changes.taken(paths, larger, ["disk"])


def test_the_boot_disk_of_an_older_image_is_the_one_that_was_made_of_it(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, hyperv = store.find(publish_image()), hypervisor.HyperV(paths)
    assert image is not None
    monkeypatch.setattr(bootdisk, "write", lambda image, path, progress: path.touch())
    made = hyperv.boot_disk(image, lambda event: None)
    assert made == image.directory / bootdisk.name() and made.exists()

    def older(*_: Any) -> None:
        raise bootdisk.OlderImage("older", "cove machine upgrade")

    monkeypatch.setattr(bootdisk, "write", older)
    monkeypatch.setattr(bootdisk, "name", lambda: "boot-new.vhdx")
    assert hyperv.boot_disk(image, lambda event: None) == made
    made.unlink()
    with pytest.raises(bootdisk.OlderImage):
        hyperv.boot_disk(image, lambda event: None)


def test_a_folder_is_a_stream_from_the_guest(
    paths: MachinePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_folders, "LASTING_S", 0)
    (tmp_path / "told").write_text("of this computer")
    settings.set_value(paths.settings, "shared_folders", str(tmp_path))

    async def read(vm: Vm, computer: Computer) -> None:
        told = await computer.shared.get()
        (share,) = told.shares
        assert (share.path, share.driver) == (str(tmp_path), "agent")

        def mounted() -> bytes:
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(computer.inside(f"/run/cove/ssh/{share.tag}.sock"))
                client = Client(stream)
                client.version()
                client.attach()
                return client.read(client.open("told"))

        assert await asyncio.to_thread(mounted) == b"of this computer"
        # What the guest has of a stream that has ended answers no more, and it is told so.
        assert told.lost == ()
        assert (await computer.shared.get()).lost == (share.tag,)
        assert vm.folders is not None and [one["state"] for one in vm.folders.status()] == ["shared"]

    scene(paths, read)


def test_what_hyper_v_does_not_have_carries_no_folders(paths: MachinePaths) -> None:
    settings.set_value(paths.settings, "folder_driver", "virtiofs")

    async def nothing(vm: Vm, computer: Computer) -> None: ...

    with pytest.raises(SettingsError, match="folder_driver: virtiofs does not work with Hyper-V"):
        scene(paths, nothing)


@pytest.mark.skipif(sys.platform == "win32", reason="it is of Windows")
def test_elsewhere_than_on_windows_it_is_qemu(paths: MachinePaths) -> None:
    assert hypervisor.choose(paths, Settings())[0].name == hypervisor.QEMU
    with pytest.raises(SettingsError, match="is of Windows"):
        hypervisor.choose(paths, Settings(driver="hyperv"))


def test_a_machine_stays_with_what_has_made_its_disk(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    paths.vhdx.touch()
    assert hypervisor.choose(paths, Settings())[0].name == hypervisor.HYPERV
    with pytest.raises(SettingsError, match=r"has its data on a disk of Hyper-V's") as caught:
        hypervisor.choose(paths, Settings(driver="qemu"))
    assert "driver hyperv" in caught.value.hint
    paths.vhdx.rename(paths.disk)
    assert hypervisor.choose(paths, Settings())[0].name == hypervisor.QEMU
    with pytest.raises(SettingsError, match=r"has its data on a disk of QEMU's"):
        hypervisor.choose(paths, Settings(driver="hyperv"))


def test_on_windows_it_is_hyper_v_when_that_is_ready(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(paths.folder)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(PowerShell, "run_blocking", lambda shell, script: computer.run_blocking(script))
    monkeypatch.setattr(binary, "find", lambda *_: Path("qemu"))
    assert hypervisor.choose(paths, Settings())[0].name == hypervisor.HYPERV
    assert hypervisor.choose(paths, Settings(driver="qemu"))[0].name == hypervisor.QEMU
    computer.host["registered"] = False
    chosen, said = hypervisor.choose(paths, Settings())
    assert chosen.name == hypervisor.QEMU and "reg add" in said

    def none_found(*_: Any) -> Path:
        raise HypervisorMissing("no QEMU", "install it")

    monkeypatch.setattr(binary, "find", none_found)
    with pytest.raises(HypervisorMissing, match="neither Hyper-V nor QEMU") as caught:
        hypervisor.choose(paths, Settings())
    assert "reg add" in caught.value.hint and "install it" in caught.value.hint


def test_whoever_looks_for_the_hypervisor_looks_at_the_one_that_is_to_run_it(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer = Computer(paths.folder)

    def qemu(*_: Any) -> Path:
        raise HypervisorMissing("no QEMU", "install it")

    monkeypatch.setattr(hypervisor, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(PowerShell, "run_blocking", lambda shell, script: computer.run_blocking(script))
    monkeypatch.setattr(binary, "find", qemu)
    assert [*look_at_hypervisor(paths)] == [("ok", "Hyper-V is ready for Cove")]
    assert [*look_at_virtualisation(paths)] == [("note", "Hyper-V's own")]
    ending.check_restartable(paths)
    computer.host["may"] = False
    (hyper_v, other) = look_at_hypervisor(paths)
    assert "may not use Hyper-V" in hyper_v[1] and other[1] == "no QEMU"
    with pytest.raises(HypervisorMissing, match="neither"):
        ending.check_restartable(paths)
    paths.disk.touch()  # QEMU has made it, and Hyper-V is not asked
    (found,) = look_at_hypervisor(paths)
    assert found[1] == "no QEMU"


def test_a_python_without_hyper_vs_sockets_is_told_before_the_boot(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "AF_HYPERV")

    async def nothing(vm: Vm, computer: Computer) -> None: ...

    with pytest.raises(HypervisorMissing, match="Python has no sockets"):
        scene(paths, nothing)


def test_what_hyper_v_has_goes_before_the_files(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    removal.take_away(paths, said.append)  # of a machine that it never had
    computer: list[Computer] = []

    async def nothing(vm: Vm, one: Computer) -> None:
        computer.append(one)

    scene(paths, nothing)

    remove = HyperVDriver.remove

    async def gone(driver: HyperVDriver) -> None:
        driver._shell = computer[0]
        await remove(driver)

    monkeypatch.setattr(HyperVDriver, "remove", gone)
    removal.take_away(paths, said.append)
    assert not said
    assert not computer[0].vms and not paths.vhdx.exists() and not paths.hyperv.exists()


@pytest.mark.parametrize(("change", "why"), [({"module": False}, "not there"), ({"may": False}, "may not use")])
def test_a_machine_goes_though_hyper_v_cannot_be_had_any_more(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], why: str
) -> None:
    computers: list[Computer] = []

    async def stop(vm: Vm, one: Computer) -> None:
        computers.append(one)
        await vm.stop(lambda event: None)
        runstate.forget(paths)

    scene(paths, stop)
    (computer,) = computers
    computer.host |= change
    computer.fails["REMOVE"] = ScriptError("was not found", "CommandNotFoundException")

    async def run(shell: PowerShell, script: str, timeout_s: float | None = None) -> Any:
        return computer.run_blocking(script)

    monkeypatch.setattr(PowerShell, "run", run)
    said: list[str] = []
    leftovers.uninstall(leftovers.of_uninstall(keep_data=False), said.append, keep_data=False)
    assert not paths.folder.exists()
    (words,) = said
    assert "Remove-VM -Force cove-default" in words and (why in words or "not there" in words)


def test_nothing_is_removed_when_hyper_v_refuses(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(driver: HyperVDriver) -> None:
        raise DriverError("a disk of the machine is in use")

    paths.hyperv.write_text("{}")
    monkeypatch.setattr(HyperVDriver, "remove", refuse)
    context = docker_context.meta_file(paths.name)
    assert context.exists()
    with pytest.raises(DriverError, match="in use"):
        leftovers.uninstall(leftovers.of_uninstall(keep_data=False), keep_data=False)
    assert context.exists() and paths.settings.exists()
