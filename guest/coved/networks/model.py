"""What the containers domain and the networks domain tell each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PortProto = Literal["tcp", "udp"]


@dataclass(frozen=True)
class PortRequest:
    """A port of a container that shall answer on the host.

    ``host_port`` 0 asks for any free port; ``host_port_end`` makes it the first free one of a range, ends included.
    """

    proto: PortProto
    container_port: int
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0


@dataclass(frozen=True)
class PublishedPort:
    """A port as it was bound on the host."""

    proto: PortProto
    container_port: int
    host_ip: str
    host_port: int
    guest_port: int = 0
    """The port of the VM's own address that the host forwards to; 0 when there is no VM."""
    inside: bool = False
    """Containers reach it, too, by ``host_port`` of any address of the VM: no other port has that number there."""


@dataclass(frozen=True)
class EndpointRequest:
    """One network that a container shall be on; addresses are allocated unless they are given."""

    network: str
    """Name, id or unique id prefix."""
    ipv4_address: str = ""
    mac_address: str = ""
    aliases: tuple[str, ...] = ()
    driver_opts: dict[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    """"target:alias" each: names that this container alone has for others on the network."""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    """Further addresses of the device, of either family."""
    gw_priority: int = 0
    """The network with the highest one is the way out."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EndpointRequest:
        """From what ``vars`` gave; what older engines did not know is missing."""
        return cls(**{**value, **{key: tuple(value.get(key, ())) for key in ("aliases", "links", "link_local_ips")}})


@dataclass(frozen=True)
class SandboxRequest:
    """What a container's network shall be (HostConfig.NetworkMode and NetworkingConfig of the API).

    ``mode`` is ``default``, ``bridge``, ``none``, ``host``, ``container:<full id>`` (its sandbox must be open), or the
    name or id of a network. ``endpoints`` adds further networks, or the addresses and aliases on the mode's own one.
    """

    container_name: str
    mode: str = "default"
    endpoints: tuple[EndpointRequest, ...] = ()
    ports: tuple[PortRequest, ...] = ()
    exposed: tuple[str, ...] = ()
    """Exposed ports as the API writes them ("80/tcp"); listed in settings even when they are not published."""
    hostname: str = ""
    domainname: str = ""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    """"name:address" each; the address ``host-gateway`` is the machine the engine runs on (in the VM: the laptop)."""
    linked: tuple[tuple[str, str], ...] = ()
    """Id of a container on the default network, and the names that /etc/hosts gives it (a legacy link)."""
    mac_address: str = ""
    quiet: bool = False
    """It is no container's (a build's command): no event tells of it, and no network shows it."""
    namespace: str = ""
    """Path of a network namespace that is there already, to be used instead of a new one (of a user namespace's)."""
    keep_ports: bool = False
    """A published port that another program has is lost for now, and does not keep the container from starting."""


@dataclass(frozen=True)
class Endpoint:
    """A container's place on one network."""

    network_id: str
    network_name: str
    endpoint_id: str
    interface: str
    """Name inside the container: eth0, eth1, ..."""
    host_interface: str
    """Name of the other end of the pair, a port of the network's bridge; "" of a macvlan or ipvlan, which has none."""
    address: str
    """IPv4 address without prefix length; empty on a network without IPv4."""
    prefix_length: int
    gateway: str
    """Empty on an internal network."""
    mac_address: str
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    address6: str = ""
    """IPv6 address without prefix length; empty on a network without IPv6."""
    prefix_length6: int = 0
    gateway6: str = ""
    link_local: tuple[str, ...] = ()
    """Further addresses, with their prefix lengths."""
    gw_priority: int = 0
    sysctls: tuple[tuple[str, str], ...] = ()
    """Kernel parameters of the device (paths below /proc/sys), and their values."""
    reach: Literal["", "device", "link"] = ""
    """Of what has no gateway: all packets go by its device (ipvlan's l3); those for its own link alone; "" nothing gets out."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that others reach it at, IPv4 first."""
        return tuple(filter(None, (self.address, self.address6)))

    @property
    def leads_out(self) -> bool:
        """There can be a default route of IPv4 by it."""
        return bool(self.gateway or (self.address and self.reach == "device"))

    @property
    def leads_out6(self) -> bool:
        """There can be one of IPv6."""
        return bool(self.gateway6 or (self.address6 and self.reach == "device"))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Endpoint:
        """From what ``asdict`` gave; what older engines did not know is missing."""
        lists = {key: tuple(value.get(key, ())) for key in ("aliases", "links", "link_local")}
        return cls(**{**value, **lists, "sysctls": tuple(map(tuple, value.get("sysctls", ())))})


@dataclass(frozen=True)
class Sandbox:
    """An open sandbox: a network namespace with everything in it that a container needs."""

    container_id: str
    netns_path: Path | None
    """The namespace to join; None for the engine's own (``host``)."""
    endpoints: tuple[Endpoint, ...]
    ports: tuple[PublishedPort, ...]
    resolv_conf: str
    """Text for the container's /etc/resolv.conf."""
    hosts: str
    """Text for the container's /etc/hosts."""


Settings = dict[str, Any]
"""NetworkSettings, as container inspect answers it."""
