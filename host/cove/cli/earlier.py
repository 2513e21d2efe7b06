"""`IMAGE~N`: an image as it was N steps of its history ago, as git names commits; Cove's own, beside docker's references."""

from __future__ import annotations

import re

from cove.cli.client import EngineClient, quote
from cove.cli.errors import CliError
from cove.cli.jsonmessage import show

MISSING = "<missing>"
"""Stands in a history for the id of an image that is not here."""
# No reference has a tilde (github.com/distribution/reference), so that nothing of docker's is taken.
_EARLIER = re.compile(r"(?P<image>[^~]+)~(?P<steps>[0-9]{0,6})")


def earlier(engine: EngineClient, image: str) -> str:
    """The id of the image that `IMAGE~N` means: the one that row N of its history names, else one that the engine makes;
    any other text as it is.

    `~` alone is one step, `~0` the image itself. Raises `CliError`, `DaemonError`.
    """
    match = _EARLIER.fullmatch(image)
    if match is None:
        return image
    steps, name = int(match["steps"] or 1), match["image"]
    if not steps:
        return name
    rows = engine.json("GET", f"/images/{quote(name)}/history")
    if steps < len(rows) and rows[steps]["Id"] != MISSING:
        return str(rows[steps]["Id"])
    response = engine.request("POST", "/images/create", {"fromSrc": f"back:{steps}:{name}"})
    messages = [*response.json_lines()]
    show(messages, None)
    return str(messages[-1]["status"])


def refuse(image: str, verb: str, instead: str) -> None:
    """Raise `CliError` for an `IMAGE~N` where `verb` needs a name; `instead` says what to do, with `{image}` and
    `{name}` in it.
    """
    if (match := _EARLIER.fullmatch(image)) is not None:
        name = match["image"]
        raise CliError(
            f"cove: {image} is a step in the history of {name}, which has no name that {verb} could take\n"
            f"      {instead.format(image=image, name=name)}"
        )
