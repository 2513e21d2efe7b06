"""The Hyper-V driver: a Generation 2 VM that Windows keeps, told what to do by PowerShell.

What it does not have says so: templates, ports for link and streams, forwards, and folders that the hypervisor serves. The seed is on a
disk, and the agent goes by sockets to the guest for all else (docs/hyper-v.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import socket
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from cove.drivers.base import Driver, Forward, Serve, VmSpec
from cove.drivers.hyperv import console, scripts, seeddisk, trouble
from cove.drivers.hyperv.powershell import PowerShell, ScriptError
from cove.errors import CoveError, DriverError, HypervisorMissing, StateError
from cove.machine.files import MAX_CONSOLE, rotate, write_whole
from cove.machine.locks import FileLock, whose
from cove.machine.paths import MachinePaths

log = logging.getLogger(__name__)

SHUT_DOWN_S = 120.0
SAVE_S = 300.0
"""Memory goes to a disk that may be slow; nothing tells how far it has come."""
KILL_S = 20.0
LOCKS, LOCK_AGAIN_S = 20, 0.05
LOOK_AGAIN_S = 5.0
"""How often it is asked whether the VM is there where its console cannot be read, which would tell."""
SAVING = 60
"""Such looks at a VM that is being saved although nobody waits for it."""
LOOK_S = 60.0
"""How often it is asked how the VM is all the same: that its disk has no room for it nothing tells."""
_RUNS = {"Running", "Starting", "Resuming"}
_STANDS = {"Paused", "Pausing", "PausedCritical"}
_SAVING = "Saving"
_ENDED = {"Off", "OffCritical", "Saved", "FastSaved", "Gone"}


class HyperVDriver(Driver):
    name: ClassVar[str] = "hyperv"
    keeps_templates: ClassVar[bool] = False
    has_ports: ClassVar[bool] = False

    def __init__(
        self, paths: MachinePaths, shell: PowerShell | None = None, open_console: console.Opener = console.open_pipe
    ) -> None:
        self._paths = paths
        self._shell = shell or PowerShell()
        self._open_console = open_console
        self._console: console.Console | None = None
        self._watching: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        """There is no VM to wait for. One that is saved is not gone before the agent has said what is to become of it."""
        self._gone.set()
        self._state = "Off"
        self._pid: int | None = None
        self._full = asyncio.Event()
        self._switch_name = ""
        self._lock = FileLock(paths.vm_lock)
        """For whoever looks there whether the machine runs: `_held` while the VM is followed."""
        self._held = False

    @property
    def vm_name(self) -> str:
        return f"cove-{self._paths.name}"

    @property
    def data_disk(self) -> Path:
        return self._paths.vhdx

    @property
    def system_disk(self) -> Path:
        """The difference to the image's disk; of one start."""
        return self._paths.folder / "system.vhdx"

    @property
    def seed_disk(self) -> Path:
        """Of one start; the guest wipes it."""
        return self._paths.folder / "seed.vhdx"

    @property
    def _kept(self) -> Path:
        """What Hyper-V keeps of the VM, its saved memory as well."""
        return self._paths.folder / "hyper-v"

    @property
    def _identity(self) -> Path:
        return self._paths.hyperv

    async def create(self, spec: VmSpec) -> None:
        await self._check_host()
        if self._id() is None or await self._look() == "Gone":
            await self._make(spec)
        await self._run("make the disk", scripts.CREATE_DISK(disk=self.data_disk, size=spec.disk_size))

    async def _make(self, spec: VmSpec) -> None:
        mark = f"Cove: {self._paths.folder}"
        found = _listed(await self._run("look for the VM", scripts.FIND(name=self.vm_name)))
        mine = [vm for vm in found if vm["notes"] == mark]
        if found and not mine:
            raise DriverError(
                f"Hyper-V has a VM {self.vm_name} already, which is not this machine's",
                "another user of this computer may have a machine of that name: choose another name, or see Get-VM",
            )
        if mine:  # an agent died before it could note it
            made = mine[0]["id"]
        else:
            made = await self._run(
                "make the VM",
                scripts.CREATE(
                    name=self.vm_name, memory=spec.memory, folder=self._kept, notes=mark,
                    console=console.pipe(self._paths.name),
                ),
            )  # fmt: skip
        write_whole(self._identity, json.dumps({"id": str(uuid.UUID(made))}).encode())

    def version(self) -> str:
        host = self._shell.run_blocking(scripts.host())
        if (wrong := trouble.of_host(host)) is not None:
            raise wrong
        return str(host["version"])

    def state_kind(self, spec: VmSpec) -> str | None:
        # Windows itself sees to it that a state fits to its version of Hyper-V; the image's digest is in the command line.
        parts = ("hyperv", spec.command_line, str(spec.cpus), str(spec.memory))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    async def start(self, spec: VmSpec, template: Path | None = None) -> None:
        if template is not None:
            self._cannot("start a VM from a template")
        if spec.boot_disk is None:
            raise DriverError("the VM image has no disk that Hyper-V could boot from", "build it: cove vm-image build")
        self._vm()
        rotate(self._paths.console_log, MAX_CONSOLE)
        self._switch_name = await self._switch()

    async def begin(self, spec: VmSpec, seed: bytes) -> None:
        vm = self._vm()
        # Before Hyper-V has the file: who may read it is a part of what it does then.
        await asyncio.to_thread(seeddisk.write, self.seed_disk, seed)
        try:
            await self._run(
                "set up the VM",
                scripts.EQUIP(
                    id=vm, cpus=spec.cpus, memory=spec.memory, system=self.system_disk, boot_disk=spec.boot_disk,
                    data=self.data_disk, size=spec.disk_size, seed=self.seed_disk, switch=self._switch_name,
                ),
            )  # fmt: skip
            await self._run("start the VM", scripts.START(id=vm))
            await self._follow()
        except BaseException:
            with contextlib.suppress(CoveError):
                await self.kill()
            await self._remove_seed()
            raise

    def guest(self) -> str:
        return str(self._vm())

    async def suspend(self, state: Path, unless: asyncio.Event | None = None) -> None:
        vm = self._vm()
        await self._leave()
        try:
            await self._run("save the VM", scripts.SAVE(id=vm), SAVE_S)
            if unless is not None and unless.is_set():
                raise DriverError("the VM was wanted again while it was saved")
            write_whole(state, json.dumps({"id": str(vm)}).encode())
        except BaseException:
            await self._go_on()
            raise

    async def wake(self, spec: VmSpec, state: Path, consume: Callable[[], Awaitable[None]]) -> None:
        vm = self._vm()
        if _identifier(state) != vm or await self._look() != "Saved":
            raise StateError("Hyper-V does not have the saved state of the machine any more")
        try:
            await consume()
            await self._run("start the saved VM", scripts.START(id=vm))
            await self._follow()
        except BaseException:
            with contextlib.suppress(CoveError):
                await self.kill()
            raise

    async def unfreeze(self) -> None:
        if self._watching is None:
            await self._go_on()
        elif await self._look() in _STANDS:
            await self.resume()

    async def _go_on(self) -> None:
        """After a suspension that comes to nothing, whose VM is saved or not."""
        try:
            for _ in range(SAVING):  # a script that was given up ends nothing in Hyper-V
                if await self._look() != _SAVING:
                    break
                await asyncio.sleep(LOOK_AGAIN_S)
            if self._state == "Saved":
                await self._run("start the VM again", scripts.START(id=self._vm()))
            await self._follow()
        except BaseException:
            self._over()
            raise

    async def adopt(self) -> bool:
        if self._id() is None or (state := await self._look()) in _ENDED:
            return False
        if state in _RUNS | _STANDS:
            await self._follow()
            return True
        log.error("the VM is %s, and ended", state)
        await self.kill()
        return False

    def answers(self) -> bool:
        return self._watching is not None and not self._gone.is_set()

    async def inspected(self) -> str:
        # PowerShell alone takes those two seconds.
        return f"Hyper-V called it {self._state} when it was asked last, process {self._pid}"

    async def power_button(self) -> None:
        # The cmdlet waits for the guest, and who presses the button does not.
        self._asking = asyncio.get_running_loop().create_task(self._shut_down(self._vm()))

    async def _shut_down(self, vm: uuid.UUID) -> None:
        try:
            await self._run("shut the VM down", scripts.SHUT_DOWN(id=vm), SHUT_DOWN_S)
        except CoveError as error:  # a guest that still boots has nobody yet to be asked
            log.warning("%s", error)

    async def quit(self) -> None:
        await self._run("switch the VM off", scripts.TURN_OFF(id=self._vm()), KILL_S)
        if self._watching is None and await self._look() in _ENDED:  # it was saved
            self._over()

    async def kill(self) -> None:
        if (vm := self._id()) is None:
            return
        try:
            await self._run("switch the VM off", scripts.TURN_OFF(id=vm), KILL_S)
        except CoveError as error:
            log.error("%s", error)
        if await self._look() in _ENDED:
            await self._killed()
            return
        if self._pid is not None:  # its process alone, which takes an administrator
            try:
                await self._shell.run(scripts.END_WORKER(pid=self._pid), KILL_S)
            except DriverError as error:
                log.error("the VM's process does not end: %s", error)
        if await self._look() not in _ENDED:
            raise DriverError(
                f"the VM {self.vm_name} does not end (it is {self._state})",
                f"end its process as an administrator: Stop-Process -Force -Id {self._pid or '(see Get-Process vmwp)'}",
            )
        await self._killed()

    async def _killed(self) -> None:
        self._over()
        if self._state not in ("Saved", "FastSaved"):  # which go on with the disks that they had
            await self._remove_seed()

    async def _remove_seed(self) -> None:
        """Of a guest that may not have come to take it: then it has not wiped it either."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.seed_disk.unlink, missing_ok=True)

    async def remove(self) -> None:
        """Take away all that Hyper-V has and knows of the machine. Raises `CoveError`."""
        await self.close()
        disks = (self.system_disk, self.data_disk, self.seed_disk)
        paths = [str(self._kept), *map(str, disks), str(self._identity)]
        known = self._id() or uuid.UUID(int=0)
        await self._run("remove the VM", scripts.REMOVE(id=known, paths=paths))

    async def wait_exit(self) -> None:
        await self._gone.wait()

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._leave()
        if self._console is not None:
            self._console.close()
        self._let_go()

    def disk_is_full(self) -> bool:
        return self._full.is_set()

    async def wait_disk_full(self) -> None:
        await self._full.wait()

    async def resume(self) -> None:
        await self._run("let the VM go on", scripts.CONTINUE(id=self._vm()))
        await self._look()  # whether there is room now

    def pid(self) -> int | None:
        return self._pid

    async def written(self) -> tuple[int, int] | None:
        return None

    async def held_by(self) -> list[str]:
        return []

    async def plugged(self) -> set[str]:
        return set()

    async def save(self, template: Path) -> None:
        self._cannot("save a VM as a template")

    async def plug_folder(self, tag: str) -> None:
        self._cannot("serve folders itself")

    async def plug_virtiofs(self, tag: str, socket: Path) -> None:
        self._cannot("give a VM folders by virtiofs")

    async def plug_stream(self, tag: str, serve: Serve) -> None:
        self._cannot("plug a stream into a VM")

    async def unplug(self, tag: str) -> None:
        self._cannot("plug anything into a VM")

    async def wait_held(self) -> None:
        self._cannot("give a guest its seed while it runs")

    async def byte_code(self, most: int) -> bytes:
        self._cannot("ask a guest for what it has compiled")

    def connect_link(self) -> socket.socket:
        self._cannot("connect a port of a VM")

    def connect_streams(self, timeout_s: float) -> socket.socket:
        self._cannot("connect a port of a VM")

    async def on_link_change(self, callback: Callable[[bool], None]) -> None:
        self._cannot("connect a port of a VM")

    async def on_streams_change(self, callback: Callable[[bool], None]) -> None:
        self._cannot("connect a port of a VM")

    async def forward(self, forward: Forward) -> None:
        self._cannot("forward ports")

    async def forwards(self) -> set[Forward]:
        self._cannot("forward ports")

    async def unforward(self, forward: Forward) -> None:
        self._cannot("forward ports")

    def _cannot(self, what: str) -> NoReturn:
        raise DriverError(f"Hyper-V cannot {what}")

    def _id(self) -> uuid.UUID | None:
        return _identifier(self._identity)

    def _vm(self) -> uuid.UUID:
        if (vm := self._id()) is None:
            raise DriverError(f"Hyper-V has no VM of the machine {self._paths.name}", "the next start makes it")
        return vm

    async def _check_host(self) -> None:
        if (wrong := trouble.of_host(await self._shell.run(scripts.host()))) is not None:
            raise wrong

    async def _switch(self) -> str:
        """The name of the one that Windows has for this: it knows the way out, and gives addresses away."""
        found = _listed(await self._run("find a network", scripts.SWITCHES(id=uuid.UUID(scripts.DEFAULT_SWITCH))))
        if not found:
            raise HypervisorMissing(
                "Hyper-V has no Default Switch, by which its VMs reach the network",
                "Windows 10 and 11 have it from version 1709 on, and make it anew when the computer is restarted; "
                "Windows Server has none: take QEMU there",
            )
        return str(found[0])

    async def _look(self) -> str:
        """The VM's state as Hyper-V calls it, "Gone" when there is none. Raises `CoveError`."""
        try:
            said = await self._shell.run(scripts.LOOK(id=self._vm()))
        except ScriptError as error:
            found = trouble.find(error)
            if found is None or found.name != "gone":
                raise await self._explained(error, "tell the VM's state") from error
            await self._check_host()
            said = {"state": "Gone", "pid": 0}
        self._state, self._pid = str(said["state"]), int(said["pid"]) or None
        if self._state == "PausedCritical":
            log.error("the VM stands still: the disk of %s is full, or gone", self._paths.folder)
            self._full.set()
        else:
            self._full.clear()
        return self._state

    async def _follow(self) -> None:
        """Know of a VM that runs from here on, until it has ended."""
        await self._leave()
        await self._look()
        await self._hear()
        await self._hold()
        self._gone.clear()
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _leave(self) -> None:
        """Follow it no more; who waits for its end waits on."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _over(self) -> None:
        self._let_go()
        self._gone.set()

    async def _hold(self) -> None:
        """The lock, which whoever asks whether it is free holds for a moment. Raises `DriverError`."""
        for _ in range(LOCKS):
            if self._held or self._lock.try_acquire():
                self._held = True
                return
            await asyncio.sleep(LOCK_AGAIN_S)
        raise DriverError(f"another process holds the VM of machine {self._paths.name}", whose(self._paths.vm_lock))

    def _let_go(self) -> None:
        self._lock.release()
        self._held = False

    async def _hear(self) -> None:
        if self._console is not None:
            self._console.close()
        self._console = await console.connect(
            self._open_console, console.pipe(self._paths.name), self._paths.console_log
        )

    async def _watch(self) -> None:
        """End when the VM does."""
        while self._state not in _ENDED:
            if self._console is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._console.lost.wait(), LOOK_S)
            else:
                await asyncio.sleep(LOOK_AGAIN_S)
            try:
                await self._look()
            except CoveError as error:
                log.error("%s", error)
                if self._console is not None and self._console.lost.is_set():
                    self._console = None
                continue
            if self._state not in _ENDED and (self._console is None or self._console.lost.is_set()):
                await self._hear()
        self._over()

    async def _run(self, doing: str, script: str, timeout_s: float | None = None) -> Any:
        try:
            return await self._shell.run(script, timeout_s)
        except ScriptError as error:
            raise await self._explained(error, doing) from error

    async def _explained(self, error: ScriptError, doing: str) -> CoveError:
        """Whoever may not use Hyper-V, or finds its service stopped, is told by it that something was not found."""
        found = trouble.find(error)
        if found is None or found.name in ("gone", "rights", "service"):
            with contextlib.suppress(CoveError, KeyError, TypeError):
                if (wrong := trouble.of_host(await self._shell.run(scripts.host()))) is not None:
                    return wrong
        return trouble.explained(error, doing)


def _listed(answer: Any) -> list[Any]:
    """PowerShell takes a list of one for what is in it, and one of none for nothing."""
    if answer is None:
        return []
    return answer if isinstance(answer, list) else [answer]


def _identifier(path: Path) -> uuid.UUID | None:
    try:
        return uuid.UUID(json.loads(path.read_text("utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
