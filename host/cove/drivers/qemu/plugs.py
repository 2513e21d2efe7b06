"""Devices of folders, plugged into a VM that runs and taken away again (QMP: device_add, device_del, chardev-add)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient

from cove.drivers.qemu import chardevs, command
from cove.drivers.qemu.chardevs import Execute
from cove.errors import DriverError

UNPLUG_S = 15.0
"""Seconds in which a guest that lives lets go of a device."""
TAG = "folder"
"""Begins the tag of every folder: the VM has other devices of these kinds."""
_PERIPHERAL = "/machine/peripheral"
_KINDS = {"child<virtio-9p-pci>", "child<vhost-user-fs-pci>", "child<virtserialport>"}


async def found(execute: Execute) -> set[str]:
    """Tags of the folders' devices that are there. Raises `DriverError`."""
    listed = await execute("qom-list", {"path": _PERIPHERAL})
    return {one["name"] for one in listed if one["type"] in _KINDS and one["name"].startswith(TAG)}


async def folder(execute: Execute, tag: str) -> None:
    await execute(
        "device_add",
        {"driver": "virtio-9p-pci", "id": tag, "fsdev": tag, "mount_tag": tag, "bus": await _free(execute)},
    )


async def virtiofs(execute: Execute, tag: str, socket: Path) -> None:
    await chardevs.add(execute, tag, {"addr": {"type": "unix", "data": {"path": str(socket)}}, "server": False})
    try:
        device = {"driver": "vhost-user-fs-pci", "id": tag, "chardev": tag, "tag": tag, "queue-size": 1024}
        await execute("device_add", device | {"bus": await _free(execute)})
    except DriverError:
        await chardevs.remove(execute, tag)
        raise


async def stream(execute: Execute, tag: str) -> None:
    """A port, before the character device that is there by the name of ``tag``."""
    await execute("device_add", {"driver": "virtserialport", "id": tag, "chardev": tag, "name": f"cove.{tag}"})


async def away(client: QMPClient, execute: Execute, tag: str) -> None:
    """Take a device away, and what is behind it. Raises `DriverError` when the guest holds it."""
    listener = EventListener(names={"DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"})
    with client.listen(listener):
        if tag in await found(execute):
            await execute("device_del", {"id": tag})
            try:
                async with asyncio.timeout(UNPLUG_S):
                    await _deleted(listener, tag)
            except TimeoutError:
                raise DriverError(f"the guest does not let go of the device {tag}") from None
    await chardevs.remove(execute, tag)


async def _deleted(listener: EventListener, tag: str) -> None:
    async for event in listener:
        data: Any = event["data"]
        if data.get("device") == tag:
            if event["event"] == "DEVICE_DELETED":
                return
            raise DriverError(f"the guest does not let go of the device {tag}")


async def _free(execute: Execute) -> str:
    """A slot without a device."""
    for index in range(command.FOLDER_SLOTS):
        path = f"{_PERIPHERAL}/{command.slot(index)}/{command.slot(index)}"
        listed = await execute("qom-list", {"path": path})
        if not any(one["type"].startswith(("child<", "link<")) and one["name"].startswith("child[") for one in listed):
            return command.slot(index)
    raise DriverError("the VM has no slot left for another folder")
