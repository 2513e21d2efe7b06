"""Published ports: `-p` and `--expose` as the API wants them, and the PORTS column as docker prints it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not all(part.isascii() and part.isdigit() and int(part) <= 65535 for part in (first, *([last] if dash else []))):
        raise ValueError(text)
    low = int(first)
    high = int(last) if dash else low
    if high < low:
        raise ValueError(text)
    return low, high


def _split(spec: str) -> tuple[str, str, str]:
    """(ip, host port, container port) of `[[ip:][host]:]container`, an IPv6 address in brackets."""
    if spec.startswith("["):
        ip, bracket, rest = spec[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError(f"invalid IP address: {spec}")
        host, _, container = rest[1:].rpartition(":")
        return ip, host, container
    head, _, container = spec.rpartition(":")
    ip, _, host = head.rpartition(":")
    return ip, host, container


def _short(spec: str) -> str:
    """`target=80,published=8080,protocol=tcp,mode=host` as `8080:80/tcp`; a container has but one mode. Raises
    `ValueError`.
    """
    fields = {"published": "", "target": "", "protocol": "tcp"}
    for field in spec.split(","):
        name, equals, value = field.partition("=")
        if not name or not equals:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        fields[name] = value
    return f"{fields['published']}:{fields['target']}/{fields['protocol']}"


def parse_publish(specs: Iterable[str]) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, str]]]]:
    """(ExposedPorts, PortBindings) of `-p` values. Raises `ValueError` in docker's words."""
    exposed: dict[str, dict[str, Any]] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        if "=" in spec:
            spec = _short(spec)
        # What follows a second slash is nothing to docker, and no protocol is TCP.
        ports, protocol, *_ = *spec.split("/"), ""
        ip, host, container = _split(ports)
        protocol = protocol.lower() or "tcp"
        if ip:
            try:
                ipaddress.ip_address(ip)
            except ValueError:
                raise ValueError(f"invalid IP address: {ip}") from None
        if not container:
            raise ValueError(f"no port specified: {spec}<empty>")
        try:
            first, last = _range(container)
        except ValueError:
            raise ValueError(f"invalid containerPort: {container}") from None
        try:
            host_first, host_last = _range(host) if host else (0, 0)
        except ValueError:
            raise ValueError(f"invalid hostPort: {host}") from None
        if host and last - first != host_last - host_first and first != last:
            raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
        if protocol not in PROTOCOLS:
            raise ValueError(f"invalid proto: {protocol}")
        for offset in range(last - first + 1):
            port = ""
            if host:
                # One container port with several host ports lets the engine choose one of them.
                port = (
                    f"{host_first}-{host_last}"
                    if first == last and host_first != host_last
                    else str(host_first + offset)
                )
            key = f"{first + offset}/{protocol}"
            exposed[key] = {}
            bindings.setdefault(key, []).append({"HostIp": ip, "HostPort": port})
    return exposed, bindings


def parse_expose(specs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """ExposedPorts of `--expose` values. Raises `ValueError` in docker's words."""
    exposed: dict[str, dict[str, Any]] = {}
    for spec in specs:
        if ":" in spec:
            raise ValueError(f"invalid port format for --expose: {spec}")
        ports, _, protocol = spec.partition("/")
        try:
            first, last = _range(ports)
        except ValueError:
            raise ValueError(
                f"invalid range format for --expose: {spec}, error: "
                f'strconv.ParseUint: parsing "{ports}": invalid syntax'
            ) from None
        for port in range(first, last + 1):
            exposed[f"{port}/{protocol or 'tcp'}"] = {}
    return exposed


def join_host_port(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def display(ports: Iterable[Mapping[str, Any]]) -> str:
    """The PORTS column: consecutive ports that map to themselves are one range, all other mappings follow."""
    groups: dict[str, tuple[int, int]] = {}
    done: list[str] = []
    mappings: list[str] = []

    def form(key: str, first: int, last: int) -> str:
        ip, slash, protocol = key.rpartition("/")
        numbers = str(first) if first == last else f"{first}-{last}"
        return f"{join_host_port(ip, numbers)}->{numbers}/{protocol}" if slash else f"{numbers}/{protocol}"

    def order(port: Mapping[str, Any]) -> tuple[int, str, int, str]:
        return port["PrivatePort"], port.get("IP") or "", port.get("PublicPort") or 0, port["Type"]

    for port in sorted(ports, key=order):
        private, ip, public, protocol = order(port)
        if ip and public != private:
            mappings.append(f"{join_host_port(ip, str(public))}->{private}/{protocol}")
            continue
        key = f"{ip}/{protocol}" if ip else protocol
        first, last = groups.get(key, (private, private - 1))
        if private == last + 1:
            groups[key] = (first, private)
        else:
            done.append(form(key, first, last))
            groups[key] = (private, private)
    return ", ".join([*done, *(form(key, *group) for key, group in groups.items()), *mappings])
