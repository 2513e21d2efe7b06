"""``python3 -m coved``: the engine as a process."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from coved import __version__

# Containers get their own stop timeout and then SIGKILL; whoever asked this process to end waits no longer than this.
STOP_SECONDS = 15.0


def main(arguments: list[str] | None = None) -> int:
    """Runs the engine until SIGTERM or SIGINT; the exit status is 0, or 1 with one line that says why."""
    options = _parse(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(_run(options))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        logging.getLogger(__name__).debug("start failed", exc_info=True)
        print(f"coved: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="coved", description="Cove's container engine: the Docker Engine API on a unix socket."
    )
    parser.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="images, volumes, containers and metadata"
    )
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH", help="unix socket to answer on")
    parser.add_argument("--state", type=Path, metavar="DIR", help="sockets and namespaces of this boot (ROOT/run)")
    parser.add_argument("--link", type=Path, metavar="DEVICE", help="port to the agent; only in Cove's VM")
    parser.add_argument(
        "--userns-remap", default="", metavar="WHO", help="containers' root is nobody outside: default, or user[:group]"
    )
    parser.add_argument("--debug", action="store_true", help="log every request")
    parser.add_argument("--version", action="version", version=f"coved {__version__}")
    options = parser.parse_args(arguments)
    options.root = options.root.absolute()
    options.socket = options.socket.absolute()
    options.state = (options.state or options.root / "run").absolute()
    return options


async def _run(options: argparse.Namespace) -> None:
    from coved.engine import Config, Engine

    engine = Engine(
        Config(
            options.root, options.state, options.socket, options.link, __version__, userns_remap=options.userns_remap
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.request_stop)
    try:
        await engine.start()
        logging.getLogger("coved").info("answering on %s", options.socket)
        await engine.stopping.wait()
    except BaseException:
        await engine.close()
        raise
    await engine.stop(STOP_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
