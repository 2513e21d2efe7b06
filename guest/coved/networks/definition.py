"""Network definitions, as they are kept in the database."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass, field

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
)


@dataclass(frozen=True)
class Network:
    """A network, whether or not anything is on it. ``driver`` is ``bridge``, ``macvlan``, ``ipvlan``, ``host`` or ``null``."""

    id: str
    name: str
    driver: str
    created_ns: int
    bridge: str = ""
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    subnet_given: bool = False
    auxiliary: dict[str, str] = field(default_factory=dict)
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = field(default_factory=dict)
    ipam_options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    parent: str = ""
    """Device of the machine that containers' devices lie on (macvlan and ipvlan)."""

    @property
    def takes_containers(self) -> bool:
        """Containers have addresses on it."""
        return self.driver not in ("host", "null")

    @property
    def network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.subnet)

    @property
    def mtu(self) -> int:
        """Largest packet, in bytes."""
        return int(self.options.get("com.docker.network.driver.mtu", "1500"))

    @property
    def rule(self) -> BridgeRule:
        masquerade = self.options.get("com.docker.network.bridge.enable_ip_masquerade", "true") != "false"
        return BridgeRule(self.bridge, self.network, self.internal, masquerade)

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
            (Network(**json.loads(row["definition"])) for row in rows), key=lambda network: network.created_ns
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

    def connect(self, container_id: str, network_id: str, endpoint: EndpointRequest) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO network_connections VALUES (?, ?, ?)",
            (container_id, network_id, json.dumps(asdict(endpoint))),
        )

    def disconnect(self, container_id: str, network_id: str) -> None:
        self._database.execute(
            "DELETE FROM network_connections WHERE container_id = ? AND network_id = ?", (container_id, network_id)
        )

    def forget(self, container_id: str) -> None:
        self._database.execute("DELETE FROM network_connections WHERE container_id = ?", (container_id,))
