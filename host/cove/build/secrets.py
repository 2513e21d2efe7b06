"""Secrets of the user's for `RUN --mount=type=secret` (moby.buildkit.secrets.v1): read when the build asks, kept nowhere."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

LIMIT = 500 * 1024
"""Bytes; BuildKit's own limit."""


@dataclass(frozen=True)
class Secret:
    """Where one is: in the variable `env`, or in the file at `path`."""

    id: str
    path: str = ""
    env: str = ""


def located(secret: Secret) -> Secret:
    """`secret`, whose place is certain. Raises `ValueError` for one that is nowhere, in the words of BuildKit's clients."""
    if not secret.id:
        raise ValueError("secret missing ID")
    if secret.env:
        return secret
    if not secret.path and secret.id in os.environ:
        return Secret(secret.id, env=secret.id)
    found = Secret(secret.id, path=secret.path or secret.id)
    try:
        size = Path(found.path).stat().st_size
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"failed to stat {found.path}: stat {found.path}: {reason}") from None
    if size > LIMIT:
        raise ValueError(f"secret {found.id} too big. max size 500KB")
    return found


def read(secret: Secret) -> bytes:
    """What is secret. Raises `OSError`, `ValueError`."""
    if secret.env:
        if sys.platform == "win32":
            return os.environ.get(secret.env, "").encode()
        return os.environb.get(os.fsencode(secret.env), b"")
    with Path(secret.path).open("rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise ValueError(f"secret {secret.id} too big. max size 500KB")
    return data
