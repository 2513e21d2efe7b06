"""A VM that OVMF boots from a disk of `cove vm-image disk`, as Hyper-V's Generation 2 would: no kernel is given to it, and its disks
have no serial numbers. Seed, link and streams go over the ports that QEMU has for them; without those (`ports`) the seed is on a disk, as
under Hyper-V, and the link is a stream, which SSH has to carry: QEMU has no vsock here."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cove.errors import TransportError
from cove.forward.ports import free_port
from cove.local.sockets import connect
from cove.machine import keys
from cove.machine.paths import MachinePaths
from cove.transport.base import Stream, Transport
from cove.transport.serial import SerialTransport
from cove.transport.ssh import SshTransport
from coved.boot.places import SOCKET
from coved.link import protocol
from coved.link.client import DOOR
from coved.link.protocol import PortForward

BOOT_S = 600.0
"""Firmware, kernel and Python under software emulation, on a computer that has other things to do."""
GREET_AGAIN_S = 3.0
FIRMWARE, VARIABLES = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


class UefiVm:
    def __init__(self, place: Path, paths: MachinePaths, process: subprocess.Popen[bytes], ssh_port: int) -> None:
        self._place = place
        self._paths = paths
        self._process = process
        self._ssh_port = ssh_port
        self.boot_id = secrets.token_hex(16)
        self.streams: Transport = SerialTransport(partial(connect, place / "streams.sock"))
        self.bound: list[PortForward] = []
        """What the engine has had published, of a VM without ports."""

    def boot(self) -> protocol.Ready:
        """Give it its seed when it asks for it, and return what its engine says."""
        deadline = time.monotonic() + BOOT_S
        with self._connected("seed.sock", deadline) as seed:
            seed.sendall(keys.seed(self._paths, self.boot_id) + b"\n")
            assert seed.recv(16) == b"ok\n", self.console
        with self._connected("link.sock", deadline) as link:
            link.settimeout(GREET_AGAIN_S)
            decoder = protocol.FrameDecoder()
            while True:
                assert time.monotonic() < deadline, self.console
                link.sendall(protocol.encode(protocol.Hello(protocol.VERSION, time.time_ns()).to_json()))
                with contextlib.suppress(TimeoutError):
                    while True:
                        for raw in decoder.feed(link.recv(1 << 16)):
                            message = protocol.parse_guest_message(raw)
                            if isinstance(message, protocol.Ready):
                                return message

    def boot_by_disk(self) -> protocol.Ready:
        """The same of one that has its seed: be its host on the link from now on, which publishes whatever it is asked for."""
        deadline = time.monotonic() + BOOT_S
        self.streams = SshTransport(self._ssh_port, self._paths.ssh_key, self._paths.host_key)
        while True:
            try:
                link = self.streams.open_stream(str(DOOR))
                break
            except TransportError:
                assert time.monotonic() < deadline and self._process.poll() is None, self.console
        link.sendall(protocol.encode(protocol.Hello(protocol.VERSION, time.time_ns()).to_json()))
        ready: queue.Queue[protocol.Ready] = queue.Queue()
        threading.Thread(target=self._answer, args=(link, ready), daemon=True).start()
        try:
            return ready.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(self.console) from None

    def _answer(self, link: Stream, ready: queue.Queue[protocol.Ready]) -> None:
        decoder = protocol.FrameDecoder()
        while data := link.recv(1 << 16):
            for raw in decoder.feed(data):
                match protocol.parse_guest_message(raw):
                    case protocol.Ready() as message:
                        ready.put(message)
                    case protocol.Publish(number, port):
                        self.bound.append(replace(port, host_ip="127.0.0.1", host_port=port.host_port or 8080))
                        link.sendall(protocol.encode(protocol.Reply(number, True, (self.bound[-1],)).to_json()))
                    case protocol.Sync(number, ports) | protocol.Unpublish(number, ports):
                        bound = ports if isinstance(ports, tuple) else (ports,)
                        link.sendall(protocol.encode(protocol.Reply(number, True, bound).to_json()))

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """A request to the engine: its status, and what it answers."""
        content = b"" if body is None else json.dumps(body).encode()
        stream = self.streams.open_stream(SOCKET)
        try:
            head = (
                f"{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            stream.sendall(head.encode() + content)
            answer = b""
            while data := stream.recv(1 << 16):
                answer += data
        finally:
            stream.close()
        head_bytes, _, rest = answer.partition(b"\r\n\r\n")
        return int(head_bytes.split()[1]), rest

    def sh(self, script: str) -> str:
        """What a shell in the VM says, by its network."""
        options = {
            "UserKnownHostsFile": self._paths.known_hosts, "HostKeyAlias": f"cove-{self._paths.name}", "BatchMode": "yes",
            "IdentitiesOnly": "yes", "ConnectTimeout": 60,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        words += ["-F", "none", "-i", str(self._paths.ssh_key), "-p", str(self._ssh_port), "root@127.0.0.1", script]
        done = subprocess.run(
            ["ssh", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (done.stdout, done.stderr, self.console)
        return done.stdout

    def wait_off(self) -> None:
        self._process.wait(BOOT_S)

    @property
    def console(self) -> str:
        return (self._place / "console.log").read_text("utf-8", "replace")[-8000:]

    def _connected(self, name: str, deadline: float) -> socket.socket:
        """QEMU keeps what is sent until the guest takes it."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self._place / name))
        sock.settimeout(deadline - time.monotonic())
        return sock


@contextlib.contextmanager
def running(place: Path, paths: MachinePaths, disks: list[tuple[str, Path]], *, ports: bool = True) -> Iterator[UefiVm]:
    """``disks``: format and path, in the order in which the VM has them; none of the files but those named data* is changed."""
    if not FIRMWARE.exists():
        pytest.fail("OVMF is missing: sh installers/linux/prerequisites.sh platforms")
    place.mkdir()
    ssh_port = free_port("tcp", "127.0.0.1")
    variables = shutil.copy(VARIABLES, place / "variables.fd")
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    words += [
        "-machine",
        "q35,smm=off,vmport=off",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1024M",
    ]
    words += [
        "-drive",
        f"if=pflash,format=raw,readonly=on,file={FIRMWARE}",
        "-drive",
        f"if=pflash,format=raw,file={variables}",
    ]
    words += ["-chardev", f"file,id=console,path={place}/console.log", "-serial", "chardev:console"]
    words += ["-device", "virtio-serial-pci"] if ports else []
    listeners = []
    for name in ("seed", "link", "streams") if ports else ():
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(place / f"{name}.sock"))
        listener.listen()
        listeners.append(listener)
        words += ["-chardev", f"socket,id={name},fd={listener.fileno()},server=on,wait=off"]
        words += ["-device", f"virtserialport,chardev={name},name=cove.{name}"]
    for index, (kind, path) in enumerate(disks):
        kept = "off" if path.name.startswith("data") else "on"
        words += ["-drive", f"if=none,id=disk{index},format={kind},file={path},snapshot={kept}"]
        words += ["-device", f"virtio-blk-pci,drive=disk{index}"]
    words += [
        "-netdev",
        f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22",
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
    ]
    words += ["-device", "virtio-rng-pci"]
    with (place / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[one.fileno() for one in listeners]
        )
    for listener in listeners:
        listener.close()
    vm = UefiVm(place, paths, process, ssh_port)
    try:
        yield vm
    finally:
        vm.streams.close()
        process.kill()
        process.wait()
