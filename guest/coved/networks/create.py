"""Checks POST /networks/create and makes a definition of it (Engine API, NetworkCreateRequest)."""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from coved.errors import EngineError, Forbidden, InvalidParameter, NotFound, NotImplementedByEngine
from coved.networks import definition as words
from coved.networks import ipam, parented
from coved.networks.addresses import Pools, Subnet, parse_address
from coved.networks.definition import FALSE, PREDEFINED, TRUE, Network

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
LONGEST = 15
"""Letters of a device's name (IFNAMSIZ)."""
_ENABLE = ("com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6")
_HOST_ADDRESSES = ("com.docker.network.host_ipv4", "com.docker.network.host_ipv6")
_DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
_INTEGER = re.compile(r"[+-]?[0-9]+")
_LEAST_MTU = {False: 68, True: 1280}  # RFC 791, 3.2; RFC 8200, 5: without IPv6, and with it


def predefined(name: str, driver: str) -> Network:
    return Network(secrets.token_hex(32), name, driver, time.time_ns())


def definition(
    config: Mapping[str, Any],
    networks: Sequence[Network],
    foreign: Collection[Subnet],
    devices: Collection[str],
    pools6: Pools,
    prefix: str = "br-",
) -> Network:
    """A new network from a request.

    Args:
        networks: those that there are.
        foreign: other subnets that the machine knows; one that is asked for may overlap them, as Docker has it.
        devices: names of the machine's network devices.
        pools6: what IPv6 subnets are chosen from.
        prefix: of the bridge's name, when none is asked for.

    Raises:
        InvalidParameter, Forbidden, NotFound, EngineError: with Docker's words.
    """
    name = _text(config, "Name")
    if name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {name} network ")
    driver = _text(config, "Driver") or "bridge"
    if driver == "overlay":
        raise Forbidden(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
            "swarm and try again."
        )
    options = _map(config, "Options")
    ipv4 = _family(config, "EnableIPv4", options, _ENABLE[0], default=True)
    ipv6 = _family(config, "EnableIPv6", options, _ENABLE[1], default=False)
    given = config.get("IPAM") or {}
    if not isinstance(given, Mapping):
        raise InvalidParameter("invalid IPAM: not an object")
    entries = ipam.parse(given.get("Config"), ipv6=ipv6)
    if not name.strip():
        raise InvalidParameter("invalid name: name is empty")
    if len(name) > 255 or not name.isprintable():
        raise InvalidParameter(f"invalid name: {name}")
    made = Network(
        id=secrets.token_hex(32),
        name=name,
        driver=driver,
        created_ns=time.time_ns(),
        ipv4=ipv4,
        ipv6=ipv6,
        asked=tuple(entry.shown for entry in entries),
        internal=bool(config.get("Internal")),
        attachable=bool(config.get("Attachable")),
        scope=_text(config, "Scope") or "local",
        config_only=bool(config.get("ConfigOnly")),
        config_from=_source(config),
        options=options,
        ipam_options=None if given.get("Options") is None else _map(given, "Options"),
        labels=_map(config, "Labels"),
    )
    ipam_driver = _text(given, "Driver")
    _check_configuration(made, bool(config.get("Ingress") or _text(config, "Scope")), ipam_driver)
    if made.config_only:
        return replace(made, driver="null")
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver not in ("bridge", *parented.DRIVERS):
        raise NotFound(f'plugin "{driver}" not found')
    if config.get("Ingress"):
        raise Forbidden("Ingress network can only be global scope network")
    if made.config_from:
        made, entries = _configured(made, networks)
    if made.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    _check_options(made)
    if driver == "bridge":
        made = _bridge(made, networks, devices, prefix)
    if ipam_driver not in ("", "default"):
        if ipam_driver == "null":
            raise InvalidParameter("ipv4 pool is empty" if made.ipv4 else "ipv6 pool is empty")
        raise NotFound(f'plugin "{ipam_driver}" not found')
    made = _addressed(made, entries, networks, foreign, pools6)
    return made if driver == "bridge" else parented.with_parent(made)


def _check_configuration(network: Network, operator: bool, ipam_driver: str) -> None:
    if network.config_only and (network.internal or network.attachable or operator):
        raise Forbidden(
            "configuration network can only contain network specific fields. Network operator fields like "
            "[ ingress | internal | attachable | scope ] are not supported."
        )
    if not network.config_from:
        return
    if network.config_only:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    own = network.labels or network.ipam_options or network.asked or ipam_driver not in ("", "default")
    if own or not network.ipv4 or network.ipv6:
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    if network.options:
        raise Forbidden("network driver options are not supported if the network depends on a configuration network")


def _source(config: Mapping[str, Any]) -> str:
    source = config.get("ConfigFrom") or {}
    if not isinstance(source, Mapping):
        raise InvalidParameter("invalid ConfigFrom: not an object")
    return _text(source, "Network")


def _configured(network: Network, networks: Sequence[Network]) -> tuple[Network, list[ipam.Given]]:
    """``network`` with what the configuration that it names has."""
    source = next((one for one in networks if one.config_only and one.name == network.config_from), None)
    if source is None:
        raise NotFound(f'configuration network "{network.config_from}" does not exist')
    made = replace(
        network,
        ipv4=source.ipv4,
        ipv6=source.ipv6,
        asked=source.asked,
        options=source.options,
        ipam_options=source.ipam_options,
        labels=source.labels,
    )
    return made, ipam.parse([*source.asked], ipv6=source.ipv6)


