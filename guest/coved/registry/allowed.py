"""Which registries an administrator lets this engine use (the host's policy file; docs/settings.md, "Policy")."""

from __future__ import annotations

from dataclasses import dataclass

from coved.errors import Forbidden
from coved.images.reference import DEFAULT_DOMAIN

_HUBS = frozenset({DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


@dataclass(frozen=True)
class Allowed:
    """``hosts`` in lower case, with their ports; ``*.example.com`` is all below that; None lets all be used. ``policy``: the file that
    says so, as the host's user knows it."""

    hosts: tuple[str, ...] | None = None
    policy: str = ""

    def has(self, host: str) -> bool:
        """Whether ``host``, a reference's domain or an address's host and port, may be used. Ports count when either names one:
        another port is another registry."""
        if self.hosts is None:
            return True
        lowered = host.lower()
        if lowered in _HUBS:
            return any(one in _HUBS for one in self.hosts)
        return any(_covers(one, lowered) for one in self.hosts)

    def check(self, doing: str, host: str) -> None:
        """Raises ``Forbidden``; ``doing`` is what is not allowed: "pulling from"."""
        if not self.has(host):
            raise Forbidden(f"{doing} {host} is not allowed by your administrator's policy ({self.policy})")


EVERY = Allowed()


def _covers(one: str, host: str) -> bool:
    if not one.startswith("*."):
        return one == host
    name, colon, port = one[1:].partition(":")
    found, found_colon, found_port = host.partition(":")
    return found.endswith(name) and len(found) > len(name) and (colon, port) == (found_colon, found_port)
