"""Build arguments that every build has (docs.docker.com/reference/dockerfile, "Automatic platform ARGs in the global
scope")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_COMPONENT = re.compile("[A-Za-z0-9_.-]+")
_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd illumos linux netbsd openbsd plan9 solaris wasip1 windows".split()
)
_ARCHITECTURES = frozenset(
    "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm".split()
)
_ALIASES = {
    "i386": "386",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
}

WITHOUT_ENVIRONMENT = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
"""Arguments that are for the builder: an ARG of that name sets no variable."""


class Platform(NamedTuple):
    system: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, self))


def platform(text: str) -> Platform | None:
    """``linux/arm64/v8``, or its system or its architecture alone; None for what is no platform."""
    parts = text.split("/")
    if len(parts) > 3 or not all(map(_COMPONENT.fullmatch, parts)):
        return None
    lower = parts[0].lower()
    architecture = _ALIASES.get(lower, lower)
    if len(parts) == 1:
        if lower in _SYSTEMS:
            return Platform(lower, "")
        return Platform("linux", architecture) if architecture in _ARCHITECTURES else None
    second = parts[1].lower()
    return Platform(lower, _ALIASES.get(second, second), *parts[2:])


def arguments(build: str, target: str, stage: str, overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """The values for a build on the platform ``build`` for the platform ``target``; ``stage`` is the one to be built.

    ``overrides`` are the build arguments given; those of these names go before.
    """
    on, for_ = platform(build) or Platform("", ""), platform(target) or Platform("", "")
    found = {
        "BUILDPLATFORM": str(on),
        "BUILDOS": on.system,
        "BUILDOSVERSION": "",
        "BUILDARCH": on.architecture,
        "BUILDVARIANT": on.variant,
        "TARGETPLATFORM": str(for_),
        "TARGETOS": for_.system,
        "TARGETOSVERSION": "",
        "TARGETARCH": for_.architecture,
        "TARGETVARIANT": for_.variant,
        "TARGETSTAGE": stage or "default",
    }
    return {name: (overrides or {}).get(name, value) for name, value in found.items()}
