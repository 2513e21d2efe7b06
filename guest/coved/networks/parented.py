"""Networks of the drivers ``macvlan`` and ``ipvlan``: each container has a device of its own on a device of the machine, the
parent. What their options may be, and what an endpoint of theirs is; Docker's rules, and its words where it refuses.

There is no address of the machine's own on such a network, and nothing is translated: no port is published there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from coved.errors import EngineError
from coved.networks.definition import Network
from coved.networks.model import Endpoint, EndpointRequest

DRIVERS = ("macvlan", "ipvlan")

_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}  # linux/if_link.h, enum macvlan_mode
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}  # enum ipvlan_mode
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}  # IPVLAN_F_*
_IFNAMSIZ = 16
_OWN_PREFIX = {"macvlan": "dm-", "ipvlan": "di-"}


@dataclass(frozen=True)
class Kind:
    """What a container's device shall be, in the kernel's numbers. ``flags`` are ipvlan's alone."""

    driver: str
    mode: int
    flags: int = 0

    @property
    def passthru(self) -> bool:
        """The one device takes the parent over, its MAC included."""
        return self.driver == "macvlan" and self.mode == _MACVLAN_MODES["passthru"]

    @property
    def routed(self) -> bool:
        """No device answers ARP, and all packets are handed to the machine's own routing (ipvlan's l3 and l3s)."""
        return self.driver == "ipvlan" and self.mode != _IPVLAN_MODES["l2"]


def kind(network: Network) -> Kind:
    """Of a network of one of these drivers. Raises EngineError for options that the driver does not know."""
    options = network.options
    if network.driver == "macvlan":
        mode = options.get("macvlan_mode") or "bridge"
        if mode not in _MACVLAN_MODES:
            raise EngineError(
                f"requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver default"
            )
        return Kind("macvlan", _MACVLAN_MODES[mode])
    mode, flag = options.get("ipvlan_mode") or "l2", options.get("ipvlan_flag") or "bridge"
    if mode not in _IPVLAN_MODES:
        raise EngineError(f"requested ipvlan mode '{mode}' is not valid, 'l2' mode is the ipvlan driver default")
    if flag not in _IPVLAN_FLAGS:
        raise EngineError(f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default")
    return Kind("ipvlan", _IPVLAN_MODES[mode], _IPVLAN_FLAGS[flag])


def with_parent(network: Network) -> Network:
    """The network with the name of its parent, after a look at its options: the one asked for, or one of its own.

    Raises EngineError, as dockerd answers for options (a 500).
    """
    kind(network)
    parent = network.options.get("parent", "")
    if parent == "lo":
        raise EngineError(f"loopback interface is not a valid {network.driver} parent link")
    if not (parent.isprintable() and "/" not in parent and len(parent.encode()) < _IFNAMSIZ):  # nothing is called so
        raise EngineError(f"-o parent interface was not found on the host: {parent}")
    return replace(network, parent=parent or own_parent(network))


def own_parent(network: Network) -> str:
    """The name of the device that a network without the option ``parent`` has for itself, and that leads nowhere."""
    return _OWN_PREFIX[network.driver] + network.id[:12]


def is_closed(network: Network) -> bool:
    """Nothing outside is reached by it."""
    return network.internal or not network.options.get("parent")


def check_shared(network: Network, others: Iterable[Network]) -> None:
    """Raises EngineError when another network of the driver has the parent, and does not share it."""
    for other in others:
        if other.driver != network.driver or other.parent != network.parent or other.id == network.id:
            continue
        if network.driver == "ipvlan":
            raise EngineError(f"network {own_parent(other)} is already using parent interface {network.parent}")
        if kind(network).passthru:
            raise EngineError(
                f"cannot use mode passthru, macvlan network {other.id} is already using parent interface {network.parent}"
            )
        if kind(other).passthru:
            raise EngineError(
                f"macvlan network {other.id} is already using parent interface {network.parent} in mode passthru"
            )


def check_endpoint(network: Network, request: EndpointRequest) -> None:
    """Raises EngineError for what the driver cannot give a container."""
    if network.driver == "ipvlan" and request.mac_address:
        raise EngineError("ipvlan interfaces do not support custom mac address assignment")


def endpoint(network: Network, made: Endpoint) -> Endpoint:
    """``made``, which was made as a bridge's, as one of such a network."""
    routed, closed = kind(network).routed, is_closed(network)
    return replace(
        made,
        host_interface="",
        gateway="" if routed or closed else made.gateway,
        reach="" if closed else "device" if routed else "link",
        mac_address="" if network.driver == "ipvlan" else made.mac_address,  # all have the parent's
    )
