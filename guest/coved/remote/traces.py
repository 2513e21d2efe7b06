"""What an engine leaves on its host when all its processes have ended: devices, packet rules, cgroups, the folder of the boot, and that
the host is a router."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from coved.networks.manager import TABLE
from coved.networks.nftables import Nftables
from coved.networks.rtnetlink import Netlink, delete_link
from coved.networks.subdevices import GONE
from coved.remote.places import CGROUP, HOST, OF_THE_BOOT

ROUTERS = ("/run/docker.sock", "/sys/class/net/docker0", "/sys/class/net/podman0", "/sys/class/net/virbr0")
"""Of a host, signs of others that have it forward packets."""
CGROUPS_S = 10.0
"""Seconds in which the kernel lets go of the cgroups of processes that have been killed."""


def clear(name: str, state: Path) -> None:
    """Take it all away; what is not there is no matter.

    Args:
        name: the engine's.
        state: the folder of the boot.

    Raises:
        OSError, EngineError: something stays; the text says what.
    """
    _devices(state)
    _rules(f"{TABLE}-{name}")
    _forwarding(name, state)
    _cgroups(Path(CGROUP + name))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(state)
    with contextlib.suppress(OSError):  # others have theirs in it
        state.parent.rmdir()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _devices(state: Path) -> None:
    bridges = _names(state / "bridges")
    if not (made := bridges | _names(state / "parents")):
        return
    with contextlib.closing(Netlink()) as netlink:
        links = netlink.links()
        indexes = {link.index for link in links if link.name in bridges}
        # The other ends are in namespaces that end with the last process in them, which the kernel does later.
        ports = [link.name for link in links if link.master in indexes]
        netlink.run([delete_link(name) for name in [*ports, *sorted(made)]], ignore=GONE)


def _rules(table: str) -> None:
    with contextlib.closing(Nftables()) as nft:
        nft.run(f"add table inet {table}\ndelete table inet {table}")


def _forwarding(name: str, state: Path) -> None:
    """Where the host was no router before, it is none again, unless somebody else may need it by now."""
    made = _names(state / "unrouted")
    others = _names(Path(HOST + OF_THE_BOOT)) - {name}
    for other in others:  # who is the last puts it back
        for family in made:
            with contextlib.suppress(OSError):  # it ends as well
                Path(HOST + OF_THE_BOOT, other, "unrouted", family).touch()
    if not made or others or any(os.path.exists(HOST + sign) for sign in ROUTERS):
        return
    if "ipv4" in made:
        _write("net/ipv4/ip_forward", "0")
    if "ipv6" in made:
        for which in ("default", "all"):
            _write(f"net/ipv6/conf/{which}/forwarding", "0")


def _write(name: str, value: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # a kernel without it
        Path("/proc/sys", name).write_text(value)


def _cgroups(root: Path) -> None:
    deadline = time.monotonic() + CGROUPS_S
    while root.exists():
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if not root.exists():
            return
        if time.monotonic() > deadline:
            raise OSError(f"the cgroup {root} is still in use")
        time.sleep(0.05)  # nothing tells when a cgroup has no dying processes any more
