"""QEMU's command line for a machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.drivers.base import VmSpec
from cove.drivers.qemu import board
from cove.drivers.qemu.probe import SANDBOX

NETDEV = "net0"
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
    """Where QEMU finds what the agent made for it: listening sockets (inherited descriptors) and files."""

    qmp_fd: int
    link_fd: int
    seed_fd: int
    streams_fd: int
    console_log: Path
    pid_file: Path


def build(program: Path, spec: VmSpec, endpoints: Endpoints, sandbox: bool) -> list[str]:
    """The whole command line. The VM starts stopped (-S)."""
    accelerator, machine = spec.accelerator.name, board.of(spec.architecture)
    accel = "tcg,thread=multi,tb-size=256" if accelerator == "tcg" else accelerator
    arguments = [str(program), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-S"]
    arguments += ["-name", f"cove-{spec.name}", "-machine", machine.machine, "-accel", accel]
    arguments += ["-cpu", machine.emulated_cpu if accelerator == "tcg" else "host"]
    arguments += ["-smp", str(spec.cpus), "-m", f"{spec.memory >> 20}M"]
    arguments += ["-kernel", str(spec.kernel), "-initrd", str(spec.initramfs)]
    arguments += ["-append", f"{spec.command_line} console={machine.console}"]
    # Appended to, so that truncating a console that has grown too long makes room at once.
    arguments += ["-chardev", f"file,id=console,path={_escaped(endpoints.console_log)},append=on"]
    arguments += ["-serial", "chardev:console"]
    arguments += ["-chardev", f"socket,id=qmp,fd={endpoints.qmp_fd},server=on,wait=off"]
    arguments += ["-mon", "chardev=qmp,mode=control"]
    arguments += ["-chardev", f"socket,id={LINK},fd={endpoints.link_fd},server=on,wait=off"]
    arguments += ["-device", "virtio-serial-pci"]
    arguments += ["-device", f"virtserialport,id={LINK},chardev={LINK},name={LINK_PORT}"]

    arguments += ["-chardev", f"socket,id={SEED},fd={endpoints.seed_fd},server=on,wait=off"]
    arguments += ["-device", f"virtserialport,id={SEED},chardev={SEED},name={SEED_PORT}"]
    arguments += ["-chardev", f"socket,id={STREAMS},fd={endpoints.streams_fd},server=on,wait=off"]
    arguments += ["-device", f"virtserialport,id={STREAMS},chardev={STREAMS},name={STREAMS_PORT}"]

    system = {"driver": "raw", "node-name": "system", "read-only": True}
    arguments += _disk("system", system | {"file": _file(spec.system) | {"read-only": True}}, "cove-system")
    nothing = {"driver": "null-co", "node-name": NO_DATA_NODE, "size": 1 << 20, "read-zeroes": True}
    arguments += _disk(DATA_DEVICE, nothing, "cove-data")

    arguments += ["-netdev", f"user,id={NETDEV},net=10.0.2.0/24,ipv6=off"]
    arguments += ["-device", f"virtio-net-pci,netdev={NETDEV},romfile="]
    arguments += ["-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng"]
    arguments += ["-device", "virtio-balloon-pci,free-page-reporting=on"]
    for index in range(FOLDER_SLOTS):
        port = f"pcie-root-port,id={slot(index)},chassis={index + 1},addr={FOLDER_SLOT:#x}.{index:#x}"
        arguments += ["-device", f"{port},multifunction=on"]
    for folder in spec.folders:
        # Passthrough tells of a chown that the user may not make, which programs that unpack archives as root take for a failure.
        model = "passthrough" if os.geteuid() == 0 else "none"
        options = f"local,id={folder.tag},path={_escaped(folder.path)},security_model={model},multidevs=remap"
        arguments += ["-fsdev", f"{options},readonly={'on' if folder.read_only else 'off'}"]
    if spec.shared_memory:
        arguments += ["-object", f"memory-backend-memfd,id=memory,size={spec.memory >> 20}M,share=on"]
        arguments += ["-machine", "memory-backend=memory"]
    arguments += ["-pidfile", str(endpoints.pid_file)]
    if sandbox:
        arguments += ["-sandbox", SANDBOX]
    return arguments


def slot(index: int) -> str:
    """The bus of a slot for folders."""
    return f"folders{index}"


def data_node(disk: Path) -> dict[str, Any]:
    """The data disk, for QMP's blockdev-add."""
    file = _file(disk) | {"discard": "unmap"}
    return {"driver": "qcow2", "node-name": DATA_NODE, "discard": "unmap", "detect-zeroes": "unmap", "file": file}


def _file(path: Path) -> dict[str, Any]:
    return {"driver": "file", "filename": str(path)}


def _disk(id: str, node: Mapping[str, Any], serial: str) -> list[str]:
    device = f"virtio-blk-pci,id={id},drive={node['node-name']},serial={serial}"
    return ["-blockdev", json.dumps(node), "-device", device]


def _escaped(path: Path) -> str:
    """A path within a comma-separated option: QEMU reads a doubled comma as one."""
    return str(path).replace(",", ",,")
