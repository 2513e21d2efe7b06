"""The engine as a process: from its configuration to its exit status."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable

# Whatever every start needs is imported here, so that a start that is held until the system is ready has it by then.
from coved.api import routes, server  # noqa: F401
from coved.engine import Config, Engine

# Containers have so long to end, by their stop signal or else by SIGKILL; those that do not end are left to the kernel.
STOP_SECONDS = 15.0


def run(config: Config, *, debug: bool = False, wait: Callable[[], None] | None = None) -> int:
    """Runs the engine until SIGTERM or SIGINT; the exit status is 0, or 1 with one line that says why.

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
        asyncio.run(_serve(config))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        logging.getLogger(__name__).debug("start failed", exc_info=True)
        print(f"coved: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(config: Config) -> None:
    engine = Engine(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.request_stop)
    try:
        await engine.start()
        logging.getLogger("coved").info("answering on %s", config.socket)
        await engine.stopping.wait()
    except BaseException:
        await engine.close()
        raise
    await engine.stop(STOP_SECONDS)
