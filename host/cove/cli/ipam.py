"""The address ranges of `network create`: each gateway, range and auxiliary address with the subnet that contains it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from cove.cli.errors import CliError


def ipam_config(
    subnets: list[str], ranges: list[str], gateways: list[str], auxiliary: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The API's IPAM.Config. A subnet that nothing else is said of is left to the engine to judge. Raises `CliError`
    in docker's words (`createIPAMConfig` in its `cli/command/network/create.go`).
    """
    if len(subnets) < max(len(ranges), len(gateways)):
        raise CliError("every ip-range or gateway must have a corresponding subnet")
    config: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        for other in config:
            if _contains(subnet, other) or _contains(other, subnet):
                raise CliError("multiple overlapping subnet configuration is not supported")
        config[subnet] = {"Subnet": subnet}
    for addresses in ranges:
        _cidr(addresses)
        for one in _owners(config, addresses, "range"):
            _put_once(one, "IPRange", addresses, "ranges", "on")
    for gateway in gateways:
        for one in _owners(config, gateway, "gateway"):
            _put_once(one, "Gateway", gateway, "gateways", "for")
    for name, address in auxiliary.items():
        for one in _owners(config, address, "aux-address"):
            one.setdefault("AuxiliaryAddresses", {})[name] = address
    return list(config.values())


def _put_once(one: dict[str, Any], field: str, value: str, several: str, where: str) -> None:
    if field in one:
        raise CliError(
            f"cannot configure multiple {several} ({value}, {one[field]}) {where} the same subnet ({one['Subnet']})"
        )
    one[field] = value


def _owners(config: Mapping[str, dict[str, Any]], address: str, what: str) -> Iterable[dict[str, Any]]:
    found = [one for subnet, one in config.items() if _contains(subnet, address)]
    if not found:
        raise CliError(f"no matching subnet for {what} {address}")
    return found


def _contains(subnet: str, address: str) -> bool:
    """Whether `address`, with or without the length of a prefix, is in `subnet`; what is no address at all is not."""
    try:
        network = _cidr(subnet).network
    except CliError as error:
        raise CliError(f"invalid subnet: {error.message}") from error
    if "/" in address:
        return _cidr(address).ip in network
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False


def _cidr(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """Raises `CliError`."""
    try:
        _, slash, length = text.partition("/")
        if not slash or not length.isdigit():  # Python knows masks as well
            raise ValueError(text)
        return ipaddress.ip_interface(text)
    except ValueError:
        raise CliError(f"invalid CIDR address: {text}") from None
