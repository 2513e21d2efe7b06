"""Who holds a published port: the laptop (over the link), or this machine when there is no VM."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from typing import Protocol

from coved.errors import EngineError
from coved.link.protocol import MAX_PORTS, PortForward, Reply, in_each_others_way
from coved.networks.firewall import PortRule
from coved.networks.model import PortRequest, PublishedPort

log = logging.getLogger(__name__)

DEFAULT_HOST_IP = "127.0.0.1"
GUEST_PORTS = range(49152, 65536)
"""The dynamic ports of RFC 6335, section 6."""
_BACKLOG = 128


class PublishError(EngineError):
    """A port cannot be bound; the text is the end of Docker's message."""

    @classmethod
    def allocated(cls, request: PortRequest, holder: str = "") -> PublishError:
        """A container has it: ``holder``, when that is known; docker's words stand before it."""
        ports = f"{request.host_port}-{request.host_port_end}" if request.host_port_end else f"{request.host_port}"
        return cls(f"Bind for {_address(request)}:{ports} failed: port is already allocated{_bracketed(holder)}")

    @classmethod
    def in_use(cls, request: PortRequest, holder: str = "") -> PublishError:
        """Another program has it. The words are Go's, which dockerd and Docker Desktop pass on."""
        family = "6" if ":" in request.host_ip else "4"
        where = f"{_address(request)}:{request.host_port}"
        return cls(f"listen {request.proto}{family} {where}: bind: address already in use{_bracketed(holder)}")


def _address(request: PortRequest) -> str:
    return f"[{request.host_ip}]" if ":" in request.host_ip else request.host_ip or DEFAULT_HOST_IP


def _bracketed(holder: str) -> str:
    return f" ({holder})" if holder else ""


class PortPublisher(Protocol):
    """Binds ports of the host; what comes in there is translated by the rules that ``rules_for`` gives."""

    owner: Callable[[PublishedPort], str]
    """The name of the container that has a port, "" when it is not known; for the errors of others."""

    lost: Set[PublishedPort]
    """Those that somebody else has taken while nobody could hold them. They come back when they are free again."""

    on_lost: Callable[[PublishedPort, bool], None]
    """Told of each that is lost (True), and that is back (False); MUST NOT raise."""

    async def publish(self, requests: Sequence[PortRequest], *, keep: bool = False) -> tuple[PublishedPort, ...]:
        """All or none; MUST have bound them when it returns. Raises PublishError, or EngineError.

        Args:
            keep: what another program has is ``lost``, where there is a way to take it back, and no error.
        """

    async def unpublish(self, ports: Sequence[PublishedPort]) -> None:
        """Releases the ports; MUST NOT raise, for there is nothing that a caller could do."""

    def adopt(self, ports: Sequence[PublishedPort]) -> None:
        """Takes over ports that an earlier engine published."""

    def rules_for(self, port: PublishedPort, container_address: str) -> list[PortRule]: ...

    def listener(self, port: PublishedPort) -> socket.socket:
        """A socket that gets what comes in for a port to which no rule leads. Raises OSError."""

    def close(self) -> None: ...


