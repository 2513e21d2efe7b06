"""``python3 -m coved``: the engine on a Linux host, without the VM."""

import argparse
import sys
from pathlib import Path

from coved import __version__


def main(arguments: list[str] | None = None) -> int:
    """Runs the engine until SIGTERM, SIGINT or SIGHUP; its exit status."""
    options = _parse(arguments)

    from coved.engine import Config  # not for --help and wrong options
    from coved.process import run

    config = Config(
        options.root,
        options.state,
        options.socket,
        None,
        __version__,
        userns_remap=options.userns_remap,
        registries=options.registries,
    )
    return run(config, debug=options.debug)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="coved", description="Cove's container engine: the Docker Engine API on a unix socket."
    )
    parser.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="images, volumes, containers and metadata"
    )
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH", help="unix socket to answer on")
    parser.add_argument("--state", type=Path, metavar="DIR", help="sockets and namespaces of this boot (ROOT/run)")
    parser.add_argument(
        "--userns-remap", default="", metavar="WHO", help="containers' root is nobody outside: default, or user[:group]"
    )
    parser.add_argument(
        "--insecure-registry", action="append", default=[], metavar="HOST",
        help="a registry, or a network of them, that may speak plain HTTP or have any certificate",
    )  # fmt: skip
    parser.add_argument(
        "--registry-mirror", action="append", default=[], metavar="URL", help="asked first for images of docker.io"
    )
    parser.add_argument("--debug", action="store_true", help="log every request")
    parser.add_argument("--version", action="version", version=f"coved {__version__}")
    options = parser.parse_args(arguments)
    options.root = options.root.absolute()
    options.socket = options.socket.absolute()
    options.state = (options.state or options.root / "run").absolute()
    # Imported here and not above: not for --help.
    from coved.errors import EngineError
    from coved.registry.settings import Settings

    folders = [options.root / "certs.d", Path("/etc/docker/certs.d")]
    try:
        options.registries = Settings.checked(options.insecure_registry, options.registry_mirror, folders)
    except EngineError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
