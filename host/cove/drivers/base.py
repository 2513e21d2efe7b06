"""What a hypervisor must be able to do. The implementations are `cove.drivers.qemu` and `cove.drivers.hyperv`.

One driver object stands for one machine's VM. All methods are called from the agent's event loop and MUST NOT block it.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cove.errors import DriverError
from cove.machine.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What runs the guest's processors, and why it and not a better one. Options of the accelerator may follow its name, after a comma."""

    name: str
    reason: str = ""

    @property
    def description(self) -> str:
        """For people: "software emulation", "KVM"."""
        name = self.name.partition(",")[0]
        return {"tcg": "software emulation", "kvm": "KVM", "hvf": "HVF", "whpx": "WHPX", "hyperv": "Hyper-V"}.get(
            name, name
        )


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A folder of this computer that the VM's hypervisor is to serve itself, by 9p. ``tag`` is the name that the guest mounts."""

    tag: str
    path: Path
    read_only: bool


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream that a process is started for: a socket that it inherits; or where that is none (below 0), a port of 127.0.0.1
    whose other side it knows by the keys in a folder (`cove.local.tls`)."""

    socket: int
    port: int = 0
    keys: Path = Path()


Serve = Callable[[StreamEnd], subprocess.Popen[bytes]]
"""Starts the process that has the end; once more with another end, when the one before did not come to use it. Raises `DriverError`."""


@dataclass(frozen=True, slots=True)
class VmSpec:
    """All that a driver must know to start a VM. Sizes in bytes."""

    name: str
    cpus: int
    memory: int
    disk_size: int
    kernel: Path
    initramfs: Path
    system: Path
    command_line: str
    accelerator: Accelerator
    architecture: Architecture
    folders: tuple[SharedFolder, ...] = ()
    """What it can be asked to plug in by `plug_folder`."""
    shared_memory: bool = False
    """Other processes than the hypervisor serve folders out of the guest's memory (`plug_virtiofs`)."""
    vsock_cid: int = 0
    """The guest's address for sockets of its host; 0 when there are to be none."""
    boot_disk: Path | None = None
    """Kernel and system as one disk that UEFI boots (`cove.image.bootdisk`), for a hypervisor that loads no kernel itself."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the host that leads to a port of the guest."""

    proto: str
    host_ip: str
    host_port: int
    guest_port: int


class Forwarding(ABC):
    """What leads ports of this computer into a VM."""

    @abstractmethod
    async def forward(self, forward: Forward) -> None:
        """Forward a port. Raises `PortInUse`, `DriverError`."""

    @abstractmethod
    async def forwards(self) -> set[Forward]:
        """Those that there are, whoever asked for them. Raises `DriverError`."""

    @abstractmethod
    async def unforward(self, forward: Forward) -> None:
        """Undo `forward`; a forward that is not there is no error."""


