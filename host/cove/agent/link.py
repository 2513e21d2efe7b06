"""The host's end of the link (docs/architecture.md, section 2). Every byte from the guest is taken for hostile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

from coved.link import protocol
from coved.link.protocol import GuestMessage, Ready, Reply
from coved.outside import Outside

from cove.errors import AgentError, CoveError, PortInUse
from cove.forward.ports import PortForwards
from cove.share.manager import Folders

if TYPE_CHECKING:
    from cove.share.watching.watcher import Watcher

log = logging.getLogger(__name__)

Level = Literal["busy", "running", "idle"]
_CHUNK = 1 << 16
GREET_AGAIN_S, GREET_RARELY_S = 2.0, 30.0
"""A guest's kernel may hear of what the host says before it hears that the host is there, and then takes no answer of the engine's."""
KEEP_S, KEEP_RARELY_S = 0.1, 2.0
"""Between tries for an engine that is not there yet, or whose words end the connection before it is ready."""
DRIFT_S, SEEN_S = 600.0, 60.0
"""Until an engine is told the time again: while it has containers, and when a client comes. A clock that is 100 ppm slower than another
is 60 ms behind by then."""
MAX_WORK = 256
"""Requests that are worked on at a time; a guest that sends more, or does not read the answers, waits."""


class Link:
    """One connection to QEMU's end of the port: for as long as the VM lives, and its engine keeps to the protocol."""

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        ports: PortForwards,
        boot_id: str,
        outside: Outside | None = None,
        folders: Folders | None = None,
    ) -> None:
        """``connect``: makes a connection to the hypervisor's end of the port; blocks. ``outside``: what each engine is told of it;
        None: what the one before it knew."""
        self._folders = folders
        if folders is not None:
            folders.send = self._send
        self._connect = connect
        self._ports = ports
        self._boot_id = boot_id
        self._outside = outside
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._decoder = protocol.FrameDecoder()
        self._chunks = 0
        self._heard = asyncio.Event()
        self._greeting: asyncio.Task[None] | None = None
        self._greetings = 0
        """Each begins another engine's words: their numbers begin anew."""
        self._work: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()
        """Set while an engine answers."""
        self.answering = threading.Event()
        """The same for threads."""
        self.engine: Ready | None = None
        self.level: Level = "busy"
        """What the engine is busy with (`coved.activity`), as far as it has told."""
        self.on_level: Callable[[], None] = lambda: None
        """Called when that changes, and when the guest has asked for ports or let go of some."""
        self.watcher: Watcher | None = None
        """Of the folders that the guest has, once it has any."""
        self._told_lost: tuple[protocol.PortForward, ...] | None = None
        self.on_engine_death: Callable[[float], None] = lambda at: None
        """Called when another engine answers in the place of one that ended without a word, at that time."""
        self._died_at: float | None = None
        self._stopping = False
        """The guest or we have said that the engine ends."""
        self._said_ready = self._synced = False
        """By the engine that was greeted last: it answers; and the ports are those that it shall have."""
        self._was_ready = False
        """An engine of the connection that `_keep` has made."""
        self._told_time = 0.0
        self._drift: asyncio.TimerHandle | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def was_opened(self) -> bool:
        """By an engine of the guest's, since this side has it."""
        return self._greetings > 0

    async def open(self) -> None:
        """Raises `AgentError`."""
        try:
            sock = await asyncio.to_thread(self._connect)
            reader, self._writer = await asyncio.open_connection(sock=sock)
        except OSError as error:
            raise AgentError(f"the link to the machine cannot be opened: {error.strerror or error}") from error
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    def keep(self) -> None:
        """Come to each engine from now on, where nothing tells when one opens its end: it is tried while there is none."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        again_s = KEEP_S
        while True:
            self._was_ready = False
            with contextlib.suppress(AgentError):
                await self.open()
                self.changed(True)
                assert self._reading is not None
                await asyncio.wait((self._reading,))
            if self._was_ready:
                again_s = KEEP_S
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, KEEP_RARELY_S)

    def leave(self) -> None:
        """Be away until `keep` is called again: the guest is about to stand still."""
        for task in (self._keeping, self._reading, self._greeting):
            if task is not None:
                task.cancel()
        self._keeping = None
        self._lost()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._decoder.reset()

    def changed(self, open: bool) -> None:
        """The guest has opened or closed its end: an engine that starts is greeted, one that ends answers no more."""
        if not open and self._said_ready and not self._stopping:
            self._died_at = time.time()
        self._lost()
        if self._greeting is not None:
            self._greeting.cancel()
        self._greeting = asyncio.get_running_loop().create_task(self._greet()) if open else None

    async def _greet(self) -> None:
        # An engine is silent until it is greeted, so what is still to be read is of one that has died, perhaps amid a frame.
        read = -1
        while read != self._chunks:
            read = self._chunks
            for _ in range(3):  # the loop looks at the socket, the stream takes what is there, and _read has it
                await asyncio.sleep(0)
        if self._writer is None:
            if self._keeping is not None:
                return  # it has ended since, and `_keep` comes again
            try:
                await self.open()
            except AgentError as error:
                log.error("%s", error)
                return
        again_s = GREET_AGAIN_S
        self._heard.clear()
        while not self._heard.is_set() and self._writer is not None:
            self._decoder.reset()
            self._told_lost = None
            if self.watcher is not None:
                self.watcher.guest_began()
            self._greetings += 1
            self._synced = False
            self._send(protocol.Hello(protocol.VERSION, time.time_ns(), self._outside, answers_time=True).to_json())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), again_s)
            again_s = min(2 * again_s, GREET_RARELY_S)

    def _lost(self) -> None:
        self._said_ready = False
        self.ready.clear()
        self.answering.clear()
        self._leveled("busy")
        self._await_drift()

    def _leveled(self, level: Level) -> None:
        if level != self.level:
            self.level = level
            self._await_drift()
            self.on_level()

    @property
    def publishes(self) -> bool:
        """Whether the guest has ports of this computer."""
        return self._ports.any_bound

    def tell_time(self) -> None:
        """For a guest whose clock stood still meanwhile, or goes at another pace, or whose host's was set."""
        self._told_time = time.monotonic()
        self._send(protocol.Time(time.time_ns()).to_json())
        self._await_drift()

    def seen(self) -> None:
        """A client has come: the guest's clock matters to somebody."""
        if self.ready.is_set() and time.monotonic() - self._told_time > SEEN_S:
            self.tell_time()

    def _await_drift(self) -> None:
        """Nothing tells of it. An engine without containers is left in peace."""
        if self._drift is not None:
            self._drift.cancel()
        busy = self.level != "idle" and self.ready.is_set()
        self._drift = asyncio.get_running_loop().call_later(DRIFT_S, self.tell_time) if busy else None

    def tell_outside(self, outside: Outside) -> None:
        """Of proxies and certificates, which may have changed."""
        if outside != self._outside:
            self._outside = outside
            self._send(protocol.News(outside).to_json())

    def tell_changes(self, changes: protocol.Changes) -> None:
        """Of folders that the guest has asked for."""
        self._send(changes.to_json())

    async def retake_ports(self) -> None:
        """Take those published ports that others had, and that are free by now."""
        if self._ports.lost and self._told_lost is not None:
            await self._ports.retake()
            self._tell_lost()

    @property
    def lost_ports(self) -> dict[str, str]:
        """Why each is lost: "127.0.0.1:8080/tcp", and who has it."""
        return {
            f"{f'[{port.host_ip}]' if ':' in port.host_ip else port.host_ip}:{port.host_port}/{port.proto}": why
            for port, why in self._ports.lost.items()
        }

    def _tell_lost(self) -> None:
        lost = tuple(self._ports.lost)
        if lost != self._told_lost:
            self._told_lost = lost
            self._send(protocol.Lost(lost).to_json())

    def shutdown(self, timeout_s: int) -> None:
        """Ask the engine to stop the containers and power off."""
        self._stopping = True
        self._send(protocol.Shutdown(timeout_s).to_json())

    async def close(self) -> None:
        if self._drift is not None:
            self._drift.cancel()
        for task in (self._keeping, self._reading, self._greeting):
            if task is not None:
                task.cancel()
        if self._writer is not None:
            self._writer.close()
        self._ports.close()

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(protocol.encode(message))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await _next(reader):
            self._chunks += 1
            self._heard.set()
            try:
                for raw in self._decoder.feed(data):
                    self._handle(protocol.parse_guest_message(raw))
            except protocol.ProtocolError as error:
                # Nothing after it can be trusted to begin where a frame begins.
                log.error("the machine's link is closed until its engine starts again: %s", error)
                break
            while len(self._work) >= MAX_WORK:
                await asyncio.wait(self._work, return_when=asyncio.FIRST_COMPLETED)
        else:
            if self._keeping is not None:
                self.changed(False)  # its end is the engine's
        self._lost()
        self._hang_up()

    def _handle(self, message: GuestMessage) -> None:
        match message:
            case Ready():
                if message.boot_id != self._boot_id:
                    log.warning("ready from another boot (%s)", message.boot_id[:32])
                    return
                self.engine = message
                self._said_ready, self._stopping = True, False
                if self._died_at is not None:
                    died_at, self._died_at = self._died_at, None
                    self.on_engine_death(died_at)
                self._let_in()
            case protocol.AskTime():
                self._send(protocol.Time(time.time_ns(), message.id).to_json())
            case protocol.Sync() | protocol.Publish() | protocol.Unpublish():
                self._begin(self._answer(message))
            case protocol.Watch():
                if self.watcher is not None:
                    self._begin(self.watcher.watch(message.paths))
            case protocol.Changed():
                if self.watcher is not None:
                    self.watcher.answered(message.id)
            case protocol.Stopping():
                self._stopping = True
                self._lost()
            case protocol.Activity():
                self._leveled(message.level)
            case protocol.WantShares():
                if self._folders is not None:
                    self._folders.wanted_by_guest()
            case protocol.Shared():
                if self._folders is not None:
                    self._folders.answered(message)

    def _let_in(self) -> None:
        """Clients, once nothing is bound any more of what ended while nobody heard of it."""
        if self._said_ready and self._synced and not self.ready.is_set():
            self._told_time = time.monotonic()  # by the greeting
            self._was_ready = True
            self.ready.set()
            self.answering.set()
            self._await_drift()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _answer(self, message: protocol.Sync | protocol.Publish | protocol.Unpublish) -> None:
        asked = self._greetings
        try:
            if isinstance(message, protocol.Sync):
                bound = tuple(await self._ports.sync(message.ports))
            elif isinstance(message, protocol.Publish):
                bound = (await self._ports.publish(message.port, keep=message.keep),)
            else:
                await self._ports.unpublish(message.port)
                bound = (message.port,)
            reply = Reply(message.id, ok=True, ports=bound)
        except CoveError as error:
            reply = Reply(message.id, ok=False, error=str(error), in_use=isinstance(error, PortInUse))
        except Exception as error:  # the guest must not wait for an answer that does not come
            log.exception("the machine's %s failed", type(message).__name__.lower())
            reply = Reply(message.id, ok=False, error=f"the machine's agent failed: {error!r}")
        if asked != self._greetings:
            return  # the one that asked is no more; the next begins with a sync
        if isinstance(message, protocol.Publish) and message.keep:
            self._tell_lost()  # first: with the answer the engine knows whether it has the port
        self._send(reply.to_json())
        if isinstance(message, protocol.Sync):
            self._tell_lost()
            self._synced = True
            self._let_in()
        else:  # a moment to look: what has been given up may be what another wants, and nothing tells of other programs'
            await self.retake_ports()
        self.on_level()
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()


async def _next(reader: asyncio.StreamReader) -> bytes:
    """What has come; nothing at the end, in whichever way the connection ended."""
    try:
        return await reader.read(_CHUNK)
    except OSError as error:
        log.info("the machine's link has broken: %s", error)
        return b""
