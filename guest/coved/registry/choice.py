"""Which manifest of an index is for a platform (containerd's ``platforms.Only``)."""

from __future__ import annotations

from collections.abc import Sequence

from coved.images import platforms
from coved.images.documents import Descriptor, Index, Platform
from coved.registry.errors import RegistryError

_UNNAMED = 1000


def wanted(text: str) -> Platform:
    """The platform that was asked for, with this machine's where it is open. Raises ``InvalidParameter``."""
    system, machine, variant = platforms.parse(text) if text else ("", "", "")
    return Platform(system or "linux", machine or platforms.architecture(), variant)


def choose(index: Index, platform: Platform) -> Sequence[Descriptor]:
    """The manifests that run there, best first. Raises RegistryError when there is none."""
    found = [(_rank(one.platform, platform), one) for one in index.manifests]
    fitting = sorted(((rank, one) for rank, one in found if rank is not None), key=lambda pair: pair[0])
    if not fitting:
        raise no_match(platform)
    return [one for _, one in fitting]


def no_match(platform: Platform) -> RegistryError:
    return RegistryError(f"no matching manifest for {platform} in the manifest list entries", again=False)


def _rank(actual: Platform | None, wanted: Platform) -> int | None:
    """What names no platform comes last. Of a machine that says no variant only the first is sure to be there."""
    if actual is None or not (actual.os or actual.architecture):
        return _UNNAMED
    return platforms.rank(actual, platforms.normal(wanted))
