"""How the engine reaches the world: by which proxies, and whom TLS trusts beside those that its system does.

What the host says of it comes in the seed, at each greeting on the link, and whenever it changes. This module is shared by host
and guest, so it imports the standard library's portable part only.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

AUTHORITIES_MAX = 384 << 10
"""Bytes of all certificates: they must fit into the seed, and into one frame of the link."""
PROXY_MAX = 4096
ZONE_MAX = 16 << 10
"""Bytes of a file of a time zone, which has 1 to 4 KiB."""
_BUNDLES = (
    "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
    "PIP_CERT",
)  # fmt: skip
_CREDENTIALS = re.compile(r"(?<!docker-image)(?<!oci-layout)(://)[^/?#\s\"'@]+(?:@[^/?#\s\"'@]*)*@")
"""Whoever asks in an address, up to the last @: a password may have others. Images are named so as well, with a digest behind it."""


@dataclass(frozen=True, slots=True)
class Zone:
    """The user's computer's time zone: its ``name`` ("Europe/Berlin"), and the file of it (TZif) in base64; "" for what is not known."""

    name: str = ""
    file: str = ""

    def data(self) -> bytes:
        return base64.b64decode(self.file)


@dataclass(frozen=True, slots=True)
class Outside:
    """Proxies are addresses ("http://[user:password@]host[:port]"), or "" for none; ``no_proxy`` is a list as in the
    environment; ``authorities`` are certificates in PEM. ``*_in_containers``: containers are told, too.
    """

    http: str = ""
    https: str = ""
    no_proxy: str = ""
    authorities: str = ""
    proxies_in_containers: bool = False
    authorities_in_containers: bool = False
    zone: Zone = Zone()

    def to_json(self) -> dict[str, Any]:
        zone = {} if self.zone == Zone() else {"zone": {"name": self.zone.name, "file": self.zone.file}}
        return {
            "proxies": {
                "http": self.http, "https": self.https, "no_proxy": self.no_proxy, "containers": self.proxies_in_containers,
            },
            "authorities": {"pem": self.authorities, "containers": self.authorities_in_containers},
            **zone,
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: object) -> Outside:
        """Raises ValueError when ``value`` is not what ``to_json`` gives."""
        proxies = _table(value, "proxies")
        authorities = _table(value, "authorities")
        return cls(
            _text(proxies, "http", PROXY_MAX),
            _text(proxies, "https", PROXY_MAX),
            _text(proxies, "no_proxy", PROXY_MAX),
            _text(authorities, "pem", AUTHORITIES_MAX),
            _boolean(proxies),
            _boolean(authorities),
            _zone(value),
        )

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Outside:
        """The proxies that a process is to use (Go's net/http: in capitals, or else not)."""

        def value(name: str) -> str:
            return environment.get(name) or environment.get(name.lower()) or ""

        return cls(value("HTTP_PROXY"), value("HTTPS_PROXY"), value("NO_PROXY"))

    def proxy_variables(self, given: Iterable[str] = ()) -> dict[str, str]:
        """What containers are told of proxies, in capitals and not, unless they have it already.

        Args:
            given: names of variables that there are; either form of a name stands for both.
        """
        if not self.proxies_in_containers:
            return {}
        taken = {name.upper() for name in given}
        found = {"HTTP_PROXY": self.http, "HTTPS_PROXY": self.https, "NO_PROXY": self.no_proxy}
        told = {name: value for name, value in found.items() if value and name not in taken}
        return {form: value for name, value in told.items() for form in (name, name.lower())}

    def bundle_variables(self, path: str, given: Iterable[str] = ()) -> dict[str, str]:
        """What containers are told of a file of certificates, unless they have it already."""
        taken = {*given}
        return {name: path for name in _BUNDLES if name not in taken}

    def shown(self) -> dict[str, str]:
        """As ``GET /info`` has it: without names and passwords."""
        return {"HttpProxy": masked(self.http), "HttpsProxy": masked(self.https), "NoProxy": self.no_proxy}


def masked(proxy: str) -> str:
    """A proxy's address without who asks, as dockerd shows it."""
    before, at, host = proxy.rpartition("@")  # the last one: a password may have others
    scheme, separator, _ = before.partition("://")
    if separator and ":" not in scheme:  # else it is a password that has it
        return f"{scheme}{separator}xxxxx:xxxxx@{host}"
    return f"xxxxx:xxxxx@{host}" if at else proxy


def without_credentials(text: str) -> str:
    """With the names and passwords masked that its addresses have, as BuildKit shows them."""
    return _CREDENTIALS.sub(r"\1xxxxx:xxxxx@", text)


def proxy_problem(proxy: str) -> str:
    """What is wrong with the address of a proxy, without who asks; "" when nothing is."""
    try:
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https"):
            return f"proxies speak http or https, not {parts.scheme or 'nothing'}"
        if not parts.hostname or parts.port == 0:
            return "it names no host"
    except ValueError:
        return "it is no address"
    if len(proxy) > PROXY_MAX or not proxy.isascii() or any(one <= " " or one == "\x7f" for one in proxy):
        return "it has characters that no address has"
    return ""


def _table(value: object, name: str) -> Mapping[str, Any]:
    table = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(table, Mapping):
        raise ValueError(f"{name} are no table")
    return table


def _zone(value: object) -> Zone:
    """Older hosts say nothing of it."""
    if not isinstance(value, Mapping) or "zone" not in value:
        return Zone()
    table = _table(value, "zone")
    zone = Zone(_text(table, "name", 255), _text(table, "file", 2 * ZONE_MAX))
    try:
        base64.b64decode(zone.file, validate=True)
    except binascii.Error:
        raise ValueError("the file of the zone is no base64") from None
    return zone


def _text(table: Mapping[str, Any], name: str, most: int) -> str:
    text = table.get(name)
    if not isinstance(text, str) or len(text) > most or not text.isascii() or "\0" in text:
        raise ValueError(f"{name} is no text of up to {most} characters")
    return text


def _boolean(table: Mapping[str, Any]) -> bool:
    value = table.get("containers")
    if not isinstance(value, bool):
        raise ValueError("containers is neither true nor false")
    return value
