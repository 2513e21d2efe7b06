"""The ways to QEMU's ends of its character devices: QMP and the VM's serial ports. They outlive the agent, and are this user's alone.

On Linux and macOS each is a listening unix socket that the agent makes and QEMU inherits. QEMU for Windows inherits none, and Python for
Windows knows no unix sockets; there each is a port of 127.0.0.1 that QEMU listens on, which talks to nobody but whoever has the key that
was made for this VM, by TLS with certificates on both sides (docs/decisions/0055).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from qemu.qmp import QMPClient

from cove.drivers.base import Serve, StreamEnd
from cove.drivers.qemu import chardevs
from cove.drivers.qemu.chardevs import Execute
from cove.drivers.qemu.words import escaped, place
from cove.errors import CoveError, DriverError
from cove.local import sockets
from cove.machine.files import write_whole
from cove.machine.paths import MachinePaths, private_dir

BACKLOG = 4
CONNECTED_S = 60.0
"""In which a process that was started for a stream has connected; what looks at each program for viruses may look at it first."""
CONNECTED_YET_S = 0.05
_LISTENS = re.compile(r"disconnected:.*?127\.0\.0\.1:(\d+),server")


@dataclass(frozen=True, slots=True)
class Ends:
    """What QEMU is told. `addresses`: of each character device, what its options say of where it listens."""

    addresses: Mapping[str, str]
    objects: Sequence[str] = ()
    """Further words of its command line."""
    inherited: Sequence[int] = ()


class Channels(ABC):
    """Of one machine. `oldest`: the first version of QEMU that has them. `qemu_listens`: not before QEMU has come so far."""

    oldest: ClassVar[tuple[int, ...]] = ()
    qemu_listens: ClassVar[bool] = False

    def __init__(self, paths: MachinePaths) -> None:
        self._places = {
            "qmp": paths.qmp_socket,
            "link": paths.link_socket,
            "seed": paths.seed_socket,
            "streams": paths.streams_socket,
        }

    @abstractmethod
    def make(self) -> contextlib.AbstractContextManager[Ends]:
        """In the place of those of an earlier VM. What QEMU inherits is closed here at the end of the block. Raises `DriverError`."""

    @abstractmethod
    def connect(self, name: str, timeout_s: float) -> socket.socket:
        """To what QEMU has at the other end of a character device; blocks. Raises `OSError`."""

    @abstractmethod
    async def open_stream(self, client: QMPClient, execute: Execute, tag: str, serve: Serve) -> None:
        """Give QEMU, which runs, one more character device, and start the process that has the other end. Raises `DriverError`."""


class UnixChannels(Channels):
    @contextlib.contextmanager
    def make(self) -> Iterator[Ends]:
        if sys.platform == "win32":
            raise AssertionError("QEMU for Windows inherits no sockets")
        with contextlib.ExitStack() as stack:
            fds = {}
            for name, path in self._places.items():
                try:
                    fds[name] = stack.enter_context(sockets.listen(path, BACKLOG)).fileno()
                except OSError as error:
                    raise DriverError(f"{path} cannot be made: {error.strerror}") from error
            yield Ends({name: f"fd={fd}" for name, fd in fds.items()}, (), [*fds.values()])

    def connect(self, name: str, timeout_s: float) -> socket.socket:
        return sockets.connect(self._places[name], timeout_s)

    async def open_stream(self, client: QMPClient, execute: Execute, tag: str, serve: Serve) -> None:
        theirs, qemus = socket.socketpair()
        with theirs, qemus:
            serve(StreamEnd(theirs.fileno()))
            theirs.close()
            client.send_fd_scm(qemus.fileno())
            await execute("getfd", {"fdname": tag})
            await chardevs.add(execute, tag, {"addr": {"type": "fd", "data": {"str": tag}}, "server": False})


class TlsChannels(Channels):
    """At a channel's path is a file that names its port.

    QEMU before 8.0 forgets that it has decrypted more than it has read, and does so only when more comes.
    """

    oldest: ClassVar[tuple[int, ...]] = (8, 0)
    qemu_listens: ClassVar[bool] = True

    def __init__(self, paths: MachinePaths) -> None:
        super().__init__(paths)
        self._paths = paths

    @property
    def _keys(self) -> Path:
        return self._paths.run_dir / "qemu-tls"

    @contextlib.contextmanager
    def make(self) -> Iterator[Ends]:
        from cove.local import certificates

        try:
            shutil.rmtree(self._keys, ignore_errors=True)
            certificates.make(private_dir(self._keys))
            ports = _free_ports(len(self._places))
            for path, port in zip(self._places.values(), ports, strict=True):
                write_whole(path, json.dumps({"port": port}).encode())
        except (OSError, CoveError) as error:
            raise DriverError(f"no channels to QEMU can be made in {self._paths.run_dir}: {error}") from error
        folder = escaped(place(self._keys, self._paths.folder))
        yield Ends(
            {
                name: f"host=127.0.0.1,port={port},ipv4=on,ipv6=off,tls-creds=channels"
                for name, port in zip(self._places, ports, strict=True)
            },
            ("-object", f"tls-creds-x509,id=channels,dir={folder},endpoint=server,verify-peer=on"),
        )

    def connect(self, name: str, timeout_s: float) -> socket.socket:
        from cove.local import tls

        try:
            port = json.loads(self._places[name].read_bytes())["port"]
        except (ValueError, KeyError, TypeError):
            raise ConnectionRefusedError(f"{self._places[name]} names no port") from None
        return tls.connect(port, self._keys, timeout_s)

    async def open_stream(self, client: QMPClient, execute: Execute, tag: str, serve: Serve) -> None:
        # Somebody else of this computer may connect first, whom QEMU hears alone for as long as they say nothing; not twice in a row.
        if not await self._open_stream(execute, tag, serve) and not await self._open_stream(execute, tag, serve):
            raise DriverError("the server of a folder does not connect to QEMU")

    async def _open_stream(self, execute: Execute, tag: str, serve: Serve) -> bool:
        """At a port of its own. Whether the process has connected; one that has not is ended."""
        address = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0", "ipv4": True, "ipv6": False}}
        await chardevs.add(execute, tag, {"addr": address, "server": True, "wait": False, "tls-creds": "channels"})
        if (listens := _LISTENS.match(await chardevs.state(execute, tag))) is None:
            raise DriverError("QEMU does not say at which port it listens")
        process = serve(StreamEnd(-1, int(listens[1]), self._keys))
        deadline = time.monotonic() + CONNECTED_S
        while (await chardevs.state(execute, tag)).startswith("disconnected:"):  # no event tells
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                await asyncio.to_thread(process.wait)
                return False
            await asyncio.sleep(CONNECTED_YET_S)
        return True


def of(paths: MachinePaths) -> Channels:
    """Those of this computer's system."""
    return TlsChannels(paths) if sys.platform == "win32" else UnixChannels(paths)


def _free_ports(count: int) -> list[int]:
    """TCP ports that nobody has at this moment. Should one be taken before QEMU has it, QEMU says so and is started again."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
