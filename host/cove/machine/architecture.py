"""The processors that machines can have, and what they are called where."""

from __future__ import annotations

import platform
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """One of them."""

    name: str
    """Debian's and OCI's: "amd64"."""
    multiarch: str
    """Of its libraries' folder (Debian Policy, 9.1.1): "x86_64-linux-gnu"."""


AMD64 = Architecture("amd64", "x86_64-linux-gnu")
ARM64 = Architecture("arm64", "aarch64-linux-gnu")
_MACHINES = {"x86_64": AMD64, "amd64": AMD64, "aarch64": ARM64, "arm64": ARM64}

ARCHITECTURES = ("auto", AMD64.name, ARM64.name)
"""As settings and options name them."""


def here() -> Architecture:
    """This computer's, which hypervisors need not emulate; amd64 where there is no image of its kind."""
    return _MACHINES.get(platform.machine().lower(), AMD64)


def named(name: str) -> Architecture:
    """ "auto" is this computer's. Raises `KeyError`."""
    return here() if name == "auto" else _MACHINES[name]
