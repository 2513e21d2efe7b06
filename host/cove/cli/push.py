"""`push`: an image to a registry."""

from __future__ import annotations

import sys
from typing import Any

from cove.cli import jsonmessage
from cove.cli.client import Response, quote
from cove.cli.command import Command, Context
from cove.cli.docker_config import Credentials
from cove.cli.errors import CliError
from cove.cli.flags import Values, switch, text
from cove.cli.hints import hinted
from cove.cli.notes import note
from cove.cli.platforms import parse
from cove.cli.reference import parse_reference
from cove.cli.trust import check_trust

ONE_PLATFORM = """\
Using --platform pushes only the specified platform manifest of a multi-platform image index.
Other components, like attestations, will not be included.
To push the complete multi-platform image, remove the --platform flag.
"""
INSTEAD = (
    "Not all multiplatform-content is present and only the available single-platform image was pushed\n"
    "\x1b[31m{}\x1b[0m -> \x1b[32m{}\x1b[0m"
)
_NEXT = "\n\t\t\t\t"
MISSING = (
    f"You're trying to push a manifest list/index which {_NEXT}"
    f"references multiple platform specific manifests, but not all of them are available locally{_NEXT}"
    f"or available to the remote repository.\n{_NEXT}"
    f"Make sure you have all the referenced content and try again.\n{_NEXT}"
    "You can also push only a single platform specific manifest directly by specifying the platform you want to push"
    " with the --platform flag."
)


def push(context: Context, values: Values) -> int:
    """`cove push`"""
    from cove.cli.login import retried

    check_trust(values)
    platform = _platform(values["platform"])
    if "~" in values.args[0]:
        from cove.cli.earlier import refuse

        refuse(values.args[0], "push", "give it one: cove tag {image} NAME, then: cove push NAME")
    reference = parse_reference(values.args[0])
    if values["all-tags"]:
        if not reference.bare:
            raise CliError("tag can't be used with --all-tags/-a")
    elif reference.bare:
        reference = reference.tagged()
        if not values["quiet"]:
            print(f"Using default tag: {reference.tag}", flush=True)
    if reference.digest:
        raise CliError("cannot push a digest reference")
    path = "/images/" + "/".join(quote(part) for part in reference.name.split("/")) + "/push"
    query = {"tag": reference.tag or None, "platform": platform}

    def send(known: Credentials) -> Response:
        return context.engine.request("POST", path, query, headers=[("X-Registry-Auth", known.header())])

    notes: list[str] = []
    try:
        with hinted(reference, context.engine):
            messages = retried(reference.domain, "push", send).json_lines()
            jsonmessage.show(messages, None if values["quiet"] else sys.stdout, lambda aux: notes.extend(_notes(aux)))
        if values["quiet"]:
            print(reference)
    finally:
        for remark in notes:
            note(sys.stdout, remark)
    return 0


def _platform(specifier: str) -> str | None:
    if not specifier:
        return None
    import json

    try:
        platform = parse(specifier)
    except ValueError as error:
        raise CliError(f"Invalid platform {specifier}{error}") from None
    note(sys.stdout, ONE_PLATFORM)
    return json.dumps(platform, separators=(",", ":"))


def _notes(aux: Any) -> list[str]:
    """What the engine tells beside the progress: that it could not push all of an image."""
    if not isinstance(aux, dict):
        return []
    notes = []
    if aux.get("manifestPushedInsteadOfIndex") is True:
        digests = ((aux.get(name) or {}).get("digest", "") for name in ("originalIndex", "selectedManifest"))
        notes.append(INSTEAD.format(*digests))
    if aux.get("contentMissing") is True:
        notes.append(MISSING)
    return notes


COMMANDS = {
    "push": Command(
        push,
        "Upload an image to a registry",
        "NAME[:TAG]",
        (
            switch("all-tags", "a", "Push all tags of an image to the repository"),
            switch("disable-content-trust", "", "Skip image signing", True),
            text(
                "platform",
                "",
                "Push a platform-specific manifest as a single-platform image to the registry.\n"
                "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
                "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
            ),
            switch("quiet", "q", "Suppress verbose output"),
        ),
        least=1,
        most=1,
    )
}
