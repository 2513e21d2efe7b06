"""What networks and sandboxes are in the kernel. Blocking calls of a millisecond or so, for one thread of their own."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from coved.errors import EngineError
from coved.networks import namespaces, subdevices
from coved.networks.addresses import Subnet, mac_of
from coved.networks.definition import INHIBIT_IPV4, Network
from coved.networks.endpoints import Gateways
from coved.networks.fastpath import FastPath
from coved.networks.firewall import Firewall, PortRule
from coved.networks.model import Endpoint
from coved.networks.rtnetlink import (
    LOOPBACK_INDEX,
    Interface,
    Netlink,
    Request,
    add_address,
    add_bridge,
    add_device_route,
    add_veth,
    cut_off,
    delete_address,
    delete_link,
    forward_to,
    interface_index,
    keep_apart,
    replace_default_route,
    set_up,
)
from coved.networks.subdevices import GONE, Parents

log = logging.getLogger(__name__)


class Datapath:
    """Bridges, namespaces, pairs between them, and packet rules.

    Args:
        namespaces_dir: where namespaces are mounted.
        table: name of the packet rules' table; engines side by side on one machine need different ones.
        uplink: the device that published ports are reached by, when there is only one; "" is any.
        beside: others use this machine as well, though there is an uplink.
    """

    def __init__(self, namespaces_dir: Path, table: str, uplink: str = "", beside: bool = False) -> None:
        self._directory = namespaces_dir
        # A file for each bridge, there before the bridge and until after it: what an engine was killed over is found again.
        self._bridges = namespaces_dir.parent / "bridges"
        # A file for each family ("ipv4", "ipv6") in which this machine was no router before an engine needed it to be one.
        self._unrouted = namespaces_dir.parent / "unrouted"
        for directory in (self._directory, self._bridges, self._unrouted):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._table = table
        self._netlink = Netlink()
        self.parents = Parents(namespaces_dir.parent / "parents", self._netlink)
        self._uplink = uplink
        self._firewall: Firewall | None = None
        self._beside = beside
        self._fast = FastPath(table, uplink) if uplink and not beside else None
        self._spare: namespaces.Namespace | None = None
        self._forwards_ipv6 = False

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
        self._netlink.close()
        if self._firewall is not None:
            self._firewall.close()
        if self._fast is not None:
            self._fast.close()

    def path(self, container_id: str) -> Path:
        return self._directory / container_id

    def has_namespace(self, container_id: str) -> bool:
        return namespaces.is_mounted(self.path(container_id))

    def surroundings(self) -> tuple[list[Subnet], set[str]]:
        """The subnets that the machine has addresses in or routes to, and the names of its devices."""
        subnets = [interface.network for _, interface in self._netlink.addresses()] + self._netlink.routes()
        return subnets, self.links()

    def links(self) -> set[str]:
        return {link.name for link in self._netlink.links()}

    def has_device(self, container_id: str, endpoint: Endpoint) -> bool:
        """Whether an endpoint's device without another end is there; what is left of one that is not is taken away."""
        with contextlib.suppress(OSError), contextlib.closing(namespaces.enter(self.path(container_id))) as namespace:
            if subdevices.is_made(endpoint, namespace.netlink):
                return True
            subdevices.remove(endpoint, namespace.netlink)
        return False

    def start(self, networks: Sequence[Network], keep: Mapping[str, Endpoint], ports: Iterable[PortRule]) -> None:
        """Makes the kernel's state that of these networks and ports.

        Args:
            keep: endpoints in use, by the name of their host interface; other ports of the bridges are removed.
        """
        self.parents.start([network for network in networks if network.parent])
        networks = [network for network in networks if network.bridge]
        for name in {path.name for path in self._bridges.iterdir()} - {network.bridge for network in networks}:
            self.drop_bridge(name)
        for network in networks:
            self._ensure_bridge(network)
        links = self._netlink.links()
        bridges = {link.index for link in links if link.name in {network.bridge for network in networks}}
        orphans = [link.name for link in links if link.master in bridges and link.name not in keep]
        self._netlink.run([delete_link(name) for name in orphans], ignore=GONE)
        self._firewall = Firewall(self._table, self._uplink, beside=self._beside)
        if not _is_router("ipv4"):
            self._keep_unrouted("ipv4")
        unrouted = [family for family in ("ipv4", "ipv6") if (self._unrouted / family).exists()]
        self._firewall.reset([network.rule for network in networks], ports, unrouted)
        # Only now: where nobody wants this machine to be a router, the rules have to be there first.
        for name in ("all", "default"):  # devices that come later follow the default
            _sysctl(f"net/ipv4/conf/{name}/forwarding", "1")
        _sysctl("net/ipv4/ip_forward", "1")
        if any(network.block6 is not None for network in networks):
            self._forward_ipv6()
        if self._fast is not None:
            self._fast.reset(network.bridge for network in networks if not network.internal)

    def remove_namespaces_except(self, container_ids: Collection[str]) -> None:
        for path in self._directory.iterdir():
            if path.name not in container_ids:
                namespaces.remove(path)

    def add_network(self, network: Network) -> None:
        if network.parent:
            self.parents.ensure(network)
            return
        try:
            self._ensure_bridge(network)
            if network.block6 is not None:
                self._forward_ipv6()
            self._rules.add_bridge(network.rule)
        except BaseException:
            self.drop_bridge(network.bridge)
            raise
        if self._fast is not None and not network.internal:
            self._fast.add(network.bridge)

    def remove_network(self, network: Network) -> None:
        """Nothing leads to it any more, so that its subnets are free; its bridge is there until :meth:`drop_bridge`."""
        if network.parent:
            return
        self._rules.remove_bridge(network.rule)
        index = interface_index(network.bridge)
        addresses = [delete_address(index, interface) for interface in _bridge_interfaces(network)]
        self._netlink.run(addresses if index else [], ignore=(*GONE, errno.EADDRNOTAVAIL))

    def drop_bridge(self, name: str) -> None:
        """Waits for all processors to have let go of it, which takes tens of milliseconds."""
        self._drop_bridge(name, self._netlink)

    def drop_bridge_aside(self, name: str) -> None:
        """The same, for another thread than that of all other methods; the bridge is not asked for again before it is done."""
        with contextlib.closing(Netlink()) as netlink:
            self._drop_bridge(name, netlink)

    def _drop_bridge(self, name: str, netlink: Netlink) -> None:
        netlink.run([delete_link(name)], ignore=GONE)
        (self._bridges / name).unlink(missing_ok=True)

    def open(
        self,
        container_id: str,
        endpoints: Sequence[tuple[Network, Endpoint]],
        ways: Gateways,
        ports: Sequence[PortRule],
        existing: str = "",
    ) -> Path:
        """Makes a namespace with these endpoints, and lets these ports lead to it; all of it or nothing.

        Args:
            ways: those of the endpoints that lead out.
            existing: path of a namespace to be used instead of a new one.
        """
        path = self.path(container_id)
        devices = [endpoint for _, endpoint in endpoints]
        self._remove_namespace(container_id, devices)  # of an engine that died in between
        with contextlib.closing(self._namespace(existing, ahead=bool(endpoints))) as namespace:
            namespaces.mount(namespace, path)
            try:
                self._attach(namespace, endpoints, ways)
            except BaseException:
                self._remove_namespace(container_id, devices)
                raise
        try:
            self.add_ports(ports)
        except BaseException:
            self._remove_namespace(container_id, devices)
            raise
        return path

    def _remove_namespace(self, container_id: str, endpoints: Sequence[Endpoint]) -> None:
        self.drop_devices(container_id, endpoints)
        namespaces.remove(self.path(container_id))

    def prepare(self) -> None:
        """Makes the next namespace ahead. What cannot be made now is made, or told, when it is needed."""
        if self._spare is None:
            try:
                self._spare = self._create()
            except OSError as error:
                log.info("no network namespace can be made ahead: %s", error)

    def _namespace(self, existing: str, *, ahead: bool) -> namespaces.Namespace:
        if existing:
            return _with_loopback(namespaces.adopt(existing))
        spare: namespaces.Namespace | None = None
        if ahead:  # one that gets no endpoints is made before anybody has to wait for it
            spare, self._spare = self._spare, None
        return spare or self._create(for_devices=ahead)

    def _create(self, *, for_devices: bool = True) -> namespaces.Namespace:
        return _with_loopback(namespaces.create(for_devices=for_devices))

    def close_sandbox(
        self, container_id: str, endpoints: Sequence[Endpoint], ports: Sequence[PortRule], shared: bool
    ) -> None:
        """Ends ports and namespace; does as much as it can. Its pairs lead nowhere when this returns, and end later: with the
        namespace, unless somebody else holds that, and else by :meth:`drop_pairs_aside`.

        Args:
            shared: another container is in the namespace, so the pairs are removed here (which takes far longer).
        """
        try:
            self.remove_ports(ports)
        except Exception as error:
            log.warning("ports of %s: %s", container_id, error)
        self.drop_devices(container_id, endpoints)
        pairs = [delete_link(endpoint.host_interface) for endpoint in endpoints if endpoint.host_interface]
        try:
            if shared:
                self._netlink.run(pairs, ignore=GONE)
            else:
                self._cut_off(endpoints)
        finally:
            namespaces.remove(self.path(container_id))

    def _cut_off(self, endpoints: Sequence[Endpoint]) -> None:
        """Their addresses are about to be given to others, and the far ends answer for as long as they are there."""
        indexes = [index for one in endpoints if (index := interface_index(one.host_interface))]
        try:
            self._netlink.run([cut_off(index) for index in indexes], ignore=GONE)
        except OSError as error:
            log.warning("pairs of a container that has ended: %s", error)
            self._netlink.run([delete_link(one.host_interface) for one in endpoints if one.host_interface], ignore=GONE)

    def drop_pairs_aside(self, endpoints: Sequence[Endpoint]) -> None:
        """What is left of their pairs, for another thread than that of the other methods: the kernel waits for all processors.

        A namespace may outlive its container: whoever has a descriptor of it or is in it holds it. (A copy of the machine's
        mounts does not, for with the file that it was mounted on, the kernel takes away what is mounted there anywhere.)
        """
        pairs = [delete_link(endpoint.host_interface) for endpoint in endpoints if endpoint.host_interface]
        with contextlib.closing(Netlink()) as netlink:
            netlink.run(pairs, ignore=GONE)

    def connect(self, container_id: str, network: Network, endpoint: Endpoint, ways: Gateways) -> None:
        """Adds an endpoint to a namespace in use, whose ways out are ``ways`` from now on."""
        with contextlib.closing(namespaces.enter(self.path(container_id))) as namespace:
            self._attach(namespace, [(network, endpoint)], ways)

    def disconnect(self, container_id: str, endpoint: Endpoint) -> None:
        if not endpoint.host_interface:
            with contextlib.closing(namespaces.enter(self.path(container_id))) as namespace:
                subdevices.remove(endpoint, namespace.netlink)
            return
        self._netlink.run([delete_link(endpoint.host_interface)], ignore=GONE)

    def drop_devices(self, container_id: str, endpoints: Sequence[Endpoint]) -> None:
        """Ends devices without another end now: the kernel ends namespaces when it likes, and until then the next container
        cannot have their addresses. What fails is logged."""
        try:
            for endpoint in endpoints:
                if not endpoint.host_interface:
                    self.disconnect(container_id, endpoint)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("devices of %s: %s", container_id, error)

    def set_ways_out(self, container_id: str, ways: Gateways) -> None:
        """After an endpoint that led out is gone; its own routes went with it."""
        with contextlib.closing(namespaces.enter(self.path(container_id))) as namespace:
            indexes = {link.name: link.index for link in namespace.netlink.links()}
            namespace.netlink.run(_default_routes(ways, indexes))

    def add_ports(self, ports: Sequence[PortRule]) -> None:
        self._rules.add_ports(ports)
        self._forget_udp(ports)  # afterwards: what comes in between is led to nobody, for as long as it keeps coming

    def remove_ports(self, ports: Sequence[PortRule]) -> None:
        try:
            self._rules.remove_ports(ports)
        finally:
            self._forget_udp(ports)

    @property
    def _rules(self) -> Firewall:
        if self._firewall is None:
            raise RuntimeError("the networks domain is not started")
        return self._firewall

    def _attach(
        self, namespace: namespaces.Namespace, endpoints: Sequence[tuple[Network, Endpoint]], ways: Gateways
    ) -> None:
        self._netlink.run(
            [
                add_veth(
                    endpoint.host_interface,
                    _bridge_index(network),
                    endpoint.interface,
                    endpoint.mac_address,
                    namespace.fd,
                    network.mtu,
                )
                for network, endpoint in endpoints
                if endpoint.host_interface
            ]
        )
        ports = [
            (network, endpoint, interface_index(endpoint.host_interface))
            for network, endpoint in endpoints
            if endpoint.host_interface
        ]
        self._netlink.run(
            [forward_to(index, endpoint.mac_address) for _, endpoint, index in ports]
            + [keep_apart(index) for network, _, index in ports if network.apart]
        )
        for network, endpoint in endpoints:
            if not endpoint.host_interface:
                self.parents.add(network, endpoint, namespace)
        if not endpoints:
            return
        namespaces.settle(
            namespace,
            {endpoint.interface: bool(endpoint.address6) for _, endpoint in endpoints},
            [one for _, endpoint in endpoints for one in endpoint.sysctls],
        )
        indexes = {link.name: link.index for link in namespace.netlink.links()}
        requests: list[Request] = []
        for _, endpoint in endpoints:
            index = indexes[endpoint.interface]
            requests.append(set_up(index))
            requests += [add_address(index, interface) for interface in _interfaces(endpoint)]
        namespace.netlink.run(requests + _default_routes(ways, indexes, {one.interface for _, one in endpoints}))

    def _ensure_bridge(self, network: Network) -> None:
        (self._bridges / network.bridge).touch()
        blocks = [*network.blocks]
        own = next((block.gateway for block in blocks if block.gateway), str(blocks[0].subnet.network_address))
        mac = mac_of(ipaddress.ip_address(own))
        self._netlink.run([add_bridge(network.bridge, mac, network.mtu)], ignore=(errno.EEXIST,))
        index = interface_index(network.bridge)
        requests = [set_up(index), *(add_address(index, interface) for interface in _bridge_interfaces(network))]
        if network.block6 is not None:
            _sysctl(f"net/ipv6/conf/{network.bridge}/disable_ipv6", "0")
        self._netlink.run(requests, ignore=(errno.EEXIST,))
        # Packets from 127.0.0.1 may leave by the bridge: that is how localhost reaches a published port.
        _sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "1")

    def _forward_ipv6(self) -> None:
        """Once there is a network with IPv6. The machine's own addresses may come from routers, whom a device that forwards
        does not listen to unless it is told so (accept_ra of the kernel's ip-sysctl)."""
        if self._forwards_ipv6:
            return
        if not _is_router("ipv6") and self._keep_unrouted("ipv6"):
            self._rules.route_nothing_else("ipv6")
        self._forwards_ipv6 = True
        for name in self.links():
            path = Path("/proc/sys/net/ipv6/conf") / name / "accept_ra"
            with contextlib.suppress(OSError):
                if path.read_text().strip() == "1":
                    path.write_text("2")
        for name in ("default", "all"):
            _sysctl(f"net/ipv6/conf/{name}/forwarding", "1")

    def _keep_unrouted(self, family: str) -> bool:
        """Whether it matters: where there is but one device, nobody can be led from one to another."""
        if self._uplink and not self._beside:
            return False
        (self._unrouted / family).touch()
        return True

    def _forget_udp(self, ports: Sequence[PortRule]) -> None:
        udp = [port for port in ports if port.proto == "udp"]
        if not udp:
            return
        from coved.networks import conntrack  # for UDP only

        addresses = {ipaddress.IPv4Address(port.container_address) for port in udp}
        try:
            conntrack.forget_udp({port.port for port in udp}, addresses)
        except OSError as error:
            log.warning("old UDP connections may go astray for half a minute: %s", error)


