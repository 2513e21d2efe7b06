"""Character devices that a VM that runs gets and loses (QMP: chardev-add, chardev-remove)."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from cove.errors import DriverError

Execute = Callable[[str, dict[str, Any] | None], Awaitable[Any]]


async def add(execute: Execute, name: str, socket: dict[str, Any]) -> None:
    """One on a socket (QMP: ChardevSocket), in the place of one whose server ended. Raises `DriverError`."""
    await remove(execute, name)
    await execute("chardev-add", {"id": name, "backend": {"type": "socket", "data": socket}})


async def remove(execute: Execute, name: str) -> None:
    with contextlib.suppress(DriverError):  # there is none, or it is somebody's
        await execute("chardev-remove", {"id": name})


async def state(execute: Execute, name: str) -> str:
    """Where it is and leads, in QEMU's words; "" when there is none. Raises `DriverError`."""
    listed = await execute("query-chardev", None)
    return next((str(one["filename"]) for one in listed if one["label"] == name), "")
