"""Checks POST /networks/create and makes a definition of it (Engine API, NetworkCreateRequest)."""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from coved.errors import Forbidden, InvalidParameter, NotFound, NotImplementedByEngine
from coved.networks import parented
from coved.networks.addresses import free_subnet
from coved.networks.definition import PREDEFINED, Network

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_BRIDGE_NAME = "com.docker.network.bridge.name"
_MTU = "com.docker.network.driver.mtu"


def predefined(name: str, driver: str) -> Network:
    return Network(secrets.token_hex(32), name, driver, time.time_ns())


def definition(
    config: Mapping[str, Any],
    taken: Collection[ipaddress.IPv4Network],
    foreign: Collection[ipaddress.IPv4Network],
    devices: Collection[str],
) -> Network:
    """A new network from a request.

    Args:
        taken: subnets of other networks, which none may overlap.
        foreign: other subnets that the machine knows; one that is asked for may overlap them, as Docker has it.
        devices: names of the machine's network devices.

    Raises:
        InvalidParameter, Forbidden, NotFound: with Docker's words.
    """
    name = _text(config, "Name")
    if not name.strip() or len(name) > 255 or not name.isprintable():
        raise InvalidParameter(f"invalid name: {name}")
    if name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {name} network ")
    driver = _text(config, "Driver") or "bridge"
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver not in ("bridge", *parented.DRIVERS):
        raise NotFound(f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found')
    if _text(config, "Scope") == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if config.get("Ingress"):
        raise Forbidden("Ingress network can only be global scope network")
    source = config.get("ConfigFrom") or {}
    if not isinstance(source, Mapping):
        raise InvalidParameter("invalid ConfigFrom: not an object")
    if _text(source, "Network"):
        raise NotFound(f'configuration network "{source["Network"]}" does not exist')
    if config.get("ConfigOnly"):
        raise NotImplementedByEngine(
            "configuration-only networks are not part of Cove: give the network its options itself"
        )
    if config.get("EnableIPv6"):
        raise InvalidParameter("Cove's networks have IPv4 addresses only: create it without --ipv6")
    options, labels = _map(config, "Options"), _map(config, "Labels")
    identity = secrets.token_hex(32)
    bridge = options.get(_BRIDGE_NAME) or f"br-{identity[:12]}"
    if not _DEVICE.fullmatch(bridge):
        raise InvalidParameter(f"invalid bridge name {bridge!r}: at most 15 letters, digits, '_', '.' and '-'")
    if bridge in devices:
        raise InvalidParameter(f"bridge name {bridge} is in use by another network device")
    mtu = options.get(_MTU, "1500")
    if not mtu.isdecimal() or not 68 <= int(mtu) <= 65535:
        raise InvalidParameter(f"invalid {_MTU}: {mtu} is not from 68 to 65535")
    ipam = config.get("IPAM") or {}
    if not isinstance(ipam, Mapping):
        raise InvalidParameter("invalid IPAM: not an object")
    if _text(ipam, "Driver") not in ("", "default"):
        raise NotFound(f"could not find plugin {ipam['Driver']} in v1 plugin registry: plugin not found")
    given = _ipam_config(ipam)
    subnet, gateway, ip_range, auxiliary = _subnet(given, taken, foreign)
    made = Network(
        id=identity,
        name=name,
        driver=driver,
        created_ns=time.time_ns(),
        bridge=bridge,
        subnet=str(subnet),
        gateway=str(gateway),
        ip_range=str(ip_range or ""),
        subnet_given=bool(given.get("Subnet")),
        auxiliary=auxiliary,
        internal=bool(config.get("Internal")),
        attachable=bool(config.get("Attachable")),
        options=options,
        ipam_options=_map(ipam, "Options"),
        labels=labels,
    )
    if driver == "bridge":
        return made
    # Its gateway is another machine, if there is one at all.
    return parented.with_parent(replace(made, bridge="", gateway=_text(given, "Gateway").partition("/")[0]))


def _ipam_config(ipam: Mapping[str, Any]) -> Mapping[str, Any]:
    entries = ipam.get("Config") or []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InvalidParameter("invalid IPAM config: not a list of objects")
    if len(entries) > 1:
        raise InvalidParameter("invalid network config:\nbridge driver supports one IPv4 subnet per network")
    return entries[0] if entries else {}


def _subnet(
    given: Mapping[str, Any], taken: Collection[ipaddress.IPv4Network], foreign: Collection[ipaddress.IPv4Network]
) -> tuple[ipaddress.IPv4Network, ipaddress.IPv4Address, ipaddress.IPv4Network | None, dict[str, str]]:
    text = _text(given, "Subnet")
    if not text:
        if any(given.get(key) for key in ("Gateway", "IPRange", "AuxiliaryAddresses")):
            raise InvalidParameter("invalid network config:\ninvalid subnet : invalid CIDR block notation")
        subnet = free_subnet([*taken, *foreign])
        return subnet, subnet.network_address + 1, None, {}
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError:
        try:
            mask = ipaddress.ip_interface(text).network
        except ValueError:
            raise InvalidParameter(
                f"invalid network config:\ninvalid subnet {text}: invalid CIDR block notation"
            ) from None
        if mask.version == 6:
            raise InvalidParameter("Cove's networks have IPv4 addresses only") from None
        raise InvalidParameter(f"invalid network config:\ninvalid subnet {text}: it should be {mask}") from None
    if subnet.prefixlen > 30:
        raise InvalidParameter(f"invalid network config:\nsubnet {subnet} has no room for a container")
    if any(subnet.overlaps(other) for other in taken):
        raise Forbidden(f"invalid pool request: Pool overlaps with other one on this address space ({subnet})")
    gateway_text = _text(given, "Gateway").partition("/")[0]
    gateway = _address(gateway_text, subnet, "gateway") if gateway_text else subnet.network_address + 1
    ip_range = None
    if range_text := _text(given, "IPRange"):
        try:
            ip_range = ipaddress.IPv4Network(range_text, strict=False)
        except ValueError:
            raise InvalidParameter(f"invalid network config:\ninvalid ip-range {range_text}") from None
        if not ip_range.subnet_of(subnet):
            raise InvalidParameter(f"invalid network config:\nip-range {ip_range} is not in subnet {subnet}")
    auxiliary = _map(given, "AuxiliaryAddresses")
    for address in auxiliary.values():
        _address(address, subnet, "auxiliary address")
    return subnet, gateway, ip_range, auxiliary


def _address(text: str, subnet: ipaddress.IPv4Network, what: str) -> ipaddress.IPv4Address:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise InvalidParameter(f"invalid network config:\ninvalid {what} {text}") from None
    if address not in subnet:
        raise InvalidParameter(f"invalid network config:\n{what} {text} is not in subnet {subnet}")
    return address


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key) or ""
    if not isinstance(value, str):
        raise InvalidParameter(f"invalid {key}: not a text")
    return value


def _map(config: Mapping[str, Any], key: str) -> dict[str, str]:
    value = config.get(key) or {}
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise InvalidParameter(f"invalid {key}: not a map of texts")
    return dict(value)
