"""``python3 -m coved``: the engine on a Linux host, without the VM."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coved import __version__

if TYPE_CHECKING:
    from coved.outside import Outside


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
        outside=options.outside,
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
    for kind, meaning in (("http", "http addresses"), ("https", "https addresses"), ("no", "none of the two")):
        parser.add_argument(
            f"--{kind}-proxy", default="", metavar="URL" if kind != "no" else "HOSTS",
            help=f"for {meaning}, instead of what {kind.upper()}_PROXY says",
        )  # fmt: skip
    parser.add_argument(
        "--ca-certificates", type=Path, metavar="FILE", help="PEM of authorities that are trusted beside the system's"
    )
    parser.add_argument("--proxies-in-containers", action="store_true", help="containers and builds have them, too")
    parser.add_argument("--ca-certificates-in-containers", action="store_true", help="containers and builds, too")
    parser.add_argument("--debug", action="store_true", help="log every request")
    parser.add_argument("--version", action="version", version=f"coved {__version__}")
    options = parser.parse_args(arguments)
    options.root = options.root.absolute()
    options.socket = options.socket.absolute()
    options.state = (options.state or options.root / "run").absolute()
    options.outside = _outside(options, parser)
    # Imported here and not above: not for --help.
    from coved.errors import EngineError
    from coved.registry.settings import Settings

    folders = [options.root / "certs.d", Path("/etc/docker/certs.d")]
    try:
        options.registries = Settings.checked(options.insecure_registry, options.registry_mirror, folders)
    except EngineError as error:
        parser.error(str(error))
    return options


def _outside(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Outside:
    import os

    from coved.outside import Outside, proxy_problem

    environment = Outside.of_environment(os.environ)
    authorities = ""
    if options.ca_certificates is not None:
        import ssl

        try:
            authorities = options.ca_certificates.read_text("ascii")
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authorities)
        except (OSError, ValueError) as error:  # of which ssl.SSLError is one
            parser.error(f"{options.ca_certificates} has no certificates that can be read: {error}")
    for option in ("http_proxy", "https_proxy"):
        proxy = getattr(options, option)
        if proxy and (problem := proxy_problem(proxy)):
            parser.error(f"--{option.replace('_', '-')}: {problem}")
    return Outside(
        options.http_proxy or environment.http,
        options.https_proxy or environment.https,
        options.no_proxy or environment.no_proxy,
        authorities,
        options.proxies_in_containers,
        options.ca_certificates_in_containers,
    )


if __name__ == "__main__":
    sys.exit(main())
