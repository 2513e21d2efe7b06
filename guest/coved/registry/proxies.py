"""By which proxy an address is asked (golang.org/x/net/http/httpproxy, which dockerd goes by)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from coved.outside import Outside, proxy_problem
from coved.registry.errors import RegistryError


def chosen(outside: Outside, url: str) -> str:
    """The address of a proxy; "" when the server itself is asked. Raises RegistryError for one that is no address."""
    parts = urlsplit(url)
    proxy = {"http": outside.http, "https": outside.https}.get(parts.scheme, "")
    if not proxy or not _is_proxied(outside.no_proxy, parts.hostname or "", parts.port or _port(parts.scheme)):
        return ""
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if problem := proxy_problem(proxy):
        raise RegistryError(f"proxyconnect tcp: proxy: {problem}", again=False, spoke=False)
    return proxy


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _is_proxied(no_proxy: str, host: str, port: int) -> bool:
    host = host.rstrip(".").lower()
    if host == "localhost":
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None and address.is_loopback:
        return False
    return not any(
        _matches(entry.strip().lower(), host, address, port) for entry in no_proxy.split(",") if entry.strip()
    )


def _matches(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _split(entry)
    if not name or (wanted and wanted != str(port)):
        return False
    try:
        return ipaddress.ip_address(name) == address
    except ValueError:
        pass
    if name.startswith("*."):
        name = name[1:]
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _split(entry: str) -> tuple[str, str]:
    """A host and a port, "" when there is none; an IPv6 address may stand with brackets or without."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""
