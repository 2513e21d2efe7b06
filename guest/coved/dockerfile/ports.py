"""EXPOSE's ports."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.text import quote

_LAST = 65535
_MOST = 3 * (_LAST + 1)
"""All ports of all protocols."""
_NUMBER = re.compile(r"\+?[0-9]+", re.ASCII)


@dataclass(frozen=True)
class Exposed:
    """``protocol`` is as it was written; ``published``: an address or a port of the host was there, which has no meaning."""

    first: int
    last: int
    protocol: str
    published: bool

    @property
    def names(self) -> list[str]:
        """As the image's configuration has them, ``80/tcp``."""
        return [f"{port}/{self.protocol.lower()}" for port in range(self.first, self.last + 1)]


def names(texts: Iterable[str]) -> list[str]:
    """All ports of an EXPOSE, as the image's configuration has them; raises ``DockerfileError``."""
    found = [exposed(text) for text in texts]
    if sum(port.last - port.first + 1 for port in found) > _MOST:
        raise DockerfileError(f"EXPOSE of more than {_MOST} ports")
    return [name for port in found for name in port.names]


def exposed(text: str) -> Exposed:
    """``8000-8010/udp``, or with an address and ports of the host before it; raises ``DockerfileError``."""
    address, host, container = _parts(text)
    container, _, protocol = container.partition("/")
    if not container:
        raise DockerfileError(f"invalid port: {quote(text)}: no port specified")
    if protocol.lower() not in ("", "tcp", "udp", "sctp"):
        raise DockerfileError(f"invalid port: {quote(text)}: invalid proto: {protocol}")
    _check_address(address)
    ports = _range(container)
    if ports is None:
        raise DockerfileError(f"invalid containerPort: {container}")
    if host:
        host_ports = _range(host)
        if host_ports is None:
            raise DockerfileError(f"invalid hostPort: {host}")
        if ports[1] - ports[0] != host_ports[1] - host_ports[0] and ports[0] != ports[1]:
            raise DockerfileError(f"invalid ranges specified for container and host Ports: {container} and {host}")
    return Exposed(*ports, protocol or "tcp", bool(address or host))


def _parts(text: str) -> tuple[str, str, str]:
    head, _, container = text.rpartition(":")
    address, _, host = head.rpartition(":")
    return address, host, container


def _check_address(address: str) -> None:
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        if address:
            ipaddress.ip_address(bare)
    except ValueError:
        raise DockerfileError(f"invalid IP address: {bare}") from None


def _range(text: str) -> tuple[int, int] | None:
    start, dash, end = text.partition("-")
    first, last = _number(start), _number(end if dash else start)
    return None if first is None or last is None or last < first else (first, last)


def _number(text: str) -> int | None:
    if not _NUMBER.fullmatch(text) or len(text) > 20:
        return None
    number = int(text)
    return number if number <= _LAST else None
