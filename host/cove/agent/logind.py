"""A Linux computer's shutdown waits for the machine, as long as logind lets it (docs/decisions/0063)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from cove.agent import shutdown
from cove.agent.threads import abandonable

log = logging.getLogger(__name__)

ANSWER_S = 10.0
AT_ONCE = 32
"""Messages in a row. Other users may send more and more."""
_NAME, _PATH, _MANAGER = "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"


class Shutdown(shutdown.Shutdown):
    """From a moment after `await_it` on, and where logind is."""

    def __init__(self, coming: Callable[[], None]) -> None:
        self._coming = coming
        self._wanted = False
        self._asking: asyncio.Task[None] | None = None
        self._lock: _Lock | None = None

    def await_it(self) -> None:
        self._wanted = True
        if self._lock is None:
            self._ask_soon()

    def close(self) -> None:
        self._wanted = False  # what is asked for this moment is let go of when it is there
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            lock, self._lock = self._lock, None
            asyncio.get_running_loop().remove_reader(lock.number)
            lock.close()

    def _ask_soon(self) -> None:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        try:
            lock = await abandonable(_Lock)
        except Exception as error:  # of the system, the bus or logind: whatever it is, the machine runs
            self._let_go()
            log.info("a shutdown of this computer will not wait for the machine: %s", str(error) or repr(error))
            return
        finally:
            self._asking = None
        self._let_go()
        if not self._wanted:
            lock.close()
            return
        self._lock = lock
        asyncio.get_running_loop().add_reader(lock.number, self._look, lock)
        self._look(lock)

    def _look(self, lock: _Lock) -> None:
        if lock is not self._lock:
            return
        try:
            more = lock.hear()
        except Exception as error:
            log.warning("logind is out of reach, a shutdown will not wait for the machine: %s", error)
            self._let_go()
            return
        if more:
            asyncio.get_running_loop().call_soon(self._look, lock)
        if lock.is_coming():
            log.info("this computer is being shut down")
            self._coming()
        if lock.is_anothers():
            log.info("logind has begun again, and is asked again")
            self._ask_soon()


class _Lock:
    """A lock of logind's, of the kind that delays. Made and closed by any thread. Raises what the library raises."""

    def __init__(self) -> None:
        # Loaded by agents whose machine runs already, where there may be a bus.
        from jeepney import DBusAddress, MatchRule, message_bus, new_method_call
        from jeepney.io.blocking import Proxy, open_dbus_connection
        from jeepney.wrappers import unwrap_msg

        self._connection = open_dbus_connection("SYSTEM", enable_fds=True)
        self.number = self._connection.sock.fileno()
        """Of the descriptor that tells when there is something to hear; the library may have closed it since."""
        try:
            bus = Proxy(message_bus, self._connection, timeout=ANSWER_S)
            self._owners: deque[Any] = deque()
            owners = MatchRule(
                type="signal", sender=message_bus.bus_name, interface=message_bus.interface, member="NameOwnerChanged",
                path=message_bus.object_path,
            )  # fmt: skip
            owners.add_arg_condition(0, _NAME)
            self._connection.filter(owners, queue=self._owners)
            bus.AddMatch(owners)  # first, for another may have the name in a moment
            # Other users are on this bus, too: only logind is believed.
            (self._logind,) = bus.GetNameOwner(_NAME)
            rule = MatchRule(
                type="signal", sender=self._logind, interface=_MANAGER, member="PrepareForShutdown", path=_PATH
            )
            self._told: deque[Any] = deque()
            self._connection.filter(rule, queue=self._told)
            bus.AddMatch(rule)
            words = ("shutdown", "Cove", "Containers are being stopped", "delay")
            question = new_method_call(DBusAddress(_PATH, _NAME, _MANAGER), "Inhibit", "ssss", words)
            (lock,) = unwrap_msg(self._connection.send_and_get_reply(question, timeout=ANSWER_S))
            self._descriptor = lock.to_raw_fd()
            os.set_inheritable(self._descriptor, False)
        except BaseException:
            self._connection.close()
            raise

    def hear(self) -> bool:
        """Take what has been said, without waiting. Whether there may be more."""
        for _ in range(AT_ONCE):
            try:
                self._connection.recv_messages(timeout=0)
            except TimeoutError:
                return False
        return True

    def is_coming(self) -> bool:
        """As logind has said in what was heard."""
        said = [message.body[0] for message in self._told]
        self._told.clear()
        return True in said

    def is_anothers(self) -> bool:
        """Whether logind was followed by another process, which keeps the lock and whose words are not believed yet."""
        owners = [message.body[2] for message in self._owners]
        self._owners.clear()
        return any(owner not in ("", self._logind) for owner in owners)

    def close(self) -> None:
        self._connection.close()
        os.close(self._descriptor)