class Driver(Forwarding):
    """One machine's VM."""

    name: ClassVar[str]
    keeps_templates: ClassVar[bool] = True
    """Whether it can `save` a VM that knows no machine yet, and `start` others from it."""
    has_ports: ClassVar[bool] = True
    """Whether the VM has ports for its seed, its link and its streams, and ports of this computer can be forwarded to it. Where there are
    none it boots in `begin` alone, has its seed then, and all else goes to `guest` by sockets of the host's (`cove.transport.vsock`)."""

    @abstractmethod
    async def create(self, spec: VmSpec) -> None:
        """Make what the VM needs and does not have yet (the data disk). MUST NOT touch what is there."""

    @abstractmethod
    async def start(self, spec: VmSpec, template: Path | None = None) -> None:
        """Start the VM so that it boots until it waits for its seed, without its data disk when it `keeps_templates`; with a `template`
        of `save` it is at that point at once. When this raises, nothing is left running. One that `has_ports` not is only made ready.

        Raises `DriverError`, `HypervisorMissing`.
        """

    def guest(self) -> str:
        """By what sockets of the host find a VM that `has_ports` not. Raises `DriverError`."""
        raise DriverError(f"{self.name} has no sockets to its guests")

    @abstractmethod
    def version(self) -> str:
        """The hypervisor's. Raises `HypervisorMissing`."""

    @abstractmethod
    def state_kind(self, spec: VmSpec) -> str | None:
        """Of what kind a state must be, a template or a suspended VM, for `start` and `wake` to take it, as hexadecimal digits; None
        when this host's hypervisor saves none. Raises `HypervisorMissing`."""

    @abstractmethod
    async def wait_held(self) -> None:
        """Return when the guest waits for its seed."""

    @abstractmethod
    async def byte_code(self, most: int) -> bytes:
        """What a guest that waits for its seed has compiled, as an archive; empty when the host has given it that (`VmSpec.initramfs`). For
        an image that `gives_byte_code`. Raises `DriverError`, also for more than so many bytes."""

    @abstractmethod
    async def save(self, template: Path) -> None:
        """Write a VM that waits for its seed to a file; it then goes on waiting. Raises `DriverError`, and `OSError` when there is
        no room: then there is no file."""

    @abstractmethod
    async def suspend(self, state: Path, unless: asyncio.Event | None = None) -> None:
        """Write a VM that runs to a file; it stands still then, for good. Raises `DriverError`, also when `unless` is set before it is
        written, and `OSError` when there is no room: then it goes on."""

    @abstractmethod
    async def written(self) -> tuple[int, int] | None:
        """While it is written: how many bytes of its memory have been, and of how many; None where that is not known."""

    @abstractmethod
    async def wake(self, spec: VmSpec, state: Path, consume: Callable[[], Awaitable[None]]) -> None:
        """Start a VM that `suspend` has written, of the same `state_kind` and with its disk as it was then. `consume` is awaited
        before it goes on. When this raises, nothing is left running.

        Raises `StateError` when the state is not taken, `DriverError`, `HypervisorMissing`.
        """

    @abstractmethod
    async def unfreeze(self) -> None:
        """Let a VM go on that an earlier agent has left while it suspended it. Raises `DriverError`."""

    @abstractmethod
    async def begin(self, spec: VmSpec, seed: bytes) -> None:
        """Give the VM its data disk, made as large as the spec says (never smaller), and its seed, one line.

        Raises `DriverError`.
        """

    @abstractmethod
    async def adopt(self) -> bool:
        """Take over a VM of this machine that an earlier agent left, and say whether there was a usable one.

        A VM that does not answer MUST be ended here, so that after False a start finds the field clear.
        """

    @abstractmethod
    def answers(self) -> bool:
        """Whether the VM runs, and can be spoken to through this object."""

    @abstractmethod
    async def inspected(self) -> str:
        """What the hypervisor knows of a VM that does nothing any more, for whoever is to find out why: some lines, "" when it does not
        answer within two seconds. Never fails."""

    @abstractmethod
    async def power_button(self) -> None:
        """Ask the guest to power down (ACPI); returns at once."""

    @abstractmethod
    async def quit(self) -> None:
        """Switch the VM off in an orderly way for the host: its disks are flushed, the guest is not asked."""

    @abstractmethod
    async def kill(self) -> None:
        """End the VM's process. Bounded; returns when it is gone. Raises `DriverError` when it does not go."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of a VM, which goes on when it runs: another object can take it over. Bounded; this one is of no use any more."""

    @abstractmethod
    async def wait_exit(self) -> None:
        """Return when the VM is gone, or at once when there is none."""

    @abstractmethod
    def disk_is_full(self) -> bool:
        """Whether the VM stands still because the host's disk has no room for what it writes; nothing it wrote is lost."""

    @abstractmethod
    async def wait_disk_full(self) -> None:
        """Return when the VM stands still for that reason."""

    @abstractmethod
    async def resume(self) -> None:
        """Let such a VM go on; it will stand still again when there is still no room. Raises `DriverError`."""

    @abstractmethod
    def connect_link(self) -> socket.socket:
        """A connection to the guest's link. There is one at a time; it blocks. Raises `OSError`."""

    @abstractmethod
    def connect_streams(self, timeout_s: float) -> socket.socket:
        """A connection to what serves streams in the guest. There is one at a time; it blocks. Raises `OSError`."""

    @abstractmethod
    async def on_link_change(self, callback: Callable[[bool], None]) -> None:
        """Call back whenever the guest opens (True) or closes its end of the link, and now when it is open already."""

    @abstractmethod
    async def on_streams_change(self, callback: Callable[[bool], None]) -> None:
        """Call back whenever the guest opens (True) or closes its end of the streams, and now when it is open already."""

    @abstractmethod
    async def plugged(self) -> set[str]:
        """Tags of the folders' devices that the VM has, whoever plugged them in. Raises `DriverError`."""

    @abstractmethod
    async def plug_folder(self, tag: str) -> None:
        """Give the VM one of its spec's folders. Raises `DriverError`."""

    @abstractmethod
    async def plug_virtiofs(self, tag: str, socket: Path) -> None:
        """Give the VM a folder that a server of virtiofs (vhost-user) serves, which listens on a unix socket. Raises `DriverError`."""

    @abstractmethod
    async def plug_stream(self, tag: str, serve: Serve) -> None:
        """Give the VM a stream of bytes by the name of ``tag``, whose other end a process has that is started for it.

        Raises `DriverError`."""

    @abstractmethod
    async def unplug(self, tag: str) -> None:
        """Take the device of a folder away, which the guest does not use any more. Raises `DriverError`, also when it does."""

    def over(self) -> set[str]:
        """Tags of folders whose stream broke, which the guest does not see by itself: none, where a device of the VM's has them."""
        return set()

    def on_over(self, callback: Callable[[], object]) -> None:
        """Call back, in any thread, when `over` has something to tell."""

    @abstractmethod
    async def held_by(self) -> list[str]:
        """Why the VM cannot be saved now, in the hypervisor's words; empty when it can. Raises `DriverError`."""

    @abstractmethod
    def pid(self) -> int | None:
        """The VM's process, None when there is none."""
