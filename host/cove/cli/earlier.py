"""`IMAGE~N`: an image as it was N steps of its history ago, as git names commits; Cove's own, beside docker's references."""

from __future__ import annotations

import re

from cove.cli.client import EngineClient
from cove.cli.jsonmessage import show

# No reference has a tilde (github.com/distribution/reference), so that nothing of docker's is taken.
_EARLIER = re.compile(r"(?P<image>[^~]+)~(?P<steps>[0-9]{0,6})")


def earlier(engine: EngineClient, image: str) -> str:
    """The id of the image that `IMAGE~N` means, which the engine makes when it is not there; any other text as it is.

    `~` alone is one step, `~0` the image itself. Raises `CliError`, `DaemonError`.
    """
    match = _EARLIER.fullmatch(image)
    if match is None:
        return image
    steps = int(match["steps"] or 1)
    if not steps:
        return match["image"]
    response = engine.request("POST", "/images/create", {"fromSrc": f"back:{steps}:{match['image']}"})
    messages = [*response.json_lines()]
    show(messages, None)
    return str(messages[-1]["status"])
