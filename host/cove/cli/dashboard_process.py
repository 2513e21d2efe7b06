"""`python -m cove.cli.dashboard_process NAME`: the dashboard's process, with what `cove login` and docker's have stored."""

from __future__ import annotations

import sys

from cove.cli.errors import CliError
from cove.dashboard import process


def login(image: str) -> str:
    """X-Registry-Auth for an image's registry; "" for what is no name of an image: the engine says so."""
    from cove.cli.credentials import find_quietly, registry_key
    from cove.cli.docker_config import DockerConfig
    from cove.cli.reference import parse_reference

    try:
        return find_quietly(DockerConfig.load(), registry_key(parse_reference(image).domain)).header()
    except CliError:
        return ""


if __name__ == "__main__":
    sys.exit(process.run(sys.argv[1], login))
