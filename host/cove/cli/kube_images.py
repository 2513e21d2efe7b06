"""Images of an application go to a registry, from which its cluster has them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cove.cli import jsonmessage
from cove.cli.client import Response, quote
from cove.cli.command import Context
from cove.cli.docker_config import Credentials
from cove.cli.errors import CliError, DaemonError
from cove.cli.hints import hinted
from cove.cli.reference import Reference, parse_reference
from cove.plain import printable

if TYPE_CHECKING:
    from cove.kube.generate.model import Workload

NOT_FOUND = 404


def pushed(context: Context, workloads: Sequence[Workload], registry: str) -> dict[str, str]:
    """Image -> what it is in the registry, by its digest. What the engine does not have is left to the cluster. Raises `CliError`."""
    if not registry:
        if built := sorted({one.image for one in workloads if one.built}):
            raise CliError(
                f"cove: the cluster cannot have {', '.join(map(printable, built))}: made here, and in no registry\n"
                "      --registry HOST/PREFIX names one that the cluster can pull from"
            )
        return {}
    parse_reference(f"{registry.rstrip('/')}/name")  # a wrong one is told before anything is pushed
    found: dict[str, str] = {}
    for one in sorted(workloads, key=lambda workload: workload.image):
        if one.image in found:
            continue
        if _exists(context, one.image):
            found[one.image] = _push(context, one.image, target(one.image, registry))
        elif one.built:
            raise CliError(f"cove: there is no image {printable(one.image)}\n      build it: cove compose build")
        else:
            print(f"image {printable(one.image)} is not here: the cluster pulls it where it is", file=sys.stderr)
    return found


def target(image: str, registry: str) -> Reference:
    """Where `image` is put below `registry`."""
    own = parse_reference(image)
    path = own.path.removeprefix("library/")
    tag = own.tag or (own.digest.replace(":", "-")[:19] if own.digest else "latest")
    return parse_reference(f"{registry.rstrip('/')}/{path}:{tag}")


def _exists(context: Context, image: str) -> bool:
    try:
        context.engine.json("GET", f"/images/{quote(image)}/json")
    except DaemonError as error:
        if error.code == NOT_FOUND:
            return False
        raise
    return True


def _push(context: Context, image: str, place: Reference) -> str:
    from cove.cli.login import retried

    path = "/images/" + "/".join(quote(part) for part in place.name.split("/")) + "/push"

    def send(known: Credentials) -> Response:
        return context.engine.request("POST", path, {"tag": place.tag}, headers=[("X-Registry-Auth", known.header())])

    digests: list[str] = []
    ours = not _exists(context, str(place))
    context.engine.request("POST", f"/images/{quote(image)}/tag", {"repo": place.name, "tag": place.tag}).read()
    try:
        print(f"pushing {image} as {place}", file=sys.stderr, flush=True)
        with hinted(place, context.engine):
            messages = retried(place.domain, "push", send).json_lines()
            jsonmessage.show(messages, sys.stderr, lambda aux: digests.extend(_digest(aux)))
    finally:
        if ours:
            # The name was for the push alone; the image keeps its own.
            context.engine.request("DELETE", f"/images/{quote(str(place))}", {"noprune": True}).read()
    if not digests:
        raise CliError(f"the engine has not said which digest {place} has in its registry")
    return f"{place.name}@{digests[-1]}"


def _digest(aux: Any) -> list[str]:
    digest = aux.get("Digest") if isinstance(aux, dict) else None
    return [digest] if isinstance(digest, str) else []
