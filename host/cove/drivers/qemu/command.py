"""QEMU's command line for a machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.drivers.base import VmSpec
from cove.drivers.qemu import board
from cove.drivers.qemu.channels import Ends
from cove.drivers.qemu.probe import SANDBOX
from cove.drivers.qemu.words import accel, cpu, escaped, place

NETDEV = "net0"
QMP = "qmp"
LINK = "link"
LINK_PORT = "cove.link"
STREAMS = "streams"
STREAMS_PORT = "cove.streams"
SEED = "seed"
SEED_PORT = "cove.seed"
"""The guest opens it when it waits for its seed."""
DATA_NODE = "data"
DATA_DEVICE = "disk"
FOLDER_SLOT = 0x10
FOLDER_SLOTS = 8
"""Slots for devices of folders, which are plugged in while the VM runs; functions of one device."""
NO_DATA_NODE = "nodata"
"""What the device of the data disk has until the guest is to begin: no guest sees what is on the disk before."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where QEMU finds what the agent made for it. It runs in `folder`."""

    folder: Path
    channels: Ends
    console_log: Path
    pid_file: Path


def build(
    program: Path, spec: VmSpec, endpoints: Endpoints, sandbox: bool, data: Path | None = None
) -> list[str]:  # fmt: skip
    """The whole command line. The VM starts stopped (-S). `data`: where QEMU's firmware is, when it does not know.

    Raises `DriverError` for a path that QEMU cannot be told.
    """
    accelerator, machine = spec.accelerator.name, board.of(spec.architecture)

    def at(path: Path) -> str:
        return place(path, endpoints.folder)

    arguments = [str(program), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-S"]
    arguments += ["-name", f"cove-{spec.name}", "-machine", machine.machine, "-accel", accel(accelerator)]
    arguments += ["-cpu", cpu(accelerator, machine.emulated_cpu)]
    if data is not None:
        arguments += ["-L", at(data)]
    arguments += ["-smp", str(spec.cpus), "-m", f"{spec.memory >> 20}M"]
    arguments += ["-kernel", at(spec.kernel), "-initrd", at(spec.initramfs)]
    arguments += ["-append", f"{spec.command_line} console={machine.console}"]
    # Appended to, so that truncating a console that has grown too long makes room at once.
    arguments += ["-chardev", f"file,id=console,path={escaped(at(endpoints.console_log))},append=on"]
    arguments += ["-serial", "chardev:console"]
    arguments += endpoints.channels.objects
    arguments += ["-chardev", _channel(endpoints, QMP), "-mon", f"chardev={QMP},mode=control"]
    arguments += ["-device", "virtio-serial-pci"]
    for port, name in ((LINK, LINK_PORT), (SEED, SEED_PORT), (STREAMS, STREAMS_PORT)):
        arguments += ["-chardev", _channel(endpoints, port)]
        arguments += ["-device", f"virtserialport,id={port},chardev={port},name={name}"]

    system = {"driver": "raw", "node-name": "system", "read-only": True}
    arguments += _disk("system", system | {"file": _file(at(spec.system)) | {"read-only": True}}, "cove-system")
    nothing = {"driver": "null-co", "node-name": NO_DATA_NODE, "size": 1 << 20, "read-zeroes": True}
    arguments += _disk(DATA_DEVICE, nothing, "cove-data")

    arguments += ["-netdev", f"user,id={NETDEV},net=10.0.2.0/24,ipv6=off"]
    arguments += ["-device", f"virtio-net-pci,netdev={NETDEV},romfile="]
    arguments += ["-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng"]
    # Windows takes no pages back of a process that has them still, and QEMU would say so of each.
    reporting = "" if sys.platform == "win32" else ",free-page-reporting=on"
    arguments += ["-device", f"virtio-balloon-pci{reporting}"]
    for index in range(FOLDER_SLOTS):
        port = f"pcie-root-port,id={slot(index)},chassis={index + 1},addr={FOLDER_SLOT:#x}.{index:#x}"
        arguments += ["-device", f"{port},multifunction=on"]
    for folder in spec.folders:
        # Passthrough tells of a chown that the user may not make, which programs that unpack archives as root take for a failure.
        model = "passthrough" if sys.platform != "win32" and os.geteuid() == 0 else "none"
        options = f"local,id={folder.tag},path={escaped(at(folder.path))},security_model={model},multidevs=remap"
        arguments += ["-fsdev", f"{options},readonly={'on' if folder.read_only else 'off'}"]
    if spec.vsock_cid:
        arguments += ["-device", f"vhost-vsock-pci,id=vsock,guest-cid={spec.vsock_cid}"]
    if spec.shared_memory:
        arguments += ["-object", f"memory-backend-memfd,id=memory,size={spec.memory >> 20}M,share=on"]
        arguments += ["-machine", "memory-backend=memory"]
    arguments += ["-pidfile", at(endpoints.pid_file)]
    if sandbox:
        arguments += ["-sandbox", SANDBOX]
    return arguments


def slot(index: int) -> str:
    """The bus of a slot for folders."""
    return f"folders{index}"


def data_node(disk: Path) -> dict[str, Any]:
    """The data disk, for QMP's blockdev-add; it is in the folder that QEMU runs in. Raises `DriverError`."""
    file = _file(place(disk, disk.parent)) | {"discard": "unmap"}
    return {"driver": "qcow2", "node-name": DATA_NODE, "discard": "unmap", "detect-zeroes": "unmap", "file": file}


def _file(path: str) -> dict[str, Any]:
    return {"driver": "file", "filename": path}


def _channel(endpoints: Endpoints, name: str) -> str:
    return f"socket,id={name},{endpoints.channels.addresses[name]},server=on,wait=off"


def _disk(id: str, node: Mapping[str, Any], serial: str) -> list[str]:
    device = f"virtio-blk-pci,id={id},drive={node['node-name']},serial={serial}"
    return ["-blockdev", json.dumps(node), "-device", device]
