"""A VM's state into a file and out of it again, by QEMU's migration (docs/devel/migration in QEMU's sources)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError, Runstate

from cove.errors import DriverError, StateError

TIMEOUT_S = 300.0
"""To write or read some gigabytes on a slow disk."""
CANCEL_S = 20.0
_FD_NAME = "state"
_UNLIMITED = 1 << 40
"""Bytes a second."""
_LOOK_S = 0.01
STOPPED = frozenset({"paused", "postmigrate", "prelaunch"})
"""What `query-status` says of a VM that stands still and goes on with `cont`."""


async def save(client: QMPClient, fd: int, unless: asyncio.Event | None = None) -> None:
    """Writes the state of a VM to a file; the VM stands still then, and goes on with `cont`, also after an error.

    Raises `DriverError`, and so when `unless` is set meanwhile.
    """
    async with _migrating(client) as states:
        await client.execute("stop")
        client.send_fd_scm(fd)
        await client.execute("getfd", {"fdname": _FD_NAME})
        await client.execute("migrate", {"uri": f"fd:{_FD_NAME}"})
        try:
            ended = await _ended(client, states, unless)
        except BaseException:
            await cancel(client)
            raise
        await _still(client)
        if ended != "completed":
            raise DriverError(f"QEMU says that it has {ended}")


async def cancel(client: QMPClient) -> None:
    """Ends a saving that is under way; the VM stands still then."""
    with contextlib.suppress(TimeoutError, OSError, EOFError, QMPError):
        async with asyncio.timeout(CANCEL_S):
            await client.execute("migrate_cancel")
            await _still(client)


async def load(client: QMPClient, fd: int) -> None:
    """Gives a VM that was started with `-incoming defer` the state in a file; it stands still then.

    Args:
        fd: as QEMU has it, inherited.

    Raises `StateError` when QEMU does not take the state, `DriverError`.
    """
    async with _migrating(client) as states:
        try:
            await client.execute("migrate-incoming", {"uri": f"fd:{fd}"})
            ended = await _ended(client, states)
        except (EOFError, QMPError):
            ended = "failed"  # QEMU has ended, with words on standard error
        if ended != "completed":
            raise StateError("QEMU does not take it")
        await _still(client)


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


async def so_far(client: QMPClient) -> tuple[int, int] | None:
    """How many bytes of a VM's memory have been written, and of how many; None where QEMU does not tell. Raises `QMPError`."""
    told: Any = await client.execute("query-migrate")
    memory = told.get("ram")
    return (memory["total"] - memory["remaining"], memory["total"]) if memory and memory["total"] else None


async def _ended(client: QMPClient, states: EventListener, unless: asyncio.Event | None = None) -> str:
    """ "completed", "failed" or "cancelled". Raises EOFError when QEMU ends, of which no listener is told, and `DriverError` when
    `unless` is set.
    """
    told = asyncio.ensure_future(_told(states))
    gone = asyncio.ensure_future(_gone(client))
    given_up = asyncio.ensure_future((unless or asyncio.Event()).wait())
    try:
        await asyncio.wait((told, gone, given_up), return_when=asyncio.FIRST_COMPLETED)
        if given_up.done():
            raise DriverError("it was given up")
        if not told.done():
            raise EOFError("QEMU has ended")
        return told.result()
    finally:
        for future in (told, gone, given_up):
            future.cancel()


async def _told(states: EventListener) -> str:
    while True:
        data: Any = (await states.get())["data"]
        if data["status"] in ("completed", "failed", "cancelled"):
            return str(data["status"])


async def _gone(client: QMPClient) -> None:
    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()


async def _still(client: QMPClient) -> None:
    """QEMU tells of the end before it takes `cont`, and of this no event tells; it is a matter of milliseconds."""
    while True:
        told: Any = await client.execute("query-status")
        if told["status"] in STOPPED:
            return
        await asyncio.sleep(_LOOK_S)