def _checked(request: PortRequest) -> PortRequest:
    """With the address as the system writes it. Raises PublishError."""
    if not request.host_ip:
        return request
    try:
        if "%" in request.host_ip:  # Go's net.ParseIP, and so dockerd, knows no zones
            raise ValueError
        address = ipaddress.ip_address(request.host_ip.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise PublishError(f"{request.host_ip} is not an IP address") from None
    if address.version == 4 and str(address) != request.host_ip:
        raise PublishError(f"{request.host_ip} is not an IP address")
    return replace(request, host_ip=str(address))


def _collide(port: PublishedPort, request: PortRequest, number: int) -> bool:
    """Whether the one keeps ``number`` from being had for the other."""
    if (port.proto, port.host_port) != (request.proto, number):
        return False
    return in_each_others_way(request.host_ip or DEFAULT_HOST_IP, port.host_ip or DEFAULT_HOST_IP)


def _is_inside(request: PortRequest, number: int, others: Iterable[PublishedPort]) -> bool:
    """Whether containers shall reach it by ``number``, which it was bound to, beside the ``others``."""
    return request.host_ip in ("", "0.0.0.0") and not any(
        one.inside and (one.proto, one.host_port) == (request.proto, number) for one in others
    )


def _host_ports(request: PortRequest) -> Iterator[int]:
    return iter(range(request.host_port, max(request.host_port, request.host_port_end) + 1))


class Link(Protocol):
    async def publish(self, port: PortForward, *, keep: bool) -> Reply: ...

    async def unpublish(self, port: PortForward) -> Reply: ...


class LinkPublisher:
    """The host forwards its port to a port of the VM that is this publisher's own choice.

    Args:
        uplink: the device by which it comes in; "" is any.
    """

    def __init__(self, link: Link, uplink: str = "") -> None:
        self._link = link
        self._uplink = uplink
        self._live: dict[int, PublishedPort] = {}
        self.owner: Callable[[PublishedPort], str] = lambda port: ""
        """The name of the container that has a port."""
        self.lost: Set[PublishedPort] = frozenset()
        self.on_lost: Callable[[PublishedPort, bool], None] = lambda port, lost: None
        self._lost_ports: set[int] = set()
        """What the host has said last, by their guest ports: it may do so before it answers a request for them."""
        self._reserved: set[int] = set()
        # Elsewhere than the engine before, whose ports may have been in use a moment ago.
        self._next = secrets.randbelow(len(GUEST_PORTS))

    def live_ports(self) -> Iterable[PortForward]:
        """The forwards that the host shall have."""
        return [_forward(port) for port in self._live.values()]

    def set_lost(self, forwards: Iterable[PortForward]) -> None:
        """Exactly these are lost."""
        self._lost_ports = {forward.guest_port for forward in forwards}
        before, self.lost = self.lost, self._among_lost(self._live.values())
        for port in before ^ self.lost:
            if port.guest_port in self._live:
                self.on_lost(port, port in self.lost)

    def _among_lost(self, ports: Iterable[PublishedPort]) -> frozenset[PublishedPort]:
        return frozenset(port for port in ports if port.guest_port in self._lost_ports)

    async def publish(self, requests: Sequence[PortRequest], *, keep: bool = False) -> tuple[PublishedPort, ...]:
        tasks = [asyncio.ensure_future(self._publish(request, keep)) for request in requests]
        try:
            results = await asyncio.gather(*tasks, return_exceptions=True)
        except asyncio.CancelledError:
            # All tasks have ended by now. Those that were cancelled have withdrawn their port; the others have it bound.
            for task in tasks:
                if not task.cancelled() and task.exception() is None:
                    port = task.result()
                    del self._live[port.guest_port]
                    self._withdraw(_forward(port))
            raise
        published = tuple(result for result in results if isinstance(result, PublishedPort))
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            await self.unpublish(published)
            raise failures[0]
        return published

    async def unpublish(self, ports: Sequence[PublishedPort]) -> None:
        await asyncio.gather(*(self._unpublish(port) for port in ports))

    def adopt(self, ports: Sequence[PublishedPort]) -> None:
        self._live.update({port.guest_port: port for port in ports})

    def rules_for(self, port: PublishedPort, container_address: str) -> list[PortRule]:
        """The host's way in, and the one from inside. What was asked for at localhost is at this machine's, for containers
        with its network; of the host's other addresses none is here."""
        made = [PortRule(port.proto, "", port.guest_port, container_address, port.container_port)]
        address = "" if port.inside else port.host_ip
        if port.inside or address.startswith("127."):
            made.append(
                PortRule(port.proto, address, port.host_port, container_address, port.container_port, known=True)
            )
        return made

    def listener(self, port: PublishedPort) -> socket.socket:
        made = _socket(port.proto)
        try:
            if self._uplink:  # containers have no way to each other by it
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._uplink.encode())
            made.bind(("", port.guest_port))
        except OSError:
            made.close()
            raise
        return made

    def close(self) -> None:
        pass

    async def _publish(self, request: PortRequest, keep: bool) -> PublishedPort:
        request = _checked(request)
        guest_port = self._free_port()
        try:
            for host_port in _host_ports(request):
                if self._is_lost_to(request, host_port):
                    reply = Reply(0, ok=False, in_use=True)
                    continue
                wanted = PortForward(request.proto, guest_port, request.host_ip, host_port)
                last = host_port == max(request.host_port, request.host_port_end)
                try:
                    reply = await self._link.publish(wanted, keep=keep and last)
                except BaseException:
                    # The host may have bound it all the same: its next sync or this request takes it back.
                    self._withdraw(wanted)
                    raise
                if reply.ok and reply.ports:
                    bound = reply.ports[0]
                    if (bound.proto, bound.guest_port) != (wanted.proto, wanted.guest_port):
                        self._withdraw(wanted)
                        raise PublishError("the host answered for another port")
                    port = PublishedPort(
                        request.proto, request.container_port, bound.host_ip, bound.host_port, guest_port,
                        _is_inside(request, bound.host_port, self._live.values()),
                    )  # fmt: skip
                    self._live[guest_port] = port
                    self.lost |= self._among_lost([port])
                    return port
                if not reply.in_use:
                    raise PublishError(reply.error or "the host did not say what it bound")
            if request.host_port_end:
                raise PublishError.allocated(request)
            if (
                other := next((one for one in self._live.values() if _collide(one, request, host_port)), None)
            ) is not None:
                name = self.owner(other)
                raise PublishError.allocated(request, f"container {name} has it" if name else reply.error)
            raise PublishError.in_use(request, reply.error)
        finally:
            self._reserved.discard(guest_port)

    def _is_lost_to(self, request: PortRequest, number: int) -> bool:
        """Whether a container has it that has lost it: it comes back to that one."""
        return any(_collide(one, request, number) for one in self.lost)

    async def _unpublish(self, port: PublishedPort) -> None:
        self._live.pop(port.guest_port, None)
        self._lost_ports.discard(port.guest_port)
        self.lost -= {port}
        try:
            reply = await self._link.unpublish(_forward(port))
        except EngineError as error:
            # It is no longer among the live ports, so the sync of the host's next connection takes it away.
            log.warning("port %s:%d is not released yet: %s", port.host_ip, port.host_port, error)
        else:
            if not reply.ok:
                log.warning("the host could not release port %s:%d: %s", port.host_ip, port.host_port, reply.error)

    def _withdraw(self, wanted: PortForward) -> None:
        async def withdraw() -> None:
            try:
                await self._link.unpublish(wanted)
            except EngineError as error:
                log.debug("nothing to withdraw: %s", error)

        task = asyncio.get_running_loop().create_task(withdraw())
        _background.add(task)
        task.add_done_callback(_background.discard)

    def _free_port(self) -> int:
        """The one unused for longest, so that late packets to a former port find nobody."""
        if len(self._live) + len(self._reserved) >= MAX_PORTS:
            raise PublishError(f"{MAX_PORTS} ports are published, and a machine can have no more")
        for _ in GUEST_PORTS:
            port = GUEST_PORTS[self._next % len(GUEST_PORTS)]
            self._next += 1
            if port not in self._live and port not in self._reserved:
                self._reserved.add(port)
                return port
        raise AssertionError("there are more guest ports than may be published")


