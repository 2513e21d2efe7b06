"""The configuration of an image that is made of a container (``docker commit``)."""

from __future__ import annotations

from typing import Any

from coved.containers.config import inherit
from coved.containers.config_schema import CONFIG, Json, read
from coved.containers.container import Container
from coved.images.changes import apply

# What belongs to one container, and to no image of it.
_CONTAINERS_OWN = (
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
    "NetworkDisabled", "MacAddress", "StopTimeout",
)  # fmt: skip


def image_config(container: Container, given: Json | None, instructions: list[str]) -> dict[str, Any]:
    """The container's configuration, or ``given`` filled in from it, with Dockerfile instructions applied.

    Raises InvalidParameter.
    """
    own: Json = {key: value for key, value in container.config.items() if key not in _CONTAINERS_OWN}
    wanted: dict[str, Any] = {key: value for key, value in (given or own).items() if value}
    named = {line.split(maxsplit=1)[0].upper() for text in instructions for line in text.splitlines() if line.strip()}
    if "ENTRYPOINT" in named and "CMD" not in named:
        wanted.pop("Cmd", None)  # it was the other entrypoint's
    apply(wanted, instructions)
    config = read(CONFIG, wanted, "Config")
    inherit(config, own)
    return {key: value for key, value in config.items() if value and key not in _CONTAINERS_OWN}
