"""Platforms as clients ask for them: ``os[/architecture[/variant]]`` (the grammar of containerd's ``platforms``)."""

from __future__ import annotations

import os
import re

from coved.errors import InvalidParameter, NotFound
from coved.images.documents import Platform
from coved.images.model import Image

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i486": "386", "i586": "386", "i686": "386",
    "armhf": "arm", "armel": "arm",
}  # fmt: skip
_VARIANT = re.compile(r"v([0-9]{1,2})")
_FIRST = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
"""The variant of what names none."""
_OLDEST = {"arm": 5, "arm64": 8}
_KNOWN = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
     "s390x", "wasm"}
)  # fmt: skip
_SYSTEMS = frozenset({"darwin", "freebsd", "linux", "netbsd", "openbsd", "solaris", "wasip1", "windows"})


def parse(text: str) -> tuple[str, str, str]:
    """System, architecture and variant, each "" when it is open. Raises ``InvalidParameter`` in containerd's words."""
    parts = text.lower().split("/")
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            raise InvalidParameter(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                '"^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) == 1:
        only = _ARCHITECTURES.get(parts[0], parts[0])
        if only in _SYSTEMS:
            return only, "", ""
        if only in _KNOWN:
            return "linux", only, ""
        raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
    architecture, variant = _ARCHITECTURES.get(parts[1], parts[1]), parts[2] if len(parts) == 3 else ""
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return parts[0], architecture, variant


_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def asked(text: str) -> Platform:
    """The same as ``parse`` gives, as one thing."""
    return Platform(*parse(text))


def architecture() -> str:
    """This machine's, by Go's name for it."""
    machine = os.uname().machine
    return _MACHINES.get(machine, machine)


def foreignness(image: Image) -> int:
    """0 for an image that is for this machine."""
    return int(image.platform.architecture not in ("", architecture()))


def rank(actual: Platform, wanted: Platform) -> int | None:
    """How far what is for a platform is from the one that is wanted: 0 is for the very one, None for what does not run there.

    Processors run what was made for older ones of their kind, and some their 32-bit sort (containerd's ``platforms.Only``).
    What ``wanted`` leaves open may be anything.
    """
    own, made = normal(wanted), normal(actual)
    if own.os not in ("", made.os):
        return None
    if not own.architecture:
        return 0
    runnable = _runnable(own)
    if (made.architecture, made.variant) in runnable:
        return runnable.index((made.architecture, made.variant))
    return len(runnable) if not wanted.variant and made.architecture == own.architecture else None


def mismatch(reference: str, wanted: Platform, image: Image) -> NotFound:
    """What dockerd says when there is an image, and for others."""
    return NotFound(
        f"image with reference {reference} was found but does not match the specified platform: "
        f"wanted {wanted}, actual: {image.platform}"
    )


def normal(platform: Platform) -> Platform:
    """With the variant that is meant where none is named."""
    architecture = platform.architecture.lower()
    return Platform(platform.os.lower(), architecture, platform.variant or _FIRST.get(architecture, ""))


def _runnable(own: Platform) -> list[tuple[str, str]]:
    """Architectures and variants that a processor runs, its own first."""
    order = [(own.architecture, own.variant)]
    if number := _VARIANT.fullmatch(own.variant):
        oldest = _OLDEST.get(own.architecture, 1)
        order += [(own.architecture, f"v{n}") for n in range(int(number[1]) - 1, oldest - 1, -1)]
    if own.architecture == "amd64":
        order.append(("386", ""))
    elif own.architecture == "arm64":
        order += [("arm", f"v{n}") for n in (8, 7, 6, 5)]
    return order
