"""This computer's shutdown waits for the machine, as long as logind lets it (docs/decisions/0063)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from cove.agent.threads import abandonable

log = logging.getLogger(__name__)

ANSWER_S = 10.0
_NAME, _PATH, _MANAGER = "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"


class Shutdown:
    """Calls `coming` in the event loop when this computer is about to be shut down, which waits then until `close`.

    So it is on Linux, from a moment after `await_it` on and where logind is; elsewhere nothing happens.
    """

    def __init__(self, coming: Callable[[], None]) -> None:
        self._coming = coming
        self._asking: asyncio.Task[None] | None = None
        self._lock: _Lock | None = None

    def await_it(self) -> None:
        """May be called again."""
        if sys.platform == "linux" and self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        if self._lock is not None:
            asyncio.get_running_loop().remove_reader(self._lock.connection.sock)
            self._lock.close()
            self._lock = None

    async def _ask(self) -> None:
        try:
            self._lock = await abandonable(_Lock)
        except Exception as error:  # of the system, the bus or logind: whatever it is, the machine runs
            log.info("a shutdown of this computer will not wait for the machine: %s", str(error) or repr(error))
            return
        asyncio.get_running_loop().add_reader(self._lock.connection.sock, self._look)
        self._look()

    def _look(self) -> None:
        assert self._lock is not None
        try:
            coming = self._lock.is_coming()
        except Exception as error:
            log.warning("logind is out of reach, a shutdown will not wait for the machine: %s", error)
            self.close()
            return
        if coming:
            log.info("this computer is being shut down")
            self._coming()


class _Lock:
    """A lock of logind's, of the kind that delays. Made and closed by any thread. Raises what the library raises."""

    def __init__(self) -> None:
        # Loaded by agents whose machine runs already, where there may be a bus.
        from jeepney import DBusAddress, MatchRule, message_bus, new_method_call
        from jeepney.io.blocking import Proxy, open_dbus_connection
        from jeepney.wrappers import unwrap_msg

        self.connection = open_dbus_connection("SYSTEM", enable_fds=True)
        try:
            bus = Proxy(message_bus, self.connection, timeout=ANSWER_S)
            # Other users are on this bus, too: only logind is believed.
            (logind,) = bus.GetNameOwner(_NAME)
            rule = MatchRule(type="signal", sender=logind, interface=_MANAGER, member="PrepareForShutdown", path=_PATH)
            self._told: deque[Any] = deque()
            self.connection.filter(rule, queue=self._told)
            bus.AddMatch(rule)
            words = ("shutdown", "Cove", "Containers are being stopped", "delay")
            question = new_method_call(DBusAddress(_PATH, _NAME, _MANAGER), "Inhibit", "ssss", words)
            (lock,) = unwrap_msg(self.connection.send_and_get_reply(question, timeout=ANSWER_S))
            self._descriptor = lock.to_raw_fd()
            os.set_inheritable(self._descriptor, False)
        except BaseException:
            self.connection.close()
            raise

    def is_coming(self) -> bool:
        """Take what has been said, without waiting."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.connection.recv_messages(timeout=0)
        said = [message.body[0] for message in self._told]
        self._told.clear()
        return True in said

    def close(self) -> None:
        self.connection.close()
        os.close(self._descriptor)
