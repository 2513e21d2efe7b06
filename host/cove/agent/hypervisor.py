"""Which hypervisor runs a machine, and what is particular to each of them before a VM is started."""

from __future__ import annotations

import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cove.drivers.base import Accelerator, Driver
from cove.drivers.qemu import binary, devices, probe
from cove.drivers.qemu.driver import QemuDriver
from cove.errors import CoveError, HypervisorMissing, SettingsError
from cove.image.store import VmImage
from cove.machine.architecture import AMD64, named
from cove.machine.paths import MachinePaths
from cove.machine.settings import Settings
from cove.progress import Report
from cove.share import choice, folders
from cove.share import starting as sharing
from cove.share.folders import Folder
from cove.transport import vsock
from cove.transport.serial import Dial

if TYPE_CHECKING:
    from cove.drivers.hyperv.driver import HyperVDriver

QEMU, HYPERV = "qemu", "hyperv"
"""As the setting `driver` calls them."""


class Hypervisor(ABC):
    """What a start asks, in this order. Methods block, but for `again`, and are for threads."""

    name: ClassVar[str]
    label: ClassVar[str]
    """For people."""
    driver: Driver

    @abstractmethod
    def again(self) -> Hypervisor:
        """For another try, with another driver."""

    @abstractmethod
    def find(self, wanted: Settings) -> None:
        """Make sure that it is there. Raises `CoveError`."""

    @abstractmethod
    def accelerator(self, image: VmImage, wanted: Settings) -> Accelerator:
        """What is to run the VM. Raises `CoveError`."""

    @abstractmethod
    def boot_disk(self, image: VmImage, progress: Report) -> Path | None:
        """`VmSpec.boot_disk`, which is made when it is missing. Raises `CoveError`."""

    @abstractmethod
    def folders(self, wanted: Settings) -> tuple[list[Folder], str, list[str]]:
        """As `cove.share.starting.settle`."""

    @abstractmethod
    def vsock_cid(self) -> int:
        """`VmSpec.vsock_cid` of a new VM."""

    def dial(self, key: bytes) -> Dial:
        """The way to the streams of a guest that has no ports, and has this key. Raises `CoveError`."""
        return vsock.GuestSocket(self.driver.guest(), key).dial


class Qemu(Hypervisor):
    name = QEMU
    label = "QEMU"

    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths
        self.driver: QemuDriver = QemuDriver(paths)
        self._program = Path()

    def again(self) -> Qemu:
        other = Qemu(self._paths)
        other._program = self._program
        other.driver.program, other.driver.sandbox = self.driver.program, self.driver.sandbox
        other.driver.known_version = self.driver.known_version
        return other

    def find(self, wanted: Settings) -> None:
        self._program = binary.find(wanted.qemu, named(wanted.architecture))

    def accelerator(self, image: VmImage, wanted: Settings) -> Accelerator:
        """The driver is told of program and sandbox."""
        accelerator, probed = probe.choose(self._program, image.architecture, image.kernel, wanted.accelerator)
        self.driver.program = self._program
        self.driver.sandbox = probed.sandbox
        self.driver.known_version = probed.version
        return accelerator

    def boot_disk(self, image: VmImage, progress: Report) -> Path | None:
        return None

    def folders(self, wanted: Settings) -> tuple[list[Folder], str, list[str]]:
        return sharing.settle(wanted, self._program)

    def vsock_cid(self) -> int:
        return 0 if vsock.unusable() or not devices.has(self._program, "vhost-vsock-pci") else vsock.any_cid()


