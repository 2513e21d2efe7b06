"""The devices behind ``macvlan`` and ``ipvlan`` networks: the parents, and containers' devices on them."""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Collection
from pathlib import Path

from coved.errors import EngineError
from coved.networks import parented
from coved.networks.definition import Network
from coved.networks.model import Endpoint
from coved.networks.namespaces import Namespace
from coved.networks.rtnetlink import (
    Netlink,
    NetlinkError,
    add_device,
    attribute,
    change_device,
    delete_link,
    interface_index,
    set_up,
)

log = logging.getLogger(__name__)

GONE = (errno.ENODEV, errno.ENOENT)
"""What the kernel answers when a device to be deleted is no more."""
_VLAN_ID, _MACVLAN_MODE, _IPVLAN_MODE, _IPVLAN_FLAGS = 1, 1, 1, 2  # IFLA_* of linux/if_link.h
_LAST_VLAN = 4094


class Parents:
    """Devices of the machine that containers' devices lie on: those that were there, and those that are made for a network.

    Args:
        directory: has a file for each device that was made here, from before it is until after it was: what an engine
            was killed over is found again, and what was there before is never taken away.
    """

    def __init__(self, directory: Path, netlink: Netlink) -> None:
        self._made = directory
        self._netlink = netlink
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def start(self, networks: Collection[Network]) -> None:
        """Makes what these networks lack, as all do after a boot, and takes away what no network has.

        What cannot be made is logged: its network's containers are told, when they start.
        """
        wanted = {network.parent for network in networks}
        for path in [path for path in self._made.iterdir() if path.name not in wanted]:
            self.drop(path.name)
        for network in networks:
            try:
                self.ensure(network)
            except (EngineError, OSError) as error:
                log.warning("network %s has no parent device: %s", network.name, error)

    def ensure(self, network: Network) -> None:
        """Raises EngineError or OSError; then there is nothing that was not there before."""
        name = network.parent
        if index := interface_index(name):
            if (self._made / name).exists():
                self._netlink.run([set_up(index)])  # which an engine was killed over
            return
        above, vlan = 0, b""
        if name != parented.own_parent(network):
            above, number = _vlan(name)
            vlan = attribute(_VLAN_ID, struct.pack("=H", number))
        (self._made / name).touch()
        try:
            self._netlink.run([add_device(name, "vlan" if vlan else "dummy", vlan, parent=above)])
            self._netlink.run([set_up(interface_index(name))])
        except BaseException as error:
            self.drop(name)
            if isinstance(error, NetlinkError) and vlan:
                raise EngineError(f"failed to create {name} vlan link: {_words(error)}") from None
            raise

    def drop(self, name: str) -> None:
        """Takes a parent away that was made here, and with it all devices on it; any other stays."""
        if (self._made / name).exists():
            self._netlink.run([delete_link(name)], ignore=GONE)
            (self._made / name).unlink(missing_ok=True)

    def add(self, network: Network, endpoint: Endpoint, namespace: Namespace) -> None:
        """Makes a container's device, down, in its namespace. Raises EngineError or OSError."""
        kind = parented.kind(network)
        parent = interface_index(network.parent)
        if not parent:
            raise EngineError(f"the requested parent interface {network.parent} was not found on the Docker host")
        if kind.driver == "macvlan":
            data = attribute(_MACVLAN_MODE, struct.pack("=I", kind.mode))
        else:
            data = attribute(_IPVLAN_MODE, struct.pack("=H", kind.mode))
            data += attribute(_IPVLAN_FLAGS, struct.pack("=H", kind.flags))
        name = _name_at_first(endpoint)
        # One that takes the parent over comes with its MAC, and the parent gets the one that it is given later.
        mac, later = ("", endpoint.mac_address) if kind.passthru else (endpoint.mac_address, "")
        try:
            self._netlink.run([add_device(name, kind.driver, data, parent, mac, namespace.fd)])
        except NetlinkError as error:
            # Among others: a device has either macvlan's on it, or ipvlan's, or is a port of a bridge.
            raise EngineError(f"failed to create the {kind.driver} port: {_words(error)}") from None
        index = next(link.index for link in namespace.netlink.links() if link.name == name)
        namespace.netlink.run([change_device(index, endpoint.interface, name, later)])


def is_made(endpoint: Endpoint, inside: Netlink) -> bool:
    return any(link.alias == _name_at_first(endpoint) for link in inside.links())


def remove(endpoint: Endpoint, inside: Netlink) -> None:
    """Whether it was finished or not. What a container has made itself stays, whatever it is called. Raises OSError."""
    mark = _name_at_first(endpoint)
    inside.run([delete_link(link.name) for link in inside.links() if mark in (link.name, link.alias)], ignore=GONE)


def _name_at_first(endpoint: Endpoint) -> str:
    """The kernel lets nobody make a device in another namespace with a name that is taken in this one, as eth0 is.

    Once it has its own name, this one is its alias, by which it is known: containers may rename it, or call theirs like it.
    """
    return f"cv{endpoint.endpoint_id[:12]}"


def _vlan(name: str) -> tuple[int, int]:
    """Index of the device, and number of the VLAN, that ``device.number`` names. Raises EngineError in Docker's words."""
    parts = name.split(".")
    if len(parts) == 1:
        raise EngineError(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    if len(parts) != 2:
        raise EngineError(
            f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
        )
    device, text = parts
    if not (text.isascii() and text.isdecimal()):
        raise EngineError(f"unable to parse a valid vlan id from: {text} (ex. eth0.10 for vlan 10)")
    if not (index := interface_index(device)):
        raise EngineError(f"-o parent interface was not found on the host: {device}")
    if not 1 <= int(text) <= _LAST_VLAN:
        raise EngineError(f"vlan id must be between 1-{_LAST_VLAN}, received: {int(text)}")
    return index, int(text)


def _words(error: NetlinkError) -> str:
    """As Go has them."""
    return os.strerror(error.errno).lower() if error.errno else str(error)
