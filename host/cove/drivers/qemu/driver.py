"""The QEMU driver: one process for one VM, spoken to over QMP; it outlives the agent."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from qemu.qmp import EventListener, QMPClient, QMPError, Runstate

from cove.drivers.base import Driver, Forward, Serve, VmSpec
from cove.drivers.qemu import (
    backlog,
    binary,
    channels,
    chardevs,
    command,
    inspection,
    lastwords,
    migration,
    plugs,
    qcow2,
    statekind,
)
from cove.drivers.qemu.identity import is_qemu_of
from cove.errors import CoveError, DriverError, PortInUse, StateError
from cove.local import processes
from cove.machine.files import MAX_CONSOLE, rotate, sync_folder
from cove.machine.locks import FileLock, whose
from cove.machine.paths import MachinePaths

log = logging.getLogger(__name__)

QMP_TIMEOUT_S = 20.0
LISTENING_S = 60.0
"""In which QEMU listens where it does so itself: what looks at each program for viruses may have a hundred of its libraries to read."""
LISTENS_YET_S = 0.1
INSPECT_TIMEOUT_S = 2.0
KILL_TIMEOUT_S = 10.0
LOOKED_AT_S = 0.5
LET_GO_S = 2.0
NO_ROOM = 1 << 20
"""Bytes of a disk that count for none."""
GUEST_ADDRESS = "10.0.2.15"
_LAUNCHES = 3
_PORT_TAKEN = "Failed to find an available port"
"""What QEMU says before the system's own words."""
_KILL = signal.SIGTERM  # with which os.kill ends a process at once on Windows
if sys.platform != "win32":
    _KILL = signal.SIGKILL
_FORWARD = re.compile(r"^ *(TCP|UDP)\[HOST_FORWARD\] +(\d+) +(\*|[\d.]+) +(\d+) +[\d.]+ +(\d+) ", re.MULTILINE)
"""A line of QEMU's `info usernet`: protocol, descriptor, address and port of this computer, port of the guest."""


