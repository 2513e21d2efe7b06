"""Networks and sandboxes as the Engine API shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from coved.networks.definition import Network
from coved.networks.model import Endpoint, EndpointRequest, PublishedPort, SandboxRequest, Settings
from coved.networks.names import names_of
from coved.networks.records import Record
from coved.times import rfc3339

DRIVER_OPTIONS = {
    "com.docker.network.bridge.default_bridge": "true",
    "com.docker.network.bridge.enable_icc": "true",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
    "com.docker.network.driver.mtu": "1500",
}


def network_json(network: Network, records: Iterable[Record] | None) -> dict[str, Any]:
    """``Network`` of the API; ``records`` are the open sandboxes, None for a list, which leaves containers out."""
    config: list[dict[str, Any]] = []
    if network.subnet:
        entry: dict[str, Any] = {"Subnet": network.subnet}
        if network.ip_range:
            entry["IPRange"] = network.ip_range
        if network.gateway:
            entry["Gateway"] = network.gateway
        if network.auxiliary:
            entry["AuxiliaryAddresses"] = network.auxiliary
        config.append(entry)
    containers = {}
    for record in (one for one in records or () if not one.quiet):
        if network.driver in ("host", "null") and record.mode == network.name:
            containers[record.container_id] = {
                "Name": record.container_name,
                "EndpointID": _lone_endpoint_id(record, network),
                "MacAddress": "",
                "IPv4Address": "",
                "IPv6Address": "",
            }
        for endpoint in record.endpoints:
            if endpoint.network_id == network.id:
                containers[record.container_id] = {
                    "Name": record.container_name,
                    "EndpointID": endpoint.endpoint_id,
                    "MacAddress": endpoint.mac_address,
                    "IPv4Address": f"{endpoint.address}/{endpoint.prefix_length}",
                    "IPv6Address": "",
                }
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created_ns),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": network.ipam_options or None, "Config": config},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    }


def settings_json(
    record: Record,
    key: str,
    default_network: str,
    wanted: Mapping[str, EndpointRequest],
    alone: Network | None = None,
) -> Settings:
    """NetworkSettings of an open sandbox.

    Args:
        key: path of its namespace.
        wanted: what was asked for, by network.
        alone: the network without addresses that it is on (``host`` or ``none``).
    """
    first = next((endpoint for endpoint in record.endpoints if endpoint.network_name == default_network), None)
    return {
        **_settings(record.container_id if key else "", key, _ports(record.exposed, record.ports)),
        **_addresses(first),
        "Networks": {
            endpoint.network_name: _endpoint_json(record, endpoint, wanted.get(endpoint.network_name))
            for endpoint in record.endpoints
        }
        or ({alone.name: _lone_endpoint(record, alone)} if alone is not None else {}),
    }


def _lone_endpoint_id(record: Record, network: Network) -> str:
    """Docker's clients take what has none for not connected; there is no more to it than whose it is and where."""
    return hashlib.sha256(f"{network.id} {record.container_id}".encode()).hexdigest()


def _lone_endpoint(record: Record, network: Network) -> dict[str, Any]:
    return {**_empty_endpoint(), "NetworkID": network.id, "EndpointID": _lone_endpoint_id(record, network)}


def closed_settings_json(request: SandboxRequest | None, networks: Mapping[str, EndpointRequest]) -> Settings:
    """NetworkSettings of a container that does not run; ``networks`` are what it will be on, by name."""
    return {
        **_settings("", "", {}),
        **_addresses(None),
        "Networks": {
            name: {**_empty_endpoint(), **_asked(endpoint, request.mac_address if request else "")}
            for name, endpoint in networks.items()
        },
    }


def _settings(sandbox_id: str, key: str, ports: dict[str, Any]) -> dict[str, Any]:
    return {
        "Bridge": "",
        "SandboxID": sandbox_id,
        "SandboxKey": key,
        "Ports": ports,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
    }


def _addresses(endpoint: Endpoint | None) -> dict[str, Any]:
    return {
        "EndpointID": endpoint.endpoint_id if endpoint else "",
        "Gateway": endpoint.gateway if endpoint else "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": endpoint.address if endpoint else "",
        "IPPrefixLen": endpoint.prefix_length if endpoint else 0,
        "IPv6Gateway": "",
        "MacAddress": endpoint.mac_address if endpoint else "",
    }


def _endpoint_json(record: Record, endpoint: Endpoint, wanted: EndpointRequest | None) -> dict[str, Any]:
    return {
        **_empty_endpoint(),
        **(_options(wanted) if wanted else {}),
        **_addresses(endpoint),
        "Aliases": list(endpoint.aliases) or None,
        "NetworkID": endpoint.network_id,
        "DNSNames": [*names_of(record, endpoint)] if endpoint.network_name != "bridge" else None,
    }


def _empty_endpoint() -> dict[str, Any]:
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": "",
        "DNSNames": None,
        **_addresses(None),
    }


def _asked(endpoint: EndpointRequest, mac_address: str) -> dict[str, Any]:
    return {
        **_options(endpoint),
        "Aliases": list(endpoint.aliases) or None,
        "MacAddress": endpoint.mac_address or mac_address,
    }


def _options(endpoint: EndpointRequest) -> dict[str, Any]:
    return {
        "IPAMConfig": {"IPv4Address": endpoint.ipv4_address} if endpoint.ipv4_address else None,
        "Links": list(endpoint.links) or None,
        "DriverOpts": endpoint.driver_opts or None,
    }


def _ports(exposed: Iterable[str], published: Iterable[PublishedPort]) -> dict[str, Any]:
    ports: dict[str, Any] = dict.fromkeys(exposed)
    for port in published:
        key = f"{port.container_port}/{port.proto}"
        ports[key] = [*(ports.get(key) or ()), {"HostIp": port.host_ip, "HostPort": str(port.host_port)}]
    return ports