_background: set[asyncio.Task[None]] = set()


def _forward(port: PublishedPort) -> PortForward:
    return PortForward(port.proto, port.guest_port, port.host_ip, port.host_port)


class LocalPublisher:
    """Without a VM: a socket holds each port, so that no other program takes it; the packets never reach it.

    What comes before there is a rule, or when there is none any more, gets a reset, as from a port that nobody has.
    """

    def __init__(self, default_host_ip: str = DEFAULT_HOST_IP) -> None:
        self._default = default_host_ip
        self.owner: Callable[[PublishedPort], str] = lambda port: ""
        self.lost: Set[PublishedPort] = frozenset()
        self.on_lost: Callable[[PublishedPort, bool], None] = lambda port, lost: None
        self._sockets: dict[PublishedPort, socket.socket] = {}

    async def publish(self, requests: Sequence[PortRequest], *, keep: bool = False) -> tuple[PublishedPort, ...]:
        published: list[PublishedPort] = []
        try:
            for request in requests:
                published.append(self._publish(request))
        except EngineError:
            await self.unpublish(published)
            raise
        return tuple(published)

    async def unpublish(self, ports: Sequence[PublishedPort]) -> None:
        for port in ports:
            self.lost -= {port}
            if held := self._sockets.pop(port, None):
                _let_go(held)

    def adopt(self, ports: Sequence[PublishedPort]) -> None:
        for port in ports:
            try:
                self._sockets[port] = _hold(port.proto, port.host_ip, port.host_port)
            except OSError as error:
                log.warning("port %s:%d was taken in the meantime: %s", port.host_ip, port.host_port, error)
                self.lost |= {port}
                self.on_lost(port, True)

    def rules_for(self, port: PublishedPort, container_address: str) -> list[PortRule]:
        to = (port.host_port, container_address, port.container_port)
        if port.host_ip == "0.0.0.0":
            return [PortRule(port.proto, "", *to)]
        return [PortRule(port.proto, port.host_ip, *to), *([PortRule(port.proto, "", *to, known=True)] * port.inside)]

    def listener(self, port: PublishedPort) -> socket.socket:
        held = self._sockets.get(port)
        if held is None:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        asyncio.get_running_loop().remove_reader(held)  # who connects is the caller's from now on
        return held.dup()

    def close(self) -> None:
        for held in self._sockets.values():
            _let_go(held)
        self._sockets.clear()

    def _publish(self, request: PortRequest) -> PublishedPort:
        host_ip = _checked(request).host_ip or self._default
        if ":" in host_ip:
            raise PublishError(f"cannot publish on {host_ip}: without a VM, Cove publishes on IPv4 addresses only")
        for number in _host_ports(request):
            try:
                held = _hold(request.proto, host_ip, number)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise PublishError(f"listen {request.proto} {host_ip}:{number}: {error.strerror}") from None
                continue
            bound = held.getsockname()[1]
            inside = _is_inside(request, bound, [*self._sockets, *self.lost])
            port = PublishedPort(request.proto, request.container_port, host_ip, bound, inside=inside)
            self._sockets[port] = held
            return port
        if request.host_port_end:
            raise PublishError.allocated(request)
        if (other := next((one for one in self._sockets if _collide(one, request, number)), None)) is not None:
            name = self.owner(other)
            raise PublishError.allocated(request, f"container {name} has it" if name else "")
        raise PublishError.in_use(request)


def _socket(proto: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
    if proto == "tcp":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections must not hold the port
    return made


def _hold(proto: str, host_ip: str, port: int) -> socket.socket:
    held = _socket(proto)
    try:
        held.bind((host_ip, port))
        if proto == "tcp":
            held.setblocking(False)
            held.listen(_BACKLOG)  # with SO_REUSEADDR, two may be bound until one listens
            asyncio.get_running_loop().add_reader(held, _refuse, held)
    except OSError:
        held.close()
        raise
    return held


def _refuse(held: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = held.accept()
            with client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))  # closing resets


def _let_go(held: socket.socket) -> None:
    with contextlib.suppress(RuntimeError):  # of a loop that has ended, and with it what it waited for
        asyncio.get_running_loop().remove_reader(held)
    held.close()