def _bridge(network: Network, networks: Sequence[Network], devices: Collection[str], prefix: str) -> Network:
    """``network`` with its bridge's name."""
    bridge = network.options.get(words.BRIDGE_NAME) or f"{prefix}{network.id[: LONGEST - len(prefix)]}"
    if not _DEVICE.fullmatch(bridge):
        raise InvalidParameter(f"invalid bridge name {bridge!r}: at most 15 letters, digits, '_', '.' and '-'")
    if (other := next((one for one in networks if one.bridge == bridge), None)) is not None:
        raise Forbidden(_conflict(network.id, bridge, other, "networks have same bridge name"))
    if bridge in devices:
        raise InvalidParameter(f"bridge name {bridge} is in use by another network device")
    if "routed" in network.gateway_modes:
        raise NotImplementedByEngine(
            "gateway mode 'routed' is not part of Cove: nothing outside of its machine has a way to containers' own addresses"
        )
    if "isolated" in network.gateway_modes and not network.internal:
        raise EngineError("gateway mode 'isolated' can only be used for an internal network")
    return replace(network, bridge=bridge)


def _check_options(network: Network) -> None:
    options = network.options
    for name in (words.ENABLE_ICC, words.ENABLE_IP_MASQUERADE, words.INHIBIT_IPV4, _DEFAULT_BRIDGE):
        if (value := options.get(name, "true")) not in TRUE | FALSE:
            raise _unparsed(name, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
    for name in words.GATEWAY_MODES:
        if (value := options.get(name, "nat")) not in ("nat", "nat-unprotected", "routed", "isolated"):
            raise _unparsed(name, value, f"unknown gateway mode {value}")
    for name in (words.HOST_BINDING, *_HOST_ADDRESSES):
        try:
            parse_address(options.get(name, "0.0.0.0"))
        except ValueError:
            raise _unparsed(name, options[name], "nil ip") from None
    if (prefix := options.get(words.CONTAINER_IFACE_PREFIX)) and not words.IFACE_PREFIX.fullmatch(prefix):
        raise InvalidParameter(f"invalid {words.CONTAINER_IFACE_PREFIX}: {prefix}: at most 10 letters, ending in one")
    mtu = options.get(words.MTU, "0")
    if not _INTEGER.fullmatch(mtu) or len(mtu) > 18:
        raise _unparsed(words.MTU, mtu, f'strconv.Atoi: parsing "{mtu}": invalid syntax')
    if int(mtu) < 0:
        raise InvalidParameter(f"invalid MTU number: {int(mtu)}")
    if int(mtu) and not _LEAST_MTU[network.ipv6] <= int(mtu) <= 65535:
        raise InvalidParameter(f"invalid {words.MTU}: {mtu} is not from {_LEAST_MTU[network.ipv6]} to 65535")


def _unparsed(option: str, value: str, why: str) -> InvalidParameter:
    return InvalidParameter(f"failed to parse {option} value: {value} ({why})")


def _conflict(identity: str, bridge: str, other: Network, why: str) -> str:
    return f"cannot create network {identity} ({bridge}): conflicts with network {other.id} ({other.bridge}): {why}"


def spare(network: Network, subnet: Subnet) -> None:
    """Raises Forbidden when a network's addresses would stand for those of a subnet that all containers need."""
    for block in network.blocks:
        if block.subnet.version == subnet.version and block.subnet.overlaps(subnet):
            raise Forbidden(
                f"invalid pool request: Pool overlaps with other one on this address space: {block.subnet} overlaps "
                f"{subnet}, by which the machine reaches this computer and its resolver: choose another subnet"
            )


def _addressed(
    network: Network,
    entries: Sequence[ipam.Given],
    networks: Sequence[Network],
    foreign: Collection[Subnet],
    pools6: Pools,
) -> Network:
    """``network`` with its addresses."""
    taken = [block.subnet for one in networks for block in one.blocks]
    # That of another driver's network is another machine, if there is one at all.
    gateway4, gateway6 = (network.driver == "bridge" and mode != "isolated" for mode in network.gateway_modes)
    if network.internal and network.enabled(words.INHIBIT_IPV4, default=False):
        gateway4 = False
    four, six = ipam.Allocated(), ipam.Allocated()
    if network.ipv4:
        given = [entry for entry in entries if entry.subnet.version == 4]
        four = ipam.allocate(given, taken, foreign, ipam.pools4(network.scope), gateway=gateway4, driver=network.driver)
    if network.ipv6:
        given = [entry for entry in entries if entry.subnet.version == 6]
        six = ipam.allocate(given, taken, foreign, pools6, gateway=gateway6, driver=network.driver)
    if not (network.ipv4 or network.ipv6):
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    for allocated, version in ((four, 4), (six, 6)):
        if allocated.subnet and (subnet := ipaddress.ip_network(allocated.subnet)).prefixlen == 0:
            raise InvalidParameter(f"ipv{version} pool is empty")
        if allocated.subnet and version == 6:
            ipam.check_subnet6(subnet, allocated.gateway)
    return replace(
        network,
        subnet=four.subnet,
        gateway=four.gateway,
        ip_range=four.ip_range,
        auxiliary=four.auxiliary,
        subnet6=six.subnet,
        gateway6=six.gateway,
        ip_range6=six.ip_range,
        auxiliary6=six.auxiliary,
    )


def _family(config: Mapping[str, Any], key: str, options: dict[str, str], option: str, *, default: bool) -> bool:
    """Whether it is wanted; an option of the driver's is one more way to say so, and the request's own word goes before it."""
    value = config.get(key)
    if value is not None:
        if not isinstance(value, bool):
            raise InvalidParameter(f"invalid {key}: not a Boolean")
        options.pop(option, None)
        return value
    if option not in options:
        return default
    if options[option] not in TRUE | FALSE:
        raise InvalidParameter(f'driver-opt "{option}" is not a valid bool')
    return options[option] in TRUE


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
