"""Network definitions, as they are kept in the database."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from coved.networks.addresses import Subnet
from coved.networks.firewall import BridgeRule
from coved.networks.model import EndpointRequest
from coved.store.database import Database

PREDEFINED = ("bridge", "host", "none")

_SCHEMA = (
    """
    CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL
    ) STRICT;
    CREATE TABLE network_connections (
        container_id TEXT NOT NULL,
        network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
        endpoint TEXT NOT NULL,
        PRIMARY KEY (container_id, network_id)
    ) STRICT;
    """,
    # Not of a network: a container stays off what it has left, also when that is no more.
    """
    CREATE TABLE network_departures (
        container_id TEXT NOT NULL,
        reference TEXT NOT NULL,
        PRIMARY KEY (container_id, reference)
    ) STRICT;
    """,
)


_BRIDGE = "com.docker.network.bridge."
BRIDGE_NAME = f"{_BRIDGE}name"
MTU = "com.docker.network.driver.mtu"
ENABLE_ICC = f"{_BRIDGE}enable_icc"
ENABLE_IP_MASQUERADE = f"{_BRIDGE}enable_ip_masquerade"
INHIBIT_IPV4 = f"{_BRIDGE}inhibit_ipv4"
HOST_BINDING = f"{_BRIDGE}host_binding_ipv4"
GATEWAY_MODES = (f"{_BRIDGE}gateway_mode_ipv4", f"{_BRIDGE}gateway_mode_ipv6")

CONTAINER_IFACE_PREFIX = "com.docker.network.container_iface_prefix"
IFACE_PREFIX = re.compile(r"[A-Za-z0-9_.-]{0,9}[A-Za-z_]")

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
"""What Go's strconv.ParseBool takes, and so dockerd."""


@dataclass(frozen=True)
class Block:
    """A network's addresses of one family."""

    subnet: Subnet
    gateway: str
    """The bridge's own address; "" when it has none."""
    ip_range: Subnet | None
    """What containers' addresses are chosen from; None is the whole subnet."""
    auxiliary: dict[str, str]
    """Addresses that no container gets, by name."""
    way_out: str
    """Where containers send what is for elsewhere, unless the network is internal."""


@dataclass(frozen=True)
class Network:
    """A network, whether or not anything is on it. ``driver`` is ``bridge``, ``macvlan``, ``ipvlan``, ``host`` or ``null``."""

    id: str
    name: str
    driver: str
    created_ns: int
    bridge: str = ""
    subnet: str = ""
    """IPv4's, as are the next three; "" when it has none."""
    gateway: str = ""
    ip_range: str = ""
    auxiliary: dict[str, str] = field(default_factory=dict)
    ipv4: bool = True
    ipv6: bool = False
    subnet6: str = ""
    """IPv6's, as are the next three."""
    gateway6: str = ""
    ip_range6: str = ""
    auxiliary6: dict[str, str] = field(default_factory=dict)
    asked: tuple[dict[str, Any], ...] = ()
    """IPAM.Config as it was asked for, IPv4 first; what is shown of a family that is in it."""
    internal: bool = False
    attachable: bool = False
    scope: str = "local"
    config_only: bool = False
    """It is nothing but what others are made from (``config_from``, its name)."""
    config_from: str = ""
    options: dict[str, str] = field(default_factory=dict)
    ipam_options: dict[str, str] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    parent: str = ""
    """Device of the machine that containers' devices lie on (macvlan and ipvlan)."""

    @property
    def takes_containers(self) -> bool:
        """Containers have addresses on it."""
        return self.driver not in ("host", "null")

    @cached_property
    def block4(self) -> Block | None:
        """None: it has no IPv4 addresses."""
        if not self.subnet:
            return None
        return _block(self.subnet, self.gateway, self.ip_range, self.auxiliary, "DefaultGatewayIPv4")

    @cached_property
    def block6(self) -> Block | None:
        if not self.subnet6:
            return None
        return _block(self.subnet6, self.gateway6, self.ip_range6, self.auxiliary6, "DefaultGatewayIPv6")

    @property
    def blocks(self) -> Iterator[Block]:
        return (block for block in (self.block4, self.block6) if block is not None)

    def has_asked_for(self, version: int) -> bool:
        """Whether its subnet of that IP version was chosen by its maker, who then may choose addresses in it as well."""
        return any((":" in entry["Subnet"]) == (version == 6) for entry in self.asked)

    @property
    def mtu(self) -> int:
        """Largest packet, in bytes."""
        return int(self.options.get(MTU, "0")) or 1500

    def enabled(self, option: str, *, default: bool) -> bool:
        """An option that is a Boolean."""
        return self.options[option] in TRUE if option in self.options else default

    @property
    def gateway_modes(self) -> tuple[str, str]:
        """Of IPv4 and IPv6: ``nat``, ``nat-unprotected``, ``routed`` or ``isolated``."""
        mode4, mode6 = (self.options.get(name, "nat") for name in GATEWAY_MODES)
        return mode4, mode6

    @property
    def interface_prefix(self) -> str:
        """What containers' devices are called, before their numbers."""
        return self.options.get(CONTAINER_IFACE_PREFIX) or "eth"

    @property
    def apart(self) -> bool:
        """Its containers do not reach each other."""
        return not self.enabled(ENABLE_ICC, default=True)

    @property
    def rule(self) -> BridgeRule:
        return BridgeRule(
            self.bridge,
            tuple(block.subnet for block in self.blocks),
            self.internal,
            self.enabled(ENABLE_IP_MASQUERADE, default=True),
            self.apart,
            self.gateway_modes,
        )

    def event_attributes(self, container_id: str = "") -> dict[str, str]:
        """What dockerd's events of a network tell of it, and of the container that they are about."""
        attributes = {"name": self.name, "type": self.driver}
        return {**attributes, "container": container_id} if container_id else attributes


