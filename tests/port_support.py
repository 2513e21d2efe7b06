"""A server that runs in a container with the VM's own Python, and what asks it over a published port."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from typing import Any

MOUNTS = ["/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro"]
"""Of the VM: its interpreter, and what that is linked with."""
SERVER = """
import os, socket, struct, sys, threading
threading.stack_size(256 << 10)
PORT, BLOCK = int(sys.argv[1]), os.urandom(1 << 18)

def serve(client):
    with client:
        lines = client.makefile("rb", buffering=0)
        while line := lines.readline():
            word, _, rest = line.partition(b" ")
            if word == b"GET":
                left = int(rest)
                while left > 0:
                    left -= client.send(BLOCK[:left])
            elif word == b"PUT":
                left = int(rest)
                while left > 0 and (data := client.recv(min(left, 1 << 18))):
                    left -= len(data)
                client.sendall(b"ok\\n")
            elif word == b"COUNT\\n":
                size = 0
                while data := client.recv(1 << 18):
                    size += len(data)
                client.sendall(b"%d\\n" % size)
                return
            elif word == b"RESET\\n":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
                return
            elif word == b"EXIT\\n":
                os._exit(7)
            else:
                client.sendall(line)

def stream(listener):
    while True:
        threading.Thread(target=quietly, args=(serve, listener.accept()[0]), daemon=True).start()

def quietly(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        pass

listener = socket.create_server(("0.0.0.0", PORT), backlog=4096)
threading.Thread(target=stream, args=(listener,), daemon=True).start()
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("0.0.0.0", PORT))
print("ready", flush=True)
while True:
    data, peer = datagrams.recvfrom(1 << 16)
    datagrams.sendto(data, peer)
"""
"""Commands by TCP, each a line: GET n, PUT n, COUNT (until the client's end), RESET, EXIT (ends the container, with 7); others
are answered with themselves, as datagrams are."""


def start(client: Any, name: str, port: int = 80, **options: Any) -> Any:
    """A container with the server, which is ready when this returns. `client` is docker-py's."""
    command = ["/usr/bin/python3", "-s", "-c", SERVER, str(port)]
    container = client.containers.run(
        "busybox", command, name=name, detach=True, volumes=MOUNTS, stop_signal="SIGKILL", **options
    )
    for _ in container.logs(stream=True, follow=True):
        return container
    raise AssertionError(f"the server did not start: {container.logs()!r}")


def connect(port: int, address: str = "127.0.0.1", timeout_s: float = 60) -> socket.socket:
    return socket.create_connection((address, port), timeout_s)


def echo(connection: socket.socket) -> None:
    """A request and its answer. Raises `OSError`, or fails."""
    echo_all([connection])


def echo_all(connections: Sequence[socket.socket]) -> None:
    """A request on each, and then the answer of each."""
    words = [os.urandom(8).hex().encode() + b"\n" for _ in connections]
    for connection, word in zip(connections, words, strict=True):
        connection.sendall(word)
    for connection, word in zip(connections, words, strict=True):
        got = b""
        while not got.endswith(b"\n"):
            data = connection.recv(100)
            assert data, "the connection ended amid an answer"
            got += data
        assert got == word


def answer(machine: Any, connection: socket.socket, port: int) -> bytes:
    """All that is answered. When it does not come in time, fails with all that can tell why: see `_evidence`."""
    got = b""
    try:
        while data := connection.recv(1 << 16):
            got += data
    except TimeoutError:
        raise AssertionError(
            f"no end of the answer in time, but {got!r}\n{_evidence(machine, connection, port)}"
        ) from None
    return got


def _evidence(machine: Any, connection: socket.socket, port: int) -> str:
    """Where the bytes of a connection to a published port (of a web server) may have been lost.

    QEMU's monitor is the agent's, so that is killed for the last question; the next command starts another.
    """
    own = connection.getsockname()[1]
    told = [_said("ss", "-tanoi", f"( sport = :{port} or dport = :{port} )"), _said("ss", "-tlnp", f"sport = :{port}")]
    try:
        with connect(port, timeout_s=10) as second:
            second.sendall(b"GET / HTTP/1.0\r\n\r\n")
            told.append(f"a second request was answered: {second.recv(1000)!r}")
    except OSError as error:
        told.append(f"a second request failed: {error!r}")
    guest = (
        "ip neigh; ip -o link; for one in /sys/class/net/*/brforward; do echo $one; hexdump -C $one; done;"
        " cat /proc/net/stat/nf_conntrack /proc/net/nf_conntrack /proc/net/dev /proc/net/snmp; dmesg | tail -n 20;"
        " for pid in $(pidof httpd); do echo $pid; cat /proc/$pid/net/tcp /proc/$pid/net/arp; done"
    )
    try:
        told.append(machine.cove("machine", "ssh", guest, timeout_s=60, check=False).stdout)
        told.append(_usernet(machine))
    except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        told.append(repr(error))
    return "\n".join([f"the connection's own port is {own}", *told])


def _said(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    return f"$ {' '.join(words)}\n{done.stdout}{done.stderr}"


def _usernet(machine: Any) -> str:
    """What QEMU's user networking knows of its connections."""
    agent = int(json.loads(machine.cove("machine", "status", "--json").stdout)["agent_pid"])
    os.killpg(os.getpgid(agent), signal.SIGKILL)
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(20)
        monitor.connect(str(machine.home / "run" / "default" / "qmp.sock"))
        stream = monitor.makefile("rwb", buffering=0)
        asked = {"execute": "human-monitor-command", "arguments": {"command-line": "info usernet"}, "id": "usernet"}
        stream.write(b'{"execute": "qmp_capabilities"}' + json.dumps(asked).encode())
        for line in stream:
            if (message := json.loads(line)).get("id") == "usernet":
                return str(message)
    return "QEMU's monitor has said nothing"


def get(connection: socket.socket, size: int) -> None:
    connection.sendall(b"GET %d\n" % size)
    buffer, left = bytearray(1 << 18), size
    while left:
        count = connection.recv_into(buffer, min(left, len(buffer)))
        assert count, f"the connection ended {left} bytes too early"
        left -= count


def put(connection: socket.socket, size: int) -> None:
    connection.sendall(b"PUT %d\n" % size)
    block, left = bytes(1 << 18), size
    while left:
        left -= connection.send(block[:left])
    assert connection.recv(10) == b"ok\n"


def is_free(port: int, address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether a port can be bound here and now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
        except OSError:
            return False
    return True


def reset(connection: socket.socket) -> None:
    """Close it with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    connection.close()
