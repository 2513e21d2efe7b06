"""`pull`: an image from a registry, also on behalf of `run` and `create`."""

from __future__ import annotations

import sys
from typing import IO

from cove.cli import jsonmessage
from cove.cli.client import EngineClient, Response
from cove.cli.command import Command, Context
from cove.cli.docker_config import Credentials
from cove.cli.errors import CliError
from cove.cli.flags import Values, platform_flag, switch
from cove.cli.hints import hinted
from cove.cli.reference import Reference, parse_reference
from cove.cli.trust import check_trust


def _request(engine: EngineClient, reference: Reference, platform: str, known: Credentials) -> Response:
    query = {
        "fromImage": reference.name,
        "tag": reference.label or None,
        "platform": platform.lower() or None,
    }
    return engine.request("POST", "/images/create", query, headers=[("X-Registry-Auth", known.header())])


def pull_image(engine: EngineClient, image: str, platform: str, *, quiet: bool, out: IO[str]) -> None:
    """Pull `image` for `run` and `create`, telling the progress on `out`. Raises `DaemonError`, `CliError`."""
    from cove.cli.credentials import find, registry_key
    from cove.cli.docker_config import DockerConfig

    reference = parse_reference(image).tagged()
    known = find(DockerConfig.load(), registry_key(reference.domain))
    with hinted(reference, engine):
        response = _request(engine, reference, platform, known)
        jsonmessage.show(response.json_lines(), None if quiet else out)


def pull(context: Context, values: Values) -> int:
    """`cove pull`"""
    from cove.cli.login import retried

    check_trust(values)
    reference, quiet = parse_reference(values.args[0]), values["quiet"]
    if values["all-tags"]:
        if not reference.bare:
            raise CliError("tag can't be used with --all-tags/-a")
    elif reference.bare:
        reference = reference.tagged()
        if not quiet:
            print(f"Using default tag: {reference.tag}", flush=True)

    def send(known: Credentials) -> Response:
        return _request(context.engine, reference, values["platform"], known)

    with hinted(reference, context.engine):
        response = retried(reference.domain, "pull", send)
        jsonmessage.show(response.json_lines(), None if quiet else sys.stdout)
    print(reference)
    return 0


COMMANDS = {
    "pull": Command(
        pull,
        "Download an image from a registry",
        "NAME[:TAG|@DIGEST]",
        (
            switch("all-tags", "a", "Download all tagged images in the repository"),
            switch("disable-content-trust", "", "Skip image verification", True),
            platform_flag(),
            switch("quiet", "q", "Suppress verbose output"),
        ),
        least=1,
        most=1,
    )
}
