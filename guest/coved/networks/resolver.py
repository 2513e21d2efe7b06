"""The texts of a container's /etc/resolv.conf and /etc/hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path

from coved.networks.model import SandboxRequest

_OWN = Path("/etc/resolv.conf")
_SYSTEMD = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved keeps the real servers when /etc/resolv.conf names its own stub (systemd-resolved(8))."""
_PUBLIC = ("8.8.8.8", "8.8.4.4")
"""As dockerd does when the machine names no server that a container could reach."""

NAMES = "127.0.0.11"
"""Where a container's own DNS server is."""

MACHINE = ("host.docker.internal", "gateway.docker.internal")
"""The machine that a container's user sits at."""

_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def resolv_conf(request: SandboxRequest, *, host_mode: bool, names: bool = False) -> str:
    """resolv.conf(5) for a container: this machine's, unless the request has its own. Loopback servers are left out.

    Args:
        names: it has a DNS server of its own, which is the one to ask.
    """
    servers, search, options = _read(_OWN)
    if not host_mode:
        reachable = [server for server in servers if not _is_loopback(server)]
        if servers and not reachable and not request.dns:
            reachable = [server for server in _read(_SYSTEMD)[0] if not _is_loopback(server)]
        servers = reachable or list(_PUBLIC)
    servers = list(request.dns) or servers
    search = [domain for domain in request.dns_search if domain != "."] if request.dns_search else search
    options = list(request.dns_options) or options
    if names:
        servers = [NAMES]
        if not any(option.startswith("ndots:") for option in options):
            options = ["ndots:0", *options]  # the names of containers have no dots
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return "".join(f"{line}\n" for line in lines)


def servers() -> list[str]:
    """This machine's own DNS servers, those on its loopback included."""
    return _read(_OWN)[0] or list(_PUBLIC)


def has_ndots(request: SandboxRequest) -> bool:
    """Whether the request asks for domains to be appended first."""
    given = [option.removeprefix("ndots:") for option in request.dns_options if option.startswith("ndots:")]
    return bool(given) and given[-1].isdecimal() and int(given[-1]) > 0


def hosts(
    request: SandboxRequest,
    addresses: list[str],
    host_gateway: str,
    linked: Iterable[tuple[str, str]] = (),
    *,
    host_mode: bool,
    machine: str = "",
) -> str:
    """hosts(5) for a container that has ``addresses``; ``linked`` are addresses and names of others.

    Args:
        machine: the address of ``host.docker.internal`` when no DNS server knows the name.
    """
    text = _HOSTS
    if host_mode:
        try:
            text = Path("/etc/hosts").read_text().rstrip("\n") + "\n"
        except OSError:
            text = _HOSTS
    if machine and not {entry.partition(":")[0] for entry in request.extra_hosts} & {*MACHINE}:
        text += f"{machine}\t{' '.join(MACHINE)}\n"
    for entry in request.extra_hosts:
        name, _, address = entry.partition(":")
        text += f"{host_gateway if address == 'host-gateway' else address}\t{name}\n"
    text += "".join(f"{address}\t{names}\n" for address, names in linked)
    if names := "" if host_mode else _own_names(request):
        text += "".join(f"{address}\t{names}\n" for address in addresses)
    return text


def with_own_lines(text: str, request: SandboxRequest, addresses: Sequence[str]) -> str:
    """The hosts(5) ``text`` with a line of the container's own names for each of ``addresses``, and for no other address.

    What ``--add-host`` gave, and whatever else stands there, stays as it is.
    """
    names = _own_names(request)
    if not names:
        return text
    given = {entry.partition(":")[2] for entry in request.extra_hosts}
    lines, there = [], set()
    for line in text.splitlines(keepends=True):
        words = line.split()
        if words[1:] == names.split():
            if words[0] not in addresses and words[0] not in given:
                continue
            there.add(words[0])
        lines.append(line)
    new = [f"{address}\t{names}\n" for address in addresses if address not in there]
    if new and lines and not lines[-1].endswith("\n"):
        lines.append("\n")
    return "".join([*lines, *new])


def _own_names(request: SandboxRequest) -> str:
    if not request.hostname:
        return ""
    name = f"{request.hostname}.{request.domainname}" if request.domainname else request.hostname
    short = name.partition(".")[0]
    return name if short == name else f"{name} {short}"


def _read(path: Path) -> tuple[list[str], list[str], list[str]]:
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return servers, search, options
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *domains]:
                search = domains
            case ["options", *more]:
                options += more
    return servers, search, options


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True
