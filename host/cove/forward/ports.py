"""Published ports: what the guest asks for, bound on this computer by the hypervisor, or relayed to it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

from coved.link.protocol import PortForward, in_each_others_way
from coved.link.relay import Relay

from cove.drivers.base import Forward, Forwarding
from cove.errors import DriverError, PortInUse
from cove.forward import holders

log = logging.getLogger(__name__)

_ATTEMPTS = 8
LOOPBACK = "127.0.0.1"
SSH_PORT = 22
"""Of the guest: its forward is the agent's own."""


class PortForwards:
    """Keeps the forwards that are. `default_address` is bound where the guest names none; who is `confined` may name no other one that
    can be reached from elsewhere.

    A `PortInUse` that it raises has as its message who has the port, or nothing: the engine puts docker's words before it.
    """

    def __init__(self, driver: Forwarding, default_address: str, *, confined: bool = False) -> None:
        self._driver = driver
        self._default = default_address
        self._confined = confined
        self._bound: set[Forward] | None = None
        """None: what an earlier agent has bound is not known yet, or what came of a change that had no answer."""
        self._relays: dict[Forward, tuple[Relay, Forward]] = {}
        """Those the hypervisor cannot bind, and the forward of its that each leads to."""
        self._owed: set[Forward] = set()
        """To be freed, as soon as the hypervisor answers again."""
        self._lock = asyncio.Lock()
        self.lost: dict[PortForward, str] = {}
        """Those that the guest shall have, and that could not be bound again: why, as far as it is known."""

    @property
    def any_bound(self) -> bool:
        """Whether a port is published; also while that is not known yet."""
        return self._bound is None or bool(self._bound)

    async def publish(self, port: PortForward, *, keep: bool = False) -> PortForward:
        """Bind a port and return it as it was bound. Raises `PortInUse`, `DriverError`.

        Args:
            keep: what another program has is lost, to be taken back when it is free, and not refused.
        """
        async with self._lock:
            await self._free_owed()
            try:
                return await self._publish(port)
            except PortInUse as error:
                forward = self._forward(port)
                if not keep or any(_collide(forward, other) for other in await self._present()):
                    raise
                kept = PortForward(port.proto, port.guest_port, forward.host_ip, forward.host_port)
                self.lost[kept] = str(error)
                log.warning("published port %s:%d is lost: %s", kept.host_ip, kept.host_port, error)
                return kept

    async def unpublish(self, port: PortForward) -> None:
        """Free a port; one that is not bound is no error."""
        async with self._lock:
            self.lost.pop(port, None)
            await self._free_owed()
            forward = self._forward(port)
            try:
                await self._free(forward)
            except DriverError:
                self._owed.add(forward)
                raise

    async def sync(self, ports: Sequence[PortForward]) -> list[PortForward]:
        """Make the forwards exactly `ports`; those that cannot be had again are left out of the result."""
        async with self._lock:
            self._owed.clear()  # all that is not wanted is freed here
            wanted = {self._forward(port) for port in ports}
            for forward in await self._present() - wanted:
                try:
                    await self._unbind(forward)
                except DriverError as error:
                    log.warning("port %s:%d is not freed: %s", forward.host_ip, forward.host_port, error)
            self.lost.clear()
            result = []
            for port in ports:
                try:
                    result.append(await self._publish(port))
                except DriverError as error:
                    self.lost[port] = str(error)
                    log.warning("published port %s:%d is lost: %s", port.host_ip, port.host_port, error)
            return result

    async def retake(self) -> None:
        """Bind those that were lost and are free by now. Nothing tells when that is so: whoever wants to know asks."""
        async with self._lock:
            for port in [*self.lost]:
                forward = self._forward(port)
                if not holders.is_free(forward.proto, forward.host_ip, forward.host_port):
                    continue
                try:
                    await self._publish(port)
                except DriverError as error:
                    self.lost[port] = str(error)
                else:
                    del self.lost[port]
                    log.info("published port %s:%d is back", port.host_ip, port.host_port)

    def close(self) -> None:
        """End the relays; what the hypervisor has bound stays."""
        for relay, _ in self._relays.values():
            relay.close()
        self._relays.clear()

    def _forward(self, port: PortForward) -> Forward:
        return Forward(port.proto, port.host_ip or self._default, port.host_port, port.guest_port)

    async def _present(self) -> set[Forward]:
        """After an agent's crash the hypervisor has forwards still, and some whose containers have ended meanwhile."""
        if self._bound is None:
            inner = {one for _, one in self._relays.values()}
            found = {one for one in await self._driver.forwards() if one.guest_port != SSH_PORT}
            self._bound = found - inner | self._relays.keys()
        return self._bound

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Around a change that the hypervisor is asked for: one that it does not answer may be made all the same, and later."""
        try:
            yield
        except PortInUse:
            raise
        except BaseException:
            self._bound = None
            raise

    async def _free_owed(self) -> None:
        for forward in [*self._owed]:
            try:
                await self._free(forward)
            except DriverError as error:
                log.warning("port %s:%d is not freed yet: %s", forward.host_ip, forward.host_port, error)
                return
            self._owed.discard(forward)

    async def _free(self, forward: Forward) -> None:
        if forward.host_port:
            await self._unbind(forward)
            return
        # Whoever asked for any port and did not wait for the answer does not know which it is.
        for bound in [*await self._present()]:
            if (bound.proto, bound.guest_port) == (forward.proto, forward.guest_port):
                await self._unbind(bound)

    async def _publish(self, port: PortForward) -> PortForward:
        if port.guest_port == SSH_PORT:
            raise DriverError(f"port {SSH_PORT} of the machine is not published")
        wanted = self._forward(port)
        if self._confined and not _within(wanted.host_ip, self._default):
            raise DriverError(
                f"a machine on another computer publishes its ports at localhost, or at this machine's bind_address"
                f" ({self._default}), and not at {wanted.host_ip}: leave the address out, or set bind_address to it"
            )
        for attempt in range(_ATTEMPTS):
            forward = wanted if port.host_port else replace(wanted, host_port=free_port(port.proto, wanted.host_ip))
            if forward in await self._present():
                break
            try:
                await self._bind(forward)
                break
            except PortInUse:
                # Somebody was faster with a port that was free a moment ago: any other one will do.
                if not port.host_port and attempt < _ATTEMPTS - 1:
                    continue
                raise
        return PortForward(port.proto, port.guest_port, forward.host_ip, forward.host_port)

    async def _bind(self, forward: Forward) -> None:
        bound = await self._present()
        if any(_collide(forward, other) for other in bound):
            raise PortInUse("another container has it")
        await self._make_way(forward)
        for attempt in range(2):
            try:
                if _is_ipv6(forward.host_ip):
                    await self._relay(forward)
                else:
                    with self._changing():
                        await self._driver.forward(forward)
                break
            except PortInUse:
                refusal = await asyncio.to_thread(holders.refusal, forward.proto, forward.host_ip, forward.host_port)
                # Whoever had it may have let go of it since.
                if refusal is None and not attempt:
                    continue
                raise refusal or PortInUse("") from None
        bound.add(forward)

    async def _relay(self, forward: Forward) -> None:
        try:
            relay = Relay.listen(forward.proto, forward.host_ip, forward.host_port)
        except OSError as error:
            raise PortInUse(str(error)) from error
        try:
            inner = await self._bind_inner(forward)
            relay.serve(LOOPBACK, inner.host_port)
        except BaseException:
            relay.close()
            raise
        self._relays[forward] = relay, inner

    async def _bind_inner(self, forward: Forward) -> Forward:
        for _ in range(_ATTEMPTS):
            inner = Forward(forward.proto, LOOPBACK, free_port(forward.proto, LOOPBACK), forward.guest_port)
            try:
                with self._changing():
                    await self._driver.forward(inner)
            except PortInUse:
                continue
            except BaseException:
                self._owed.add(inner)
                raise
            return inner
        raise DriverError("no port of 127.0.0.1 can be had")

    async def _make_way(self, forward: Forward) -> None:
        """A relay's inner forward has a port that nobody chose: it moves when somebody wants that one."""
        for outer, (relay, inner) in [*self._relays.items()]:
            if not _collide(forward, inner):
                continue
            other = await self._bind_inner(outer)
            relay.lead(LOOPBACK, other.host_port)
            self._relays[outer] = relay, other
            try:
                with self._changing():
                    await self._driver.unforward(inner)
            except BaseException:
                self._owed.add(inner)
                raise

    async def _unbind(self, forward: Forward) -> None:
        bound = await self._present()
        if forward not in bound:
            return  # the hypervisor would take away whatever has that port
        relay, inner = self._relays.get(forward, (None, forward))
        with self._changing():
            await self._driver.unforward(inner)
        # Only now: a port that could not be freed is known still, and the next sync tries again.
        if relay is not None:
            relay.close()
            del self._relays[forward]
        bound.discard(forward)


def _is_ipv6(address: str) -> bool:
    return ":" in address


def _within(address: str, default: str) -> bool:
    """Whether it can be reached from nowhere else, or is what the user has said, or part of that."""
    asked, said = ipaddress.ip_address(address), ipaddress.ip_address(default)
    return asked.is_loopback or asked == said or (said.is_unspecified and said.version == asked.version)


def _collide(one: Forward, other: Forward) -> bool:
    """Whether the second keeps the first from being bound."""
    same = (one.proto, one.host_port) == (other.proto, other.host_port)
    return same and in_each_others_way(one.host_ip, other.host_ip)


def free_port(proto: str, address: str) -> int:
    """A port that is free at this moment. Raises `DriverError`."""
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    try:
        with socket.socket(socket.AF_INET6 if _is_ipv6(address) else socket.AF_INET, kind) as probe:
            probe.bind((address, 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise DriverError(f"{address} is not an address of this computer: {error.strerror}") from error
