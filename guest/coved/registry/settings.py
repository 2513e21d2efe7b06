"""Which registries there are to ask, and how each is to be trusted (dockerd's registry options)."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from coved.errors import InvalidParameter
from coved.images.hub import INDEX_HOST, REGISTRY_HOST
from coved.images.reference import DEFAULT_DOMAIN

log = logging.getLogger(__name__)

_LOOPBACK = (ipaddress.ip_network("::1/128"), ipaddress.ip_network("127.0.0.0/8"))

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Endpoint:
    """A registry's address. ``insecure``: certificates are not verified; ``host`` may have a port."""

    scheme: str
    host: str
    prefix: str = ""
    mirror: bool = False
    insecure: bool = False

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"{self.scheme}://{self.host}{self.prefix}"


@dataclass(frozen=True)
class Settings:
    """``insecure_registries``: hosts, with their ports, and CIDR networks; ``mirrors``: URLs; ``certificates``: folders of
    a folder for each host, the first that has one counts."""

    insecure_registries: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    certificates: tuple[Path, ...] = ()

    @classmethod
    def checked(cls, insecure: list[str], mirrors: list[str], certificates: list[Path]) -> Settings:
        """Raises ``InvalidParameter`` in dockerd's words."""
        hosts = tuple(dict.fromkeys(_insecure(one) for one in insecure))
        return cls(hosts, tuple(dict.fromkeys(_mirror(one) for one in mirrors)), tuple(certificates))

    @classmethod
    def of_file(cls, file: Path) -> Settings:
        """What the host told PID 1. A mistake in it is logged, and no reason not to start: the host has checked it."""
        certificates = [file.parent / "certs.d"]
        try:
            told = json.loads(file.read_bytes())
            return cls.checked(told["insecure"], told["mirrors"], certificates)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, InvalidParameter) as error:
            log.error("%s: %s", file, error)
        return cls((), (), tuple(certificates))

    @property
    def networks(self) -> list[Network]:
        """Networks whose registries need not be trusted, the loopback ones included."""
        found: list[Network] = [*_LOOPBACK]
        for text in self.insecure_registries:
            network = _network(text)
            if network is not None and network not in found:
                found.append(network)
        return found

    def is_insecure(self, host: str) -> bool:
        """Whether a registry may speak plain HTTP, or have any certificate. Looks its name up; for a thread."""
        if host in self.insecure_registries:
            return True
        name = _without_port(host)
        try:
            addresses = [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            return False
        networks = self.networks
        return any(ipaddress.ip_address(one.partition("%")[0]) in network for one in addresses for network in networks)

    def endpoints(self, domain: str, *, mirrors: bool = True) -> list[Endpoint]:
        """Where to ask for the images of a domain, best first. Looks names up; for a thread."""
        if domain in (DEFAULT_DOMAIN, INDEX_HOST):
            found = [self._mirror(url) for url in self.mirrors] if mirrors else []
            return [*found, Endpoint("https", REGISTRY_HOST)]
        insecure = self.is_insecure(domain)
        secure = Endpoint("https", domain, insecure=insecure)
        return [secure, Endpoint("http", domain, insecure=True)] if insecure else [secure]

    def _mirror(self, url: str) -> Endpoint:
        parts = urlsplit(url)
        return Endpoint(parts.scheme, parts.netloc, parts.path.rstrip("/"), True, self.is_insecure(parts.netloc))


def _insecure(text: str) -> str:
    lowered = text.lower()
    for scheme in ("http://", "https://"):
        if lowered.startswith(scheme):
            text = text[len(scheme) :]
    if "://" in text:
        raise InvalidParameter(f"insecure registry {text} should not contain '://'")
    if _network(text) is None and (not text or urlsplit(f"//{text}").netloc != text or "@" in text):
        raise InvalidParameter(f'insecure registry {text} is not valid: invalid host "{text}"')
    return text


def _mirror(text: str) -> str:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - it raises ValueError for one that is none
    except ValueError:
        raise InvalidParameter(f'invalid mirror: "{text}" is not a valid URI') from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidParameter(f'invalid mirror: unsupported scheme "{parts.scheme}" in "{text}"')
    if parts.query or parts.fragment:
        raise InvalidParameter(f'invalid mirror: query or fragment at end of the URI "{text}"')
    if parts.username is not None:
        raise InvalidParameter("invalid mirror: username/password not allowed in URI")
    return text.rstrip("/") + "/"


def _network(text: str) -> Network | None:
    if "/" not in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
