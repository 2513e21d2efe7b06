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
"""The variant of an image that names none."""
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


def fits(image: Image, wanted: Platform) -> bool:
    """Whether an image is for a platform: of the same architecture, and of a variant that its processors run."""
    return _matches(_parts(wanted), _parts(image.platform))


def mismatch(reference: str, wanted: Platform, image: Image) -> NotFound:
    """What dockerd says when there is an image, and for others."""
    return NotFound(
        f"image with reference {reference} was found but does not match the specified platform: "
        f"wanted {wanted}, actual: {image.platform}"
    )


def _parts(platform: Platform) -> tuple[str, str, str]:
    return platform.os, platform.architecture, platform.variant


def _matches(wanted: tuple[str, ...], actual: tuple[str, ...]) -> bool:
    return all(not one or one == other for one, other in zip(wanted[:2], actual, strict=False)) and _runs(
        wanted, actual
    )


def _runs(wanted: tuple[str, ...], actual: tuple[str, ...]) -> bool:
    """Whether a processor of the variant that is wanted runs what was made for the actual one: older ones as well."""
    if not wanted[2] or wanted[2] == actual[2]:
        return True
    asked, made = (_VARIANT.fullmatch(one or _FIRST.get(actual[1], "")) for one in (wanted[2], actual[2]))
    return asked is not None and made is not None and int(asked[1]) >= int(made[1])
