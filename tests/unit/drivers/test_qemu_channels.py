"""The ways to QEMU, with a real QEMU (whose VM is never started) at the other end: those of Windows, too, run on any system."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cove.drivers.base import StreamEnd
from cove.drivers.qemu import binary, chardevs, command
from cove.drivers.qemu.channels import Channels, Ends, TlsChannels, UnixChannels
from cove.drivers.qemu.driver import QemuDriver
from cove.errors import DriverError
from cove.local import certificates, tls
from cove.machine.architecture import here
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from qemu.qmp import QMPClient, QMPError

KINDS = [UnixChannels, TlsChannels]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePaths:
    monkeypatch.setenv("COVE_HOME", str(tmp_path))
    made = MachinePaths("default")
    made.folder.mkdir(parents=True)
    made.make_run_dir()
    return made


@pytest.fixture(autouse=True)
def an_older_qemu_reads_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its monitor does, and forgets the rest of a record (`TlsChannels`). All else is the same with a newer one."""
    if int(binary.version(binary.find("", here())).split(".")[0]) < TlsChannels.oldest[0]:
        monkeypatch.setattr(tls, "RECORD", 1)


@contextmanager
def qemu(paths: MachinePaths, channels: Channels) -> Iterator[None]:
    """One without a VM to speak of, whose link leads to a ring of 64 KiB: what is written there can be read by QMP."""
    with contextlib.ExitStack() as stack:
        with channels.make() as ends:
            stack.enter_context(running(paths, ends))
        yield