def _bridge_index(network: Network) -> int:
    """Raises EngineError when somebody has taken it away: the kernel would make a pair that leads nowhere."""
    if index := interface_index(network.bridge):
        return index
    raise EngineError(
        f"network {network.name} has lost its bridge {network.bridge}: remove the network and create it again"
    )


def _bridge_interfaces(network: Network) -> Iterator[Interface]:
    for block in network.blocks:
        inhibited = block.subnet.version == 4 and network.enabled(INHIBIT_IPV4, default=False)
        if block.gateway and not inhibited:
            yield ipaddress.ip_interface(f"{block.gateway}/{block.subnet.prefixlen}")


def _interfaces(endpoint: Endpoint) -> Iterator[Interface]:
    if endpoint.address:
        yield ipaddress.IPv4Interface(f"{endpoint.address}/{endpoint.prefix_length}")
    if endpoint.address6:
        yield ipaddress.IPv6Interface(f"{endpoint.address6}/{endpoint.prefix_length6}")
    for text in endpoint.link_local:
        yield ipaddress.ip_interface(text)


def _default_routes(ways: Gateways, indexes: Mapping[str, int], of: Container[str] | None = None) -> list[Request]:
    """To those of the ways that are devices ``of`` these names; None: to all of them."""
    requests = []
    for family, endpoint in ((socket.AF_INET, ways.ipv4), (socket.AF_INET6, ways.ipv6)):
        if endpoint is None or not (of is None or endpoint.interface in of):
            continue
        index = indexes[endpoint.interface]
        gateway = endpoint.gateway6 if family == socket.AF_INET6 else endpoint.gateway
        requests.append(
            replace_default_route(index, ipaddress.ip_address(gateway)) if gateway else add_device_route(index, family)
        )
    return requests


def _with_loopback(namespace: namespaces.Namespace) -> namespaces.Namespace:
    try:
        namespace.netlink.run([set_up(LOOPBACK_INDEX)])
    except BaseException:
        namespace.close()
        raise
    return namespace


def _is_router(family: str) -> bool:
    try:
        return Path(f"/proc/sys/net/{family}/conf/all/forwarding").read_text().strip() != "0"
    except OSError:  # of a kernel without it
        return True


def _sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys") / name
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except OSError as error:
        log.warning("cannot set %s to %s: %s", path, value, error)
