"""Attaching with the past: what is in the log, and then what the process says, with nothing lost or doubled in between.

While the log is sent it grows. The shim, which alone knows what is in the log and what is not, takes the client behind a
gate: it says up to where the log has been written, and reads no more of the process's output before the gate is opened.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from coved.containers.logs.past import Past, Position
from coved.runtime.errors import RuntimeFailure

if TYPE_CHECKING:
    from coved.containers.container import Container
    from coved.containers.manager import Containers
    from coved.runtime.spec import Attachment

log = logging.getLogger(__name__)

Send = Callable[[bytes], Awaitable[None]]


async def attach_after(
    containers: Containers, container: Container, attachment: Attachment, past: Past, send: Send
) -> None:
    """Sends the past, then hands the connection over or keeps it for the start. Takes over ``attachment.fd`` and ``past``.

    Raises Conflict when too many wait for the start, and what ``send`` raises.
    """
    with ExitStack() as stack:
        stack.callback(os.close, attachment.fd)
        stack.enter_context(closing(past))
        while True:
            await _send(past, past.end(), send)
            if container.starting:
                async with container.lock:  # until it runs, or has failed to
                    pass
            elif container.shim is not None and container.state.status != "removing":
                await _hand_over(container, attachment, past, send)
                containers.tell_attached(container)
                return
            elif not past.has_more():
                break
        # Nothing runs, and nothing is waited for between the last look at the log and this:
        stack.pop_all()
        past.close()
        await containers.attach(container, attachment)


async def _hand_over(container: Container, attachment: Attachment, past: Past, send: Send) -> None:
    assert container.shim is not None
    with ExitStack() as stack:
        gate, opener = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, opener)  # which opens the gate, as does the engine's end
        position: Position | None = None
        try:
            position = await container.shim.attach("", attachment, gate=gate)
        except RuntimeFailure as error:
            log.info("attaching to %s: %s", container.short_id, error)
        finally:
            os.close(gate)
        await _send(past, position or past.end(), send)


async def _send(past: Past, end: Position | None, send: Send) -> None:
    async for chunk in past.until(end):
        await send(chunk)
