"""Content trust, which Cove does not have: an image that nobody has checked must not pass for a trusted one."""

from __future__ import annotations

import os

from cove.cli.errors import CliError
from cove.cli.flags import FALSE, Values


def check_trust(values: Values) -> None:
    """Raise `CliError` when signatures are asked for, by --disable-content-trust=false or DOCKER_CONTENT_TRUST."""
    if values.changed("disable-content-trust"):
        asked = "" if values["disable-content-trust"] else "--disable-content-trust=false"
    else:
        asked = "" if os.environ.get("DOCKER_CONTENT_TRUST", "") in ("", *FALSE) else "DOCKER_CONTENT_TRUST"
    if asked:
        raise CliError(f"Cove has no content trust (Notary), and {asked} asks for it")
