"""What is asked of a container's place on a network: whether it can be had, and which place is the way out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple

from coved.errors import EngineError, InvalidParameter
from coved.networks.addresses import Address, parse_address
from coved.networks.definition import PREDEFINED, Network
from coved.networks.ipam import joined
from coved.networks.model import Endpoint, EndpointRequest

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_SYSCTLS = "com.docker.network.endpoint.sysctls"
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.([A-Za-z0-9_]+)\.(?:IFNAME|ifname)\.([A-Za-z0-9_-]+)=(.*)")
_LINK_LOCAL_LENGTH = {4: 16, 6: 64}


def is_plain(request: EndpointRequest) -> bool:
    """Nothing is asked for that could be refused."""
    return not (
        request.ipv4_address
        or request.ipv6_address
        or request.link_local_ips
        or request.mac_address
        or request.aliases
        or request.driver_opts
    )


def check(network: Network, request: EndpointRequest) -> None:
    """Raises InvalidParameter, with all that is wrong in Docker's words."""
    if request.mac_address and not _MAC.fullmatch(request.mac_address):
        raise InvalidParameter(f"invalid MAC address: {request.mac_address}")
    wrong: list[str] = []
    if network.name in PREDEFINED:
        if request.ipv4_address or request.ipv6_address:
            wrong.append("user specified IP address is supported on user defined networks only")
        if request.aliases:
            wrong.append("network-scoped alias is supported only for containers in user defined networks")
    for text, version in ((request.ipv4_address, 4), (request.ipv6_address, 6)):
        address = _address(text)
        if text and (address is None or address.version != version or address.is_unspecified):
            wrong.append(f"invalid IPv{version} address: {text}")
    for text in request.link_local_ips:
        address = _address(text)
        if address is None or address.is_unspecified:
            wrong.append(f"invalid link-local IP address: {text}")
    for text, version in ((request.ipv4_address, 4), (request.ipv6_address, 6)):
        if text:
            wrong += _out_of_range(network, text, version)
    for text in filter(None, request.driver_opts.get(_SYSCTLS, "").split(",")):
        if not _SYSCTL.fullmatch(text):
            wrong.append(
                f"unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', "
                "'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
    if wrong:
        raise InvalidParameter("invalid endpoint settings:\n" + joined(wrong))


def link_local(request: EndpointRequest) -> tuple[str, ...]:
    """The further addresses with their prefix lengths. Raises InvalidParameter for what is not of the kind."""
    made = []
    for text in request.link_local_ips:
        address = parse_address(text)
        if not address.is_link_local:
            raise InvalidParameter(f"invalid link local IP address: {text}")
        made.append(f"{address}/{_LINK_LOCAL_LENGTH[address.version]}")
    return tuple(made)


def sysctls(request: EndpointRequest, interface: str) -> tuple[tuple[str, str], ...]:
    """Kernel parameters of the device: paths below /proc/sys, and values."""
    given = filter(None, request.driver_opts.get(_SYSCTLS, "").split(","))
    found = [match for match in map(_SYSCTL.fullmatch, given) if match]
    return tuple((f"net/{one[1]}/{one[2]}/{interface}/{one[3]}", one[4]) for one in found)


def exhausted(network: Network, version: int) -> EngineError:
    return EngineError(
        f"no available IPv{version} addresses on this network's address pools: {network.name} ({network.id})"
    )


class Gateways(NamedTuple):
    """The places whose networks are the way out for IPv4 and IPv6; None: there is none."""

    ipv4: Endpoint | None
    ipv6: Endpoint | None


def gateways(endpoints: Sequence[Endpoint]) -> Gateways:
    """Docker's rule: by priority, then those that lead out by more families, then by the networks' names; and one that leads
    out by both families is taken for both, whatever its priority."""
    if len(endpoints) == 1:  # nearly always
        only = endpoints[0]
        return Gateways(only if only.leads_out else None, only if only.leads_out6 else None)
    ordered = sorted(endpoints, key=lambda one: (-one.gw_priority, -_ways(one), one.network_name))
    both = next((one for one in ordered if one.leads_out and one.leads_out6), None)
    if both is not None:
        return Gateways(both, both)
    return Gateways(
        next((one for one in ordered if one.leads_out), None), next((one for one in ordered if one.leads_out6), None)
    )


def _ways(endpoint: Endpoint) -> int:
    return endpoint.leads_out + endpoint.leads_out6


def _address(text: str) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        return None


def _out_of_range(network: Network, text: str, version: int) -> list[str]:
    if not network.has_asked_for(version):
        return ["user specified IP address is supported only when connecting to networks with user configured subnets"]
    address = _address(text)
    # As in dockerd, also a subnet of a family that the network does not have, which is kept as it was written, bits behind its
    # prefix included: nothing comes of such an address.
    subnets = (ipaddress.ip_network(entry["Subnet"], strict=False) for entry in network.asked)
    if address is not None and any(subnet.version == version and address in subnet for subnet in subnets):
        return []
    return [f"no configured subnet or ip-range contain the IP address {text}"]
