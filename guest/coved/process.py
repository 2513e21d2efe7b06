"""The engine as a process, and its supervisor: from a configuration to an exit status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

# Whatever every start needs is imported here: the supervisor has it when it forks an engine, and a start that is held until the
# system is ready has it by then.
from coved.api.routes import create_router
from coved.api.server import Server
from coved.engine import Config, Engine
from coved.errors import UNFIT
from coved.names.keeping import Keeper
from coved.store.claim import claim
from coved.store.database import SchemaTooNew
from coved.supervisor import Door, on_console, orders, supervise

if TYPE_CHECKING:
    from coved.link.services import HostService

# Containers have so long to end, by their stop signal or else by SIGKILL; those that do not end are left to the kernel.
STOP_SECONDS = 15.0
DESCRIPTORS = 1 << 18


def run(config: Config, *, debug: bool = False, wait: Callable[[], None] | None = None) -> int:
    """Keeps an engine running until SIGTERM, SIGINT or SIGHUP; the exit status is 0, or 1 with one line that says why.

    ``wait`` is called first and returns when the system is ready for an engine.
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        if wait is not None:
            wait()
        claim(config.root)  # as long as this process, or its engine, lives
        door = Door(config.socket)
        agent = Door(config.ssh_agent[0]) if config.ssh_agent is not None else None
        if agent is not None:
            agent.let_all_in()
        keeper = Keeper()
        _allow_descriptors()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _failed(error)
    try:
        say = on_console if config.link is not None and not config.beside else lambda text: None
        return supervise(lambda: _engine(config, door.listener, keeper, agent), door.renew, say)
    except OSError as error:
        return _failed(error)
    finally:
        door.remove()
        if agent is not None:
            agent.remove()


def _allow_descriptors() -> None:
    """As many as the system lets it have: each container has some, and shells and service managers begin with 1024 in all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    tries = (hard,) if hard == resource.RLIM_INFINITY else (max(hard, DESCRIPTORS), hard)
    for most in tries:  # more than the system gives, where this process may
        wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, DESCRIPTORS)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
            return


def _failed(error: Exception) -> int:
    logging.getLogger(__name__).debug("start failed", exc_info=True)
    print(f"coved: {error}", file=sys.stderr)
    return 1


def _engine(config: Config, listener: socket.socket, keeper: Keeper, agent: Door | None) -> int:
    """In the forked process: nothing of an event loop, a thread or a database may be older than it."""
    try:
        asyncio.run(_serve(config, listener, keeper, agent))
    except KeyboardInterrupt:
        return 130
    except SchemaTooNew as error:
        _failed(error)
        return UNFIT
    except Exception as error:
        return _failed(error)
    return 0


def _ssh_agent(config: Config, agent: Door | None) -> HostService | None:
    if agent is None or config.ssh_agent is None:
        return None
    from coved.link.services import HostService  # only in the VM

    return HostService(agent.listener, config.ssh_agent[1])


async def _serve(config: Config, listener: socket.socket, keeper: Keeper, agent: Door | None) -> None:
    engine = Engine(config, keeper)
    server = Server(engine, create_router(), listener)
    service = _ssh_agent(config, agent)
    loop = asyncio.get_running_loop()
    for number in orders():
        loop.add_signal_handler(number, engine.request_stop)
    try:
        await engine.start(answer=server.start)
        if service is not None:
            service.start()
        logging.getLogger("coved").info("answering on %s", config.socket)
        await engine.stopping.wait()
        await engine.stop_containers(STOP_SECONDS)
    finally:
        if service is not None:
            await service.close()
        await server.stop()
        await engine.close()