class Definitions:
    """The networks and connections tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("networks", _SCHEMA)

    def load(self) -> list[Network]:
        """All networks, the oldest first."""
        rows = self._database.query("SELECT definition FROM networks")
        return sorted(
            (_from_json(json.loads(row["definition"])) for row in rows), key=lambda network: network.created_ns
        )

    def add(self, network: Network) -> None:
        self._database.execute(
            "INSERT INTO networks VALUES (?, ?, ?)", (network.id, network.name, json.dumps(asdict(network)))
        )

    def remove(self, network_id: str) -> None:
        self._database.execute("DELETE FROM networks WHERE id = ?", (network_id,))

    def connections(self, container_id: str) -> list[tuple[str, EndpointRequest]]:
        """Networks that a container was connected to after its creation, each with its id."""
        rows = self._database.query(
            "SELECT network_id, endpoint FROM network_connections WHERE container_id = ? ORDER BY rowid",
            (container_id,),
        )
        return [(row["network_id"], EndpointRequest.from_json(json.loads(row["endpoint"]))) for row in rows]

    def departures(self) -> list[tuple[str, str]]:
        """Containers' ids, and ids and names of the networks that each was created on and is on no more."""
        rows = self._database.query("SELECT container_id, reference FROM network_departures")
        return [(row["container_id"], row["reference"]) for row in rows]

    def connect(self, container_id: str, network_id: str, endpoint: EndpointRequest) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO network_connections VALUES (?, ?, ?)",
            (container_id, network_id, json.dumps(asdict(endpoint))),
        )

    def depart(self, container_id: str, network: Network) -> None:
        """The container, which was created on that network, is on it no more."""
        for reference in (network.id, network.name):
            self._database.execute("INSERT OR REPLACE INTO network_departures VALUES (?, ?)", (container_id, reference))

    def undepart(self, container_id: str, network: Network) -> None:
        for reference in (network.id, network.name):
            self._database.execute(
                "DELETE FROM network_departures WHERE container_id = ? AND reference = ?", (container_id, reference)
            )

    def disconnect(self, container_id: str, network_id: str) -> None:
        self._database.execute(
            "DELETE FROM network_connections WHERE container_id = ? AND network_id = ?", (container_id, network_id)
        )

    def forget(self, container_id: str) -> None:
        for table in ("network_connections", "network_departures"):
            self._database.execute(f"DELETE FROM {table} WHERE container_id = ?", (container_id,))


def _block(subnet: str, gateway: str, ip_range: str, auxiliary: dict[str, str], way_out: str) -> Block:
    return Block(
        ipaddress.ip_network(subnet),
        gateway,
        ipaddress.ip_network(ip_range) if ip_range else None,
        auxiliary,
        auxiliary.get(way_out, gateway),
    )


def _from_json(value: dict[str, Any]) -> Network:
    if value.pop("subnet_given", False) and "asked" not in value:  # an older engine's, which had IPv4 alone
        asked = {"Subnet": value["subnet"], "IPRange": value.get("ip_range"), "Gateway": value["gateway"]}
        asked["AuxiliaryAddresses"] = value.get("auxiliary")
        value["asked"] = [{key: one for key, one in asked.items() if one}]
    return Network(**{**value, "asked": tuple(value.get("asked", ()))})
