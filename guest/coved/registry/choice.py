"""Which manifest of an index is for a platform (containerd's ``platforms.Only``)."""

from __future__ import annotations

from collections.abc import Sequence

from coved.images import platforms
from coved.images.documents import Descriptor, Index, Platform
from coved.registry.errors import RegistryError

_FIRST = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


def wanted(text: str) -> Platform:
    """The platform that was asked for, with this machine's where it is open. Raises ``InvalidParameter``."""
    system, machine, variant = platforms.parse(text) if text else ("", "", "")
    return Platform(system or "linux", machine or platforms.architecture(), variant)


def choose(index: Index, platform: Platform) -> Sequence[Descriptor]:
    """The manifests that run there, best first. Raises RegistryError when there is none."""
    order = _runnable(platform)
    found = [(_rank(one.platform, order), one) for one in index.manifests]
    fitting = sorted((pair for pair in found if pair[0] is not None), key=lambda pair: pair[0] or 0)
    if not fitting:
        raise no_match(platform)
    return [one for _, one in fitting]


def no_match(platform: Platform) -> RegistryError:
    return RegistryError(f"no matching manifest for {platform} in the manifest list entries", again=False)


def _rank(platform: Platform | None, order: list[Platform]) -> int | None:
    if platform is None or not (platform.os or platform.architecture):
        return len(order)
    normal = _normal(platform)
    return order.index(normal) if normal in order else None


def _normal(platform: Platform) -> Platform:
    variant = platform.variant or _FIRST.get(platform.architecture, "")
    return Platform(platform.os.lower(), platform.architecture.lower(), variant)


def _runnable(platform: Platform) -> list[Platform]:
    """What its processors run, their own first: older variants, and for some the 32-bit sort."""
    own = _normal(platform)
    order = [own]
    if own.variant[1:].isdigit():
        oldest = 5 if own.architecture == "arm" else 8 if own.architecture == "arm64" else 1
        order += [Platform(own.os, own.architecture, f"v{n}") for n in range(int(own.variant[1:]) - 1, oldest - 1, -1)]
    if own.architecture == "amd64":
        order.append(Platform(own.os, "386"))
    elif own.architecture == "arm64":
        order += [Platform(own.os, "arm", f"v{n}") for n in (8, 7, 6, 5)]
    return order