@contextmanager
def running(paths: MachinePaths, ends: Ends) -> Iterator[None]:
    words: list[str | Path] = [
        binary.find("", here()),
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "none",
        "-S",
    ]
    words += [*ends.objects, "-chardev", f"socket,id=qmp,{ends.addresses['qmp']},server=on,wait=off"]
    words += ["-mon", "chardev=qmp,mode=control", "-pidfile", paths.folder / "qemu.pid"]
    process = subprocess.Popen(words, cwd=paths.folder, pass_fds=ends.inherited, stderr=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        process.kill()
        _, said = process.communicate(timeout=30)
        assert "rror" not in said, said


async def connected(channels: Channels) -> QMPClient:
    """To a QEMU that may not listen yet."""
    async with asyncio.timeout(60):
        while True:
            client = QMPClient()
            try:
                await client.connect(await asyncio.to_thread(channels.connect, "qmp", 10))
                return client
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_qemu_is_spoken_to_and_outlives_who_spoke_to_it(kind: type[Channels], paths: MachinePaths) -> None:
    async def speak() -> Any:
        client = await connected(channels)
        try:
            return await client.execute("query-status")
        finally:
            await client.disconnect()

    channels = kind(paths)
    with qemu(paths, channels):
        assert asyncio.run(speak())["running"] is False
        channels = kind(paths)  # as another agent has it
        assert asyncio.run(speak())["running"] is False


AT_THE_END = """
import socket, sys
from pathlib import Path
from cove.local import tls
fd, port, keys = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
stream = socket.socket(fileno=fd) if fd >= 0 else tls.open_stream(port, keys, 20)
assert stream.recv_into(memoryview(bytearray(1))) == 0
"""
"""A process that has a stream's end until QEMU is no more."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_is_started_for_a_stream(kind: type[Channels], paths: MachinePaths) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def serve(end: StreamEnd) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", AT_THE_END, str(end.socket), str(end.port), str(end.keys)]
        started.append(subprocess.Popen(words, pass_fds=[end.socket] if end.socket >= 0 else ()))
        return started[-1]

    def ends_at_once(end: StreamEnd) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", ""])

    async def open_streams() -> str:
        client = await connected(channels)

        async def execute(name: str, arguments: dict[str, Any] | None) -> Any:
            try:
                return await client.execute(name, arguments)
            except QMPError as error:
                raise DriverError(str(error)) from error

        try:
            await channels.open_stream(client, execute, "folder0", serve)
            if kind is TlsChannels:
                with pytest.raises(DriverError, match="does not connect"):
                    await channels.open_stream(client, execute, "folder1", ends_at_once)
            return await chardevs.state(execute, "folder0")
        finally:
            await client.disconnect()

    channels = kind(paths)
    with qemu(paths, channels):
        state = asyncio.run(open_streams())
        assert state and not state.startswith("disconnected")
        assert started[0].poll() is None
    assert started[0].wait(30) == 0


def test_somebody_who_connects_first_and_says_nothing_does_not_keep_a_folder_away(paths: MachinePaths) -> None:
    started: list[subprocess.Popen[bytes]] = []
    strangers: list[socket.socket] = []

    def serve(end: StreamEnd) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", AT_THE_END, str(end.socket), str(end.port), str(end.keys)]
        if not strangers:
            strangers.append(socket.create_connection(("127.0.0.1", end.port)))
            words = [sys.executable, "-c", ""]  # as it ends when QEMU has not answered for long
        started.append(subprocess.Popen(words))
        return started[-1]

    async def open_stream() -> str:
        client = await connected(channels)

        async def execute(name: str, arguments: dict[str, Any] | None) -> Any:
            try:
                return await client.execute(name, arguments)
            except QMPError as error:
                raise DriverError(str(error)) from error

        try:
            await channels.open_stream(client, execute, "folder0", serve)
            return await chardevs.state(execute, "folder0")
        finally:
            await client.disconnect()

    channels = TlsChannels(paths)
    with qemu(paths, channels):
        state = asyncio.run(open_stream())
        assert state and not state.startswith("disconnected")
        assert started[1].poll() is None
    assert started[1].wait(30) == 0
    strangers[0].close()


class Late(TlsChannels):
    """QEMU begins when it has been looked for in vain."""

    def __init__(self, paths: MachinePaths, begin: Callable[[], object]) -> None:
        super().__init__(paths)
        self._begin = begin
        self.refused = 0

    def connect(self, name: str, timeout_s: float) -> socket.socket:
        try:
            return super().connect(name, timeout_s)
        except ConnectionRefusedError:
            self.refused += 1
            if self.refused == 1:
                self._begin()
            raise


def test_a_qemu_that_lives_is_waited_for_until_it_listens(paths: MachinePaths) -> None:
    async def take_over() -> None:
        driver = QemuDriver(paths)
        driver._channels = late
        assert await driver.adopt()
        assert await driver.plugged() == set()
        await driver.close()

    with contextlib.ExitStack() as stack:
        ends = stack.enter_context(TlsChannels(paths).make())
        late = Late(paths, lambda: stack.enter_context(running(paths, ends)))
        assert stack.enter_context(FileLock(paths.vm_lock)).try_acquire()
        asyncio.run(take_over())
    assert late.refused


def test_one_that_has_ended_is_not_waited_for(paths: MachinePaths) -> None:
    lock = FileLock(paths.vm_lock)
    late = Late(paths, lock.release)
    driver = QemuDriver(paths)
    driver._channels = late
    with late.make():
        pass
    assert lock.try_acquire()
    assert not asyncio.run(driver.adopt())
    assert late.refused == 1


def test_every_channel_is_told_of() -> None:
    names = {command.QMP, command.LINK, command.SEED, command.STREAMS}
    paths = MachinePaths("default")
    assert set(UnixChannels(paths)._places) == names


def greeted(sock: socket.socket) -> bool:
    """Whether QEMU says anything that is QMP."""
    sock.settimeout(2)
    try:
        return b"QMP" in sock.recv(1 << 16)
    except OSError:
        return False


def test_a_port_of_qemus_is_of_no_use_without_the_key(paths: MachinePaths, tmp_path: Path) -> None:
    async def speak() -> None:
        client = await connected(channels)
        await client.disconnect()

    channels = TlsChannels(paths)
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    certificates.make(strangers)
    with qemu(paths, channels):
        asyncio.run(speak())
        port = json.loads(paths.qmp_socket.read_text())["port"]
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b'{"execute": "qmp_capabilities"}\n')
            assert not greeted(plain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for keys in (None, strangers):
            if keys is not None:
                context.load_cert_chain(keys / "client-cert.pem", keys / "client-key.pem")
            with socket.create_connection(("127.0.0.1", port)) as raw:
                try:
                    with context.wrap_socket(raw) as other:
                        assert not greeted(other)
                except OSError:
                    pass
        asyncio.run(speak())  # and its owner is heard after all that


def test_who_has_taken_the_port_of_qemu_is_told_nothing(paths: MachinePaths, tmp_path: Path) -> None:
    channels = TlsChannels(paths)
    with channels.make():
        pass
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    certificates.make(strangers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(strangers / "server-cert.pem", strangers / "server-key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        paths.qmp_socket.write_text(json.dumps({"port": listener.getsockname()[1]}))

        async def both() -> None:
            connecting = asyncio.create_task(asyncio.to_thread(channels.connect, "qmp", 10))
            raw, _ = await asyncio.to_thread(listener.accept)
            with raw, pytest.raises(OSError):
                await asyncio.to_thread(
                    context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False).do_handshake
                )
            with pytest.raises(ssl.SSLCertVerificationError):
                await connecting

        asyncio.run(both())


def test_much_goes_through_both_ways_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of TLS alone: each side sends until the other has all of it, and neither waits for the other's reading."""
    certificates.make(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server-cert.pem", tmp_path / "server-key.pem")
    context.load_verify_locations(tmp_path / certificates.AUTHORITY)
    context.verify_mode = ssl.CERT_REQUIRED
    monkeypatch.setattr(tls, "RECORD", 1 << 14)
    much = bytes(range(256)) * (1 << 14)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(much)
        assert await reader.readexactly(len(much)) == much
        await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        sock = await asyncio.to_thread(tls.connect, port, tmp_path, 10)
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(much)
        assert await reader.readexactly(len(much)) == much
        await writer.drain()
        writer.close()
        server.close()

    asyncio.run(asyncio.wait_for(run(), 120))


def test_a_path_without_a_port_is_a_refusal(paths: MachinePaths) -> None:
    channels = TlsChannels(paths)
    with pytest.raises(FileNotFoundError):
        channels.connect("qmp", 1)
    paths.qmp_socket.write_text("nonsense")
    with pytest.raises(ConnectionRefusedError):
        channels.connect("qmp", 1)


def test_keys_are_this_users_alone(paths: MachinePaths) -> None:
    with TlsChannels(paths).make() as ends:
        (folder,) = paths.run_dir.glob("qemu-tls")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*-key.pem"))
        assert len({*ends.addresses.values()}) == 4
        assert all(address.startswith("host=127.0.0.1,port=") for address in ends.addresses.values())
