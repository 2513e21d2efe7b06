"""Stands in for QEMU and the guest in it: QMP, the link, forwards, streams and SSH are real protocols here, the VM is not there.

COVE_FAKE lists what goes wrong, separated by spaces: `refuse` (ends at once with words on stderr), `ports-taken=N` (the first N starts
find a port of theirs taken), `silent` (no engine), `deaf` (one that answers no client; `asked` is a file when one has said something),
`no-streams` (only SSH), `no-shutdown`, `no-button`, `no-quit` (ignored requests), `no-save` (a saving fails), `endless-save` (one does not
end, once there is a disk, as long as there is no file named `saves` beside that), `slow-save` (one lasts until the file `saving` is
removed), `bad-image=DIGITS` (a VM image whose digest begins so powers off), `ends-booting=N` and `hangs-booting=N` (the first N boots from
the beginning do so before the guest asks for its seed, without a word on the console), `gives-up-booting=N` (they say why, and end),
`half-compiled` (what it has compiled is given by half), `no-vsock` (that device is refused), `bad-template` (ends when it is to go on from
one), `mute-template` (no engine in what goes on from one), `idle` and `running` (what the engine says that it is busy with), `published`
(it has a port, with `published=NUMBER` that one), `qemu-dies-at-COMMAND` and `agent-dies-at-COMMAND` (a command of QMP, before it is
carried out, or while it does so at `saving` and `loading`; once in a machine's life). What becomes of a saved state is told in the file
`states`: `saved NAME` and, for each VM that goes on from there, `on NAME`. While there is a file named `full` beside the disk, whatever
the guest writes finds no room; while there is one named `mute`, the engine answers nobody who comes. SIGUSR1 makes it crash with words on
stderr, SIGUSR2 makes the guest write.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import select
import signal
import socket
import struct
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coved.streams.service import Streams

sys.path.insert(0, str(Path(__file__).parents[1]))
from unix_engine import serve

FAULTS = set(os.environ.get("COVE_FAKE", "").split())


def option(pattern: str) -> list[str]:
    return [found[1] for word in sys.argv if (found := re.match(pattern, word))]


class Fake:
    def __init__(self) -> None:
        words = sys.argv
        self.seed: dict[str, Any] = {}
        self.restored = "-incoming" in words
        self.has_disk = False
        self.saved_as = ""
        self.tells = True
        self.folder = Path(words[words.index("-pidfile") + 1]).parent
        self.engine = self.folder / "engine.sock"
        Path(words[words.index("-pidfile") + 1]).write_text(f"{os.getpid()}\n")
        self.stuck = "" if self.restored else self.boots_badly()
        said = {
            "": "the kernel booted\nthe guest is up\n",
            "gives-up": "cove: cannot go on: there is no network card\n",
        }
        with Path(option(r"file,id=console,path=([^,]*)")[0]).open("a") as console:
            console.write(said.get(self.stuck, ""))
        self.chardevs = option(r"\w+,id=(\w+)")
        self.forwards: dict[str, Any] = {}
        self.guest_ports: dict[str, str] = {}
        self.link: socket.socket | None = None
        self.qmp: socket.socket | None = None
        self.full = False
        self.link_thread: threading.Thread | None = None
        self.room = threading.Event()
        self.status = "prelaunch"
        self.running = threading.Event()

    def boots_badly(self) -> str:
        """How this boot, which counts as one, comes to nothing: "ends", "hangs", "gives-up", or "" when it does not."""
        with (self.folder / "boots").open("a+") as boots:
            boots.write("x")
            boots.seek(0)
            number = len(boots.read())
        faults = [fault.partition("-booting=") for fault in FAULTS if "-booting=" in fault]
        return next((kind for kind, _, most in faults if number <= int(most)), "")

    def serve_qmp(self) -> None:
        listener = socket.socket(fileno=int(option(r"socket,id=qmp,fd=(\d+)")[0]))
        while True:
            client, _ = listener.accept()
            self.qmp = client
            send(client, {"QMP": {"version": {"qemu": {"major": 9, "minor": 9, "micro": 9}}, "capabilities": []}})
            with client:
                for request in requests(client):
                    answer = self.execute(request["execute"], request.get("arguments") or {})
                    send(client, {"return": answer, "id": request.get("id")})
                    if request["execute"] == "cont" and self.stuck in ("ends", "gives-up"):
                        os._exit(0)
                    if request["execute"] == "quit" and "no-quit" not in FAULTS:
                        os._exit(0)
                    if request["execute"] == "system_powerdown" and "no-button" not in FAULTS:
                        os._exit(0)

    def write(self, *_: object) -> None:
        self.full = (self.folder / "full").exists()
        if self.full:
            data = {"device": "data", "operation": "write", "action": "stop", "nospace": True, "reason": "no room"}
            self.tell("BLOCK_IO_ERROR", data)
        else:
            self.room.set()

    def dies(self, name: str, after_s: float = 0.0) -> None:
        died = self.folder / "died"
        if self.has_disk and not died.exists():
            for who, pid in (("qemu", os.getpid()), ("agent", os.getppid())):
                if f"{who}-dies-at-{name}" in FAULTS:
                    died.touch()
                    if after_s:
                        threading.Timer(after_s, os.kill, (pid, signal.SIGKILL)).start()
                        self.tells = False  # how it ended
                    else:
                        os.kill(pid, signal.SIGKILL)
                        threading.Event().wait(0.2)  # until the signal has come

    def note(self, line: str) -> None:
        with (self.folder / "states").open("a") as states:
            states.write(f"{line}\n")

    def execute(self, name: str, arguments: dict[str, Any]) -> Any:
        self.dies(name)
        if name == "stop":
            self.status = "paused"
            self.running.clear()
        if name == "cont":
            if self.status not in ("prelaunch", "paused", "postmigrate", "io-error", "running"):
                os._exit(99)
            if self.has_disk and (self.folder / "suspended.json").exists():
                os._exit(98)  # what goes on from a state must not be found again
            if self.saved_as:
                self.note(f"on {self.saved_as}")
                self.saved_as = ""
            self.status = "running"
            self.running.set()
            if self.stuck:
                return {}
            if self.link_thread is None:
                self.link_thread = threading.Thread(target=self.boot, daemon=True)
                self.link_thread.start()
            else:
                self.write()
        if name == "query-status":
            status = "io-error" if self.full and self.status == "running" else self.status
            return {"status": status, "running": status == "running"}
        if name == "query-chardev":
            closed = {"streams"} if "no-streams" in FAULTS else set()
            closed |= {"seed"} if self.stuck else set()
            return [{"label": name, "filename": "", "frontend-open": name not in closed} for name in self.chardevs]
        if name == "block_resize":
            with (self.folder / "data.qcow2").open("r+b") as disk:
                disk.seek(24)  # the header's size; QEMU's tables would follow
                disk.write(arguments["size"].to_bytes(8, "big"))
        if name == "human-monitor-command":
            return self.monitor(arguments["command-line"].split())
        if name == "blockdev-add":
            self.has_disk = True
        if name == "migrate":
            if "endless-save" in FAULTS and self.has_disk and not (self.folder / "saves").exists():
                self.status = "finish-migrate"
                (self.folder / "saving").touch()
            else:
                self.tells = True
                self.dies("saving", 0.3)
                if "slow-save" in FAULTS and self.has_disk:
                    (self.folder / "saving").touch()
                    while (self.folder / "saving").exists():
                        time.sleep(0.01)
                if self.has_disk and "no-save" not in FAULTS:
                    self.saved_as = self.seed["saved_as"] = secrets.token_hex(8)
                    self.note(f"saved {self.saved_as}")
                    (self.folder / "fake_memory").write_text(json.dumps(self.seed))
                self.status = "postmigrate"
                self.tell("MIGRATION", {"status": "failed" if "no-save" in FAULTS else "completed"})
        if name == "query-migrate":
            return {"ram": {"total": 4 << 20, "remaining": 1 << 20}} if self.status == "finish-migrate" else {}
        if name == "migrate_cancel":
            self.status = "paused"
        if name == "migrate-incoming":
            if "bad-template" in FAULTS:
                sys.stderr.write("qemu: load of migration failed: the fake was told to\n")
                os._exit(1)
            if self.has_disk:  # it was suspended, and not saved as a template
                self.seed = json.loads((self.folder / "fake_memory").read_text())
                self.saved_as = self.seed.get("saved_as", "")
                self.dies("loading", 0.3)
            self.status = "paused"
            self.tell("MIGRATION", {"status": "completed"})
        return {}

    def tell(self, event: str, data: dict[str, Any]) -> None:
        if not self.tells:
            return
        send(self.qmp, {"event": event, "data": data, "timestamp": {"seconds": 0, "microseconds": 0}})

    def boot(self) -> None:
        """The guest, from the point where it waits for its seed, if it has none yet."""
        threading.Thread(target=self.serve_streams, daemon=True).start()
        if self.seed:
            self.serve_link()
        listener = socket.socket(fileno=int(option(r"socket,id=seed,fd=(\d+)")[0]))
        while not self.seed:
            client, _ = listener.accept()
            with client, client.makefile("rb") as stream:
                if (line := stream.readline()) == b"bytecode\n":
                    client.sendall(b"1000\nhalf" if "half-compiled" in FAULTS else compiled())
                    continue
                self.seed = json.loads(line)
                (self.folder / "fake_memory").write_text(json.dumps(self.seed))
                client.sendall(b"ok\n")
        self.write()
        self.room.wait()
        if "mute-template" in FAULTS and self.restored:
            return
        self.serve_link()

    def monitor(self, words: list[str]) -> str:
        if words == ["info", "usernet"]:
            return "Hub -1 (net0):\r\n" + "".join(
                f"  {rule.split(':')[0].upper()}[HOST_FORWARD]  9  {rule.split(':')[1]} {rule.split(':')[2]}  10.0.2.15 {port}  0  0\r\n"
                for rule, port in self.guest_ports.items()
            )
        if words == ["info", "status"]:
            return "VM status: running\r\n"
        if words == ["info", "registers", "-a"]:
            return "\r\nCPU#0\r\nRIP=ffffffff81000000 HLT=0\r\nXMM00=0000000000000000 0000000000000001\r\n"
        rule = words[2].partition("-")[0]
        if words[0] == "hostfwd_remove":
            self.guest_ports.pop(rule, None)
            if held := self.forwards.pop(rule, None):
                held.close()
            return ""
        proto, address, port = rule.split(":")
        try:
            if words[2].endswith(":22"):
                self.forwards[rule] = self.ssh(int(port))
            elif proto == "tcp":
                self.forwards[rule] = socket.create_server((address, int(port)))
            else:
                self.forwards[rule] = held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                held.bind((address, int(port)))
        except OSError:
            return f"could not set up host forwarding rule '{words[2]}'\r\n"
        self.guest_ports[rule] = words[2].rpartition(":")[2]
        return ""

    def ssh(self, port: int) -> Sshd:
        host_key = self.folder / "fake_host_key"
        host_key.write_text(self.seed["host_key"])
        return Sshd(host_key, self.seed["authorized_key"], {"/run/docker.sock": self.engine}, port)

    def serve_streams(self) -> None:
        serve(self.engine, echo)
        if "no-streams" in FAULTS:
            return
        listener = socket.socket(fileno=int(option(r"socket,id=streams,fd=(\d+)")[0]))
        while True:
            client, _ = listener.accept()
            threading.Thread(target=GuestStreams(client, self.engine).run, daemon=True).start()

    def serve_link(self) -> None:
        listener = socket.socket(fileno=int(option(r"socket,id=link,fd=(\d+)")[0]))
        while True:
            self.link, _ = listener.accept()
            with self.link.makefile("rb") as stream:
                while header := stream.read(4):
                    self.heard(json.loads(stream.read(struct.unpack("!I", header)[0])))

    def heard(self, message: dict[str, Any]) -> None:
        self.running.wait()
        bad = [f"/images/{fault[10:]}" for fault in FAULTS if fault.startswith("bad-image=")]
        if message["type"] == "hello" and any(image in " ".join(sys.argv) for image in bad):
            with Path(option(r"file,id=console,path=([^,]*)")[0]).open("a") as console:
                console.write("cove: cannot go on: the data is of a newer engine\n")
            os._exit(0)
        if message["type"] == "hello" and "silent" not in FAULTS and not (self.folder / "mute").exists():
            boot_id = self.seed["boot_id"]
            self.say({"type": "ready", "boot_id": boot_id, "engine_version": "9.8.7", "api_version": "1.51"})
            found = [int(fault[10:] or 0) for fault in FAULTS if fault.startswith("published")]
            port = {"proto": "tcp", "host_ip": "127.0.0.1", "guest_port": 49152}
            self.say({"type": "sync", "id": 1, "ports": [port | {"host_port": number} for number in found]})
            for level in FAULTS & {"idle", "running"}:
                self.say({"type": "activity", "level": level})
        if message["type"] == "shutdown" and "no-shutdown" not in FAULTS:
            self.say({"type": "stopping"})
            os._exit(0)

    def say(self, message: dict[str, Any]) -> None:
        assert self.link is not None
        text = json.dumps(message).encode()
        self.link.sendall(struct.pack("!I", len(text)) + text)


class Sshd:
    """The guest's, which loads paramiko when its first client comes: that takes longer than all else here, and most machines have none."""

    def __init__(self, host_key: Path, authorized: str, targets: dict[str, Path], port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self._guest: Any = None
        threading.Thread(target=self._serve, args=(host_key, authorized, targets), daemon=True).start()

    def _serve(self, *what: Any) -> None:
        select.select([self._listener], [], [])
        from guest_ssh import GuestSsh

        self._guest = GuestSsh(*what, self._listener)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._guest is not None:
            self._guest.close()


class GuestStreams(Streams):
    """The guest's own service on the hypervisor's connection."""

    def __init__(self, client: socket.socket, engine: Path) -> None:
        super().__init__("")
        self._client, self._engine = client, str(engine).encode()

    def _open_port(self) -> None:
        self._client.setblocking(False)
        self._port = self._client.fileno()
        self._changes.register(self._port, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def _open(self, number: int, target: bytes) -> None:
        assert target == b"/run/docker.sock"
        super()._open(number, self._engine)

    def _listen(self, path: bytes) -> None:
        """This computer's services have no place here."""


def compiled() -> bytes:
    """The answer of a guest that is asked for what it has compiled."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        member = tarfile.TarInfo("./usr/lib/cove/coved/__init__.cpython-313.pyc")
        member.size = 4
        members.addfile(member, io.BytesIO(b"code"))
    return b"%d\n" % len(archive.getvalue()) + archive.getvalue()


def requests(client: socket.socket) -> Iterator[dict[str, Any]]:
    """QMP's requests follow one another without a separator. Descriptors that come with them (getfd) stay open."""
    text = ""
    while data := received(client):
        text += data.decode()
        while text := text.lstrip():
            try:
                request, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            yield request


def received(client: socket.socket) -> bytes:
    try:
        return socket.recv_fds(client, 1 << 16, 4)[0]
    except ConnectionResetError:  # of an agent that was killed before it had read an answer
        return b""


def send(client: socket.socket | None, value: dict[str, Any]) -> None:
    assert client is not None
    with contextlib.suppress(ConnectionError):  # its agent has died
        client.sendall(json.dumps(value).encode() + b"\r\n")


def echo(client: socket.socket) -> None:
    while data := client.recv(1 << 16):
        if "deaf" in FAULTS:
            Path("asked").touch()
            continue
        client.sendall(data)


def crash(*_: object) -> None:
    os.write(2, b"qemu: fatal: the fake was told to crash\n")
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.abort()


def ports_are_taken() -> bool:
    most = max((int(fault[12:]) for fault in FAULTS if fault.startswith("ports-taken=")), default=0)
    if not most:
        return False
    with Path("starts").open("a") as starts:
        starts.write("x")
        return starts.tell() <= most


def main() -> None:
    if ports_are_taken():
        sys.exit("qemu: -chardev socket,id=qmp,port=4711: Failed to find an available port: Address already in use")
    elif "refuse" in FAULTS:
        sys.exit("qemu: -m: the fake was told to refuse")
    elif "no-vsock" in FAULTS and any("vhost-vsock" in word for word in sys.argv):
        sys.exit("qemu: -device vhost-vsock-pci: the fake was told to refuse it")
    else:
        signal.signal(signal.SIGUSR1, crash)
        fake = Fake()
        signal.signal(signal.SIGUSR2, fake.write)
        fake.serve_qmp()


main()
