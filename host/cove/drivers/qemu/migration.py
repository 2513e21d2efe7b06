"""A VM's state into a file and out of it again, by QEMU's migration (docs/devel/migration in QEMU's sources)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError

from cove.errors import DriverError

TIMEOUT_S = 60.0
"""To write or read some hundred MB on a busy computer."""
_FD_NAME = "template"
_UNLIMITED = 1 << 40
"""Bytes a second."""


async def save(client: QMPClient, fd: int) -> None:
    """Writes the state of a VM to a file; the VM stands still then. Raises `DriverError`."""
    async with _migrating(client) as states:
        await client.execute("stop")
        client.send_fd_scm(fd)
        await client.execute("getfd", {"fdname": _FD_NAME})
        await client.execute("migrate", {"uri": f"fd:{_FD_NAME}"})
        await _completed(states)


async def load(client: QMPClient, fd: int) -> None:
    """Gives a VM that was started with `-incoming defer` the state in a file; it stands still then. Raises `DriverError`.

    Args:
        fd: as QEMU has it, inherited.
    """
    async with _migrating(client) as states:
        await client.execute("migrate-incoming", {"uri": f"fd:{fd}"})
        await _completed(states)


@asynccontextmanager
async def _migrating(client: QMPClient) -> AsyncIterator[EventListener]:
    states = EventListener(names={"MIGRATION"})
    try:
        async with asyncio.timeout(TIMEOUT_S):
            with client.listen(states):
                await client.execute(
                    "migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]}
                )
                await client.execute("migrate-set-parameters", {"max-bandwidth": _UNLIMITED})
                yield states
    except TimeoutError:
        raise DriverError(f"QEMU was not done with it within {TIMEOUT_S:.0f} s") from None
    except (OSError, EOFError, QMPError) as error:
        raise DriverError(str(error) or "QEMU has ended") from error


async def _completed(states: EventListener) -> None:
    async for event in states:
        data: Any = event["data"]
        if data["status"] == "completed":
            return
        if data["status"] in ("failed", "cancelled"):
            raise DriverError(f"QEMU says that it has {data['status']}")
    raise DriverError("QEMU has ended")