class HyperV(Hypervisor):
    name = HYPERV
    label = "Hyper-V"

    def __init__(self, paths: MachinePaths, make: Callable[[MachinePaths], HyperVDriver] | None = None) -> None:
        from cove.drivers.hyperv.driver import HyperVDriver  # QEMU's machines do without

        self._paths = paths
        self._make = make or HyperVDriver
        self.driver: HyperVDriver = self._make(paths)

    def again(self) -> HyperV:
        return HyperV(self._paths, self._make)

    def find(self, wanted: Settings) -> None:
        if (wrong := _no_sockets()) is not None:
            raise wrong
        if (kind := named(wanted.architecture)) != AMD64:
            raise SettingsError(
                f"there is no disk for {kind.name} that Hyper-V could boot", "take QEMU: cove config set driver qemu"
            )

    def accelerator(self, image: VmImage, wanted: Settings) -> Accelerator:
        return Accelerator(HYPERV)

    def boot_disk(self, image: VmImage, progress: Report) -> Path | None:
        from cove.image import bootdisk

        path = image.directory / bootdisk.name()
        if path.exists():
            return path
        try:
            bootdisk.write(image, path, progress)
        except bootdisk.OlderImage:  # a machine stays with it, or has gone back to it
            if (made := bootdisk.earlier(image)) is None:
                raise
            return made
        return path

    def folders(self, wanted: Settings) -> tuple[list[Folder], str, list[str]]:
        listed, said = folders.wanted(wanted)
        if wanted.folder_driver not in ("auto", choice.AUTO):
            raise SettingsError(
                f"folder_driver: {wanted.folder_driver} does not work with Hyper-V, which knows no folders of its own",
                "let Cove choose: cove config set folder_driver auto",
            )
        return listed, choice.AUTO, said

    def vsock_cid(self) -> int:
        return 0


def has(paths: MachinePaths) -> str:
    """The hypervisor whose disk a machine has; "" when it has none yet."""
    if paths.vhdx.exists():
        return HYPERV
    return QEMU if paths.disk.exists() else ""


def of_machine(paths: MachinePaths) -> Hypervisor:
    """That of a VM which may be there already."""
    return _made(has(paths) or (HYPERV if paths.hyperv.exists() else QEMU), paths)


def unfit(paths: MachinePaths, wanted: Settings) -> SettingsError | None:
    """Why the setting `driver` cannot be met, whatever hypervisor this computer has."""
    if wanted.driver == HYPERV and sys.platform != "win32":
        return SettingsError("driver: hyperv is of Windows", f"let Cove choose: {_setting(paths, 'auto')}")
    if wanted.driver != "auto" and (there := has(paths)) not in ("", wanted.driver):
        return SettingsError(
            f"driver: the machine {paths.name} has its data on a disk of {_LABELS[there]}'s, which {_LABELS[wanted.driver]} does not take",
            f"keep it ({_setting(paths, there)}), or make another machine:"
            f" cove machine init NAME; cove config set -m NAME driver {wanted.driver}",
        )
    return None


def settled(paths: MachinePaths, wanted: Settings) -> str:
    """The one that a machine starts with, as far as disk, settings and system say: "" when it is Hyper-V where that is ready, else QEMU."""
    if wanted.driver != "auto" or has(paths):
        return has(paths) or wanted.driver
    return "" if sys.platform == "win32" else QEMU


def choose(paths: MachinePaths, wanted: Settings) -> tuple[Hypervisor, str]:
    """The one that a machine starts with, and what is to be told of that. Blocks. Raises `CoveError`."""
    if (wrong := unfit(paths, wanted)) is not None:
        raise wrong
    if name := settled(paths, wanted):
        return _made(name, paths), ""
    found = HyperV(paths)
    why = unusable(found.driver)
    if why is None:
        return found, ""
    try:
        binary.find(wanted.qemu, named(wanted.architecture))
    except CoveError as error:
        raise HypervisorMissing(
            f"there is neither Hyper-V nor QEMU to run the machine {paths.name}: {why.message}; {error.message}",
            "\n".join(["either of:", why.hint, error.hint]),
        ) from error
    return Qemu(paths), f"QEMU runs it: {why.message} ({' '.join(why.hint.split())})"


def unusable(driver: HyperVDriver) -> CoveError | None:
    """Why Hyper-V cannot run machines on this computer. Blocks for some seconds."""
    if (wrong := _no_sockets()) is not None:
        return wrong
    try:
        driver.version()
    except CoveError as error:
        return error
    return None


def _no_sockets() -> HypervisorMissing | None:
    if hasattr(socket, "AF_HYPERV"):
        return None
    return HypervisorMissing("this Python has no sockets to Hyper-V's machines", "Python 3.12 and later have them")


def _made(name: str, paths: MachinePaths) -> Hypervisor:
    return HyperV(paths) if name == HYPERV else Qemu(paths)


def _setting(paths: MachinePaths, value: str) -> str:
    return f"cove config set{paths.option} driver {value}"


_LABELS = {QEMU: Qemu.label, HYPERV: HyperV.label}