class QemuDriver(Driver):
    """`program` (from `binary.find`) and `sandbox` (it can confine itself by seccomp: `probe.choose` finds out) are set before
    `start`; taking over a VM that runs needs neither. `known_version` spares `version` a start of the program.
    """

    name: ClassVar[str] = "qemu"

    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths
        self._channels = channels.of(paths)
        self.program = Path()
        self.sandbox = False
        self._qmp: QMPClient | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._exit: asyncio.Task[None] | None = None
        self._listening: list[asyncio.Task[None]] = []
        self._full = asyncio.Event()
        self._failures: asyncio.Task[None] | None = None
        self._held = asyncio.Event()
        self.known_version = ""

    @property
    def _pid_file(self) -> Path:
        return self._paths.folder / "qemu.pid"

    async def create(self, spec: VmSpec) -> None:
        if not self._paths.disk.exists():
            await asyncio.to_thread(qcow2.create, self._paths.disk, spec.disk_size)

    def version(self) -> str:
        self.known_version = self.known_version or binary.version(self.program)
        return self.known_version

    def state_kind(self, spec: VmSpec) -> str | None:
        return statekind.of(spec, self.program, self.version(), self.sandbox)

    async def start(self, spec: VmSpec, template: Path | None = None) -> None:
        await self._launch(spec, template)

    async def wake(self, spec: VmSpec, state: Path, consume: Callable[[], Awaitable[None]]) -> None:
        await self._launch(spec, state, consume)

    async def unfreeze(self) -> None:
        if self._qmp is None or (await self._execute("query-status"))["status"] in ("running", "io-error"):
            return
        await migration.cancel(self._qmp)
        await self._execute("cont")

    async def _launch(
        self, spec: VmSpec, saved_at: Path | None, consume: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Again when somebody was faster with a port that was free for one of the channels."""
        for _ in range(_LAUNCHES - 1):
            with contextlib.suppress(PortInUse):
                return await self._launch_once(spec, saved_at, consume)
        return await self._launch_once(spec, saved_at, consume)

    async def _launch_once(
        self, spec: VmSpec, saved_at: Path | None, consume: Callable[[], Awaitable[None]] | None
    ) -> None:  # fmt: skip
        if oldest := self._channels.oldest:
            version = await asyncio.to_thread(self.version)
            if tuple(map(int, version.split("."))) < oldest:
                needed = ".".join(map(str, oldest))
                raise DriverError(f"QEMU {version} is too old, {needed} is needed here", binary.REINSTALL)
        lock = FileLock(self._paths.vm_lock)
        try:
            lock.acquire(LOOKED_AT_S, "QEMU")  # whoever asks whether it is free holds it for a moment
        except CoveError:
            raise DriverError(
                f"a QEMU of machine {self._paths.name} runs already and does not answer",
                f"end it: kill -9 $(cat {self._pid_file})",
            ) from None
        rotate(self._paths.console_log, MAX_CONSOLE)
        rotate(self._paths.qemu_log, MAX_CONSOLE)
        lastwords.started(self._paths.qemu_log)
        with contextlib.ExitStack() as stack:
            stack.callback(lock.release)
            ends = stack.enter_context(self._channels.make())
            endpoints = command.Endpoints(self._paths.folder, ends, self._paths.console_log, self._pid_file)
            words = command.build(self.program, spec, endpoints, self.sandbox, binary.data_folder(self.program))
            inherited = [*ends.inherited, lock.fd]
            saved = -1
            if saved_at is not None:
                saved = _open(saved_at, os.O_RDONLY)
                stack.callback(os.close, saved)
                inherited.append(saved)
                words += ["-incoming", "defer"]
            log = stack.enter_context(self._paths.qemu_log.open("ab"))
            try:
                # With the lock's descriptor: QEMU lives on when the agent dies, and holds the lock as long.
                self._process = processes.start(words, log, inherited=inherited, folder=self._paths.folder, spared=True)
            except OSError as error:
                raise DriverError(f"{self.program} cannot be run: {error.strerror}", binary.REINSTALL) from error
        try:
            await self._connect()
            if consume is not None:
                await self._attach_disk()
            if self._qmp is not None and saved >= 0:
                await migration.load(self._qmp, saved)
            if consume is not None:
                await consume()
            await self._execute("cont")
        except BaseException as error:
            said = " ".join(lastwords.of_run(self._paths.qemu_log))
            await self.kill()
            if said and isinstance(error, DriverError):
                taken = PortInUse if _PORT_TAKEN in said else DriverError
                kind = StateError if isinstance(error, StateError) else taken
                raise kind(f"QEMU did not start: {said}", f"its log is {self._paths.qemu_log}") from None
            raise

    async def wait_held(self) -> None:
        await self._on_port_change(command.SEED, lambda open: self._held.set() if open else None)
        await self._held.wait()

    async def byte_code(self, most: int) -> bytes:
        what = f"what the machine {self._paths.name} has compiled"
        try:
            async with self._guest_waits() as (reader, writer):
                writer.write(b"bytecode\n")
                size = int(await reader.readline())
                if not 0 <= size <= most:
                    raise DriverError(f"{what} has {size} bytes")
                return await reader.readexactly(size)
        except (OSError, ValueError, EOFError) as error:  # of which TimeoutError is one
            raise DriverError(f"{what} cannot be had: {error or 'no answer in time'}") from error

    @contextlib.asynccontextmanager
    async def _guest_waits(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """The port on which the guest waits for its seed. Raises `OSError`."""
        async with asyncio.timeout(QMP_TIMEOUT_S):
            sock = await asyncio.to_thread(self._channels.connect, command.SEED, QMP_TIMEOUT_S)
            reader, writer = await asyncio.open_connection(sock=sock)
            try:
                yield reader, writer
            finally:
                writer.close()

    async def save(self, template: Path) -> None:
        try:
            await self._write(template)
        finally:
            await self._execute("cont")

    async def suspend(self, state: Path, unless: asyncio.Event | None = None) -> None:
        try:
            await self._write(state, unless)
        except BaseException:
            await self._execute("cont")
            raise

    async def written(self) -> tuple[int, int] | None:
        if self._qmp is None:
            return None
        try:
            async with asyncio.timeout(QMP_TIMEOUT_S):
                return await migration.so_far(self._qmp)
        except (TimeoutError, OSError, QMPError):
            return None

    async def _write(self, state: Path, unless: asyncio.Event | None = None) -> None:
        if self._qmp is None:
            raise DriverError(f"the VM of machine {self._paths.name} is not running")
        unfinished = state.with_name(f"{state.name}.{os.getpid()}")
        fd = _open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            await migration.save(self._qmp, fd, unless)
            await asyncio.to_thread(os.fsync, fd)
            unfinished.replace(state)
            await asyncio.to_thread(sync_folder, state.parent)
        except BaseException as error:
            full = shutil.disk_usage(state.parent).free < NO_ROOM  # QEMU does not tell why it could not write
            unfinished.unlink(missing_ok=True)
            if full and isinstance(error, DriverError | OSError):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(state)) from error
            if isinstance(error, OSError):
                raise DriverError(f"{state} cannot be written: {error.strerror}") from error
            raise
        finally:
            os.close(fd)

    async def _attach_disk(self) -> None:
        await self._execute("blockdev-add", command.data_node(self._paths.disk))
        device = {"path": f"/machine/peripheral/{command.DATA_DEVICE}", "property": "drive"}
        await self._execute("qom-set", device | {"value": command.DATA_NODE})

    async def begin(self, spec: VmSpec, seed: bytes) -> None:
        await self._attach_disk()
        await self._grow(spec.disk_size)
        try:
            async with self._guest_waits() as (reader, writer):
                writer.write(seed + b"\n")
                answer = await reader.readline()  # QEMU forgets what the guest has not read when this connection ends
        except (OSError, ValueError) as error:  # TimeoutError is one; so is a line without an end
            raise DriverError(
                f"the machine {self._paths.name} takes no seed: {error or 'no answer in time'}"
            ) from error
        if answer != b"ok\n":
            said = f"answers {answer[:64]!r}" if answer else "ended while it was given it"
            raise DriverError(f"the machine {self._paths.name} takes no seed: it {said}")

    async def _grow(self, size: int) -> None:
        """Make the data disk as large as `size` before the guest looks at it; it then grows its file system (coved.boot.disk)."""
        if qcow2.virtual_size(self._paths.disk) < size:
            await self._execute("block_resize", {"node-name": command.DATA_NODE, "size": size})

    async def adopt(self) -> bool:
        if FileLock(self._paths.vm_lock).is_free():
            return False
        try:
            await self._connect()
        except DriverError as error:
            log.error("QEMU (process %s) is ended, for nobody can speak to it: %s", self.pid(), error)
            await self.kill()
            return False
        return True

    def answers(self) -> bool:
        return self._qmp is not None and not FileLock(self._paths.vm_lock).is_free()

    async def _connect(self) -> None:
        client = QMPClient(f"cove-{self._paths.name}")
        failures = EventListener(names={"BLOCK_IO_ERROR"})
        client.register_listener(failures)
        try:
            sock = await self._dial()
            async with asyncio.timeout(QMP_TIMEOUT_S):
                await client.connect(sock)
        except (TimeoutError, OSError, QMPError) as error:
            raise DriverError(
                f"QEMU does not answer on {self._paths.qmp_socket}: {error or 'no answer in time'}"
            ) from error
        self._qmp = client
        self._exit = asyncio.get_running_loop().create_task(self._watch(client))
        self._failures = asyncio.get_running_loop().create_task(self._watch_disk(failures))
        if (await self._execute("query-status"))["status"] == "io-error":
            self._full.set()

    async def _dial(self) -> socket.socket:
        """A connection to QMP. Raises `OSError`."""
        deadline = time.monotonic() + LISTENING_S
        while True:
            try:
                return await asyncio.to_thread(self._channels.connect, command.QMP, QMP_TIMEOUT_S)
            except ConnectionRefusedError:
                ended = FileLock(self._paths.vm_lock).is_free()
                if ended or not self._channels.qemu_listens or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(LISTENS_YET_S)  # nothing tells when it does

    async def _watch(self, client: QMPClient) -> None:
        """End when QEMU does: its QMP connection breaks, and then it lets go of its lock."""
        while client.runstate is Runstate.RUNNING:
            await client.runstate_changed()
        with contextlib.suppress(Exception):
            await client.disconnect()
        self._qmp = None
        if await self._gone(KILL_TIMEOUT_S):
            lastwords.ended(self._paths.qemu_log, self._process.returncode if self._process else None)

    async def _watch_disk(self, failures: EventListener) -> None:
        """QEMU stops the VM at a write for which there is no room (werror=enospc, its default); other errors the guest sees."""
        async for event in failures:
            data: Any = event["data"]
            if data.get("nospace") and data.get("action") == "stop":
                log.error("the VM stands still: the disk of %s is full", self._paths.folder)
                self._full.set()

    def disk_is_full(self) -> bool:
        return self._full.is_set()

    async def wait_disk_full(self) -> None:
        await self._full.wait()

    async def resume(self) -> None:
        self._full.clear()
        await self._execute("cont")

    async def _gone(self, timeout_s: float) -> bool:
        """Wait until the process has let go of the lock, which the kernel does at its end."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, timeout_s)
        # A QEMU that an earlier agent started is no child of ours: the lock is all that tells of its end.
        for _ in range(int(timeout_s / 0.05)):
            if FileLock(self._paths.vm_lock).is_free():
                return True
            await asyncio.sleep(0.05)
        return FileLock(self._paths.vm_lock).is_free()

    async def _execute(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        if self._qmp is None:
            raise DriverError(f"the VM of machine {self._paths.name} is not running")
        try:
            async with asyncio.timeout(QMP_TIMEOUT_S):
                return await self._qmp.execute(name, arguments)
        except (TimeoutError, OSError, QMPError) as error:
            raise DriverError(f"QEMU refused {name}: {error or 'no answer in time'}") from error

    async def inspected(self) -> str:
        said: list[str] = []
        with contextlib.suppress(TimeoutError, DriverError):
            async with asyncio.timeout(INSPECT_TIMEOUT_S):
                for line in inspection.COMMANDS:
                    said.append(await self._monitor(line))
        return inspection.shown(said)

    async def power_button(self) -> None:
        await self._execute("system_powerdown")

    async def quit(self) -> None:
        # QEMU may close the connection before it has answered.
        with contextlib.suppress(DriverError, EOFError):
            await self._execute("quit")

    async def kill(self) -> None:
        pid = self.pid()
        if pid is not None and self._process is None and not is_qemu_of(pid, self._pid_file):
            pid = None  # a stale pid file: that process is a stranger's
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, _KILL)
        if not await self._gone(KILL_TIMEOUT_S):
            if pid is None:
                raise DriverError(
                    f"the QEMU of machine {self._paths.name} does not end, and its process is not known",
                    whose(self._paths.vm_lock),
                )
            raise DriverError(f"QEMU (process {pid}) does not end", f"end it by hand: kill -9 {pid}")

    async def wait_exit(self) -> None:
        if self._exit is not None:
            await asyncio.shield(self._exit)

    async def close(self) -> None:
        if self._exit is not None and self.pid() is None:
            # What tells how QEMU has ended is on its way to the log.
            await asyncio.wait((self._exit,), timeout=KILL_TIMEOUT_S)
        tasks = [task for task in (*self._listening, self._failures, self._exit) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._qmp = self._qmp, None
        if client is not None:  # QEMU talks to one at a time
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LET_GO_S):
                    await client.disconnect()

    def pid(self) -> int | None:
        if FileLock(self._paths.vm_lock).is_free():
            return None
        if self._process is not None:
            return self._process.pid
        try:
            return int(self._pid_file.read_text("ascii"))
        except (OSError, ValueError):
            return None

    async def forward(self, forward: Forward) -> None:
        rule = f"{_end(forward)}-{GUEST_ADDRESS}:{forward.guest_port}"
        said = await self._monitor(f"hostfwd_add {command.NETDEV} {rule}")
        if said:
            raise PortInUse(f"port {forward.host_port} on {forward.host_ip} cannot be bound")
        if forward.proto == "tcp" and sys.platform == "linux":
            await self._lengthen_queue(forward)

    async def _lengthen_queue(self, forward: Forward) -> None:
        """Tried only: the port is bound."""
        try:
            pid, fd = self.pid(), (await self._descriptors()).get(forward)
            if pid is not None and fd is not None:
                backlog.lengthen(pid, fd)
        except (OSError, DriverError) as error:
            log.info("port %d lets two connections wait, not more: %s", forward.host_port, error)

    async def forwards(self) -> set[Forward]:
        return {*await self._descriptors()}

    async def _descriptors(self) -> dict[Forward, int]:
        """The forwards, and QEMU's descriptors of their sockets."""
        found = _FORWARD.findall(await self._monitor("info usernet"))
        return {
            Forward(proto.lower(), "0.0.0.0" if address == "*" else address, int(port), int(guest_port)): int(fd)
            for proto, fd, address, port, guest_port in found
        }

    async def unforward(self, forward: Forward) -> None:
        await self._monitor(f"hostfwd_remove {command.NETDEV} {_end(forward)}")

    async def _monitor(self, line: str) -> str:
        # QMP has no command of its own for forwards.
        return str(await self._execute("human-monitor-command", {"command-line": line})).strip()

    async def plugged(self) -> set[str]:
        return await plugs.found(self._execute)

    async def plug_folder(self, tag: str) -> None:
        await plugs.folder(self._execute, tag)

    async def plug_virtiofs(self, tag: str, socket: Path) -> None:
        await plugs.virtiofs(self._execute, tag, socket)

    async def plug_stream(self, tag: str, serve: Serve) -> None:
        client = self._client()
        try:
            await self._channels.open_stream(client, self._execute, tag, serve)
            await plugs.stream(self._execute, tag)
        except DriverError:
            await chardevs.remove(self._execute, tag)
            raise

    async def unplug(self, tag: str) -> None:
        await plugs.away(self._client(), self._execute, tag)

    async def held_by(self) -> list[str]:
        return list((await self._execute("query-migrate")).get("blocked-reasons", ()))

    def _client(self) -> QMPClient:
        if self._qmp is None:
            raise DriverError(f"the VM of machine {self._paths.name} is not running")
        return self._qmp

    def connect_link(self) -> socket.socket:
        return self._channels.connect(command.LINK, QMP_TIMEOUT_S)

    def connect_streams(self, timeout_s: float) -> socket.socket:
        return self._channels.connect(command.STREAMS, timeout_s)

    async def on_link_change(self, callback: Callable[[bool], None]) -> None:
        await self._on_port_change(command.LINK, callback)

    async def on_streams_change(self, callback: Callable[[bool], None]) -> None:
        await self._on_port_change(command.STREAMS, callback)

    async def _on_port_change(self, port: str, callback: Callable[[bool], None]) -> None:
        client = self._client()
        listener = EventListener(names={"VSERPORT_CHANGE"})
        client.register_listener(listener)

        async def listen() -> None:
            async for event in listener:
                data: Any = event["data"]
                if data["id"] == port:
                    callback(bool(data["open"]))

        self._listening.append(asyncio.get_running_loop().create_task(listen()))
        devices = await self._execute("query-chardev")
        if any(device["label"] == port and device["frontend-open"] for device in devices):
            callback(True)


def _end(forward: Forward) -> str:
    if not re.fullmatch(r"[0-9.]+", forward.host_ip):
        raise DriverError(f"QEMU's user networking cannot bind {forward.host_ip}: only IPv4 addresses")
    return f"{forward.proto}:{forward.host_ip}:{forward.host_port}"


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o600)
    except OSError as error:
        raise DriverError(f"{path} cannot be opened: {error.strerror}") from error
