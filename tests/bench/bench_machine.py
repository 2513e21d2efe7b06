"""What the machine costs: start, memory, published ports and its docker socket, each against a floor in turn with it.

The floor is the same kernel under the same QEMU options with a busybox script as its init, so that the ratios say what Cove
adds and not how fast this computer is: python tests/bench/bench_machine.py [--rounds N]. Takes some minutes.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))
sys.path.insert(0, str(Path(__file__).parent.parent))

from cove.drivers.qemu.binary import find
from cove.image import cpio
from cove.image.tree import Tree, file
from cove.machine.architecture import here
from image_archives import docker_archive, tar
from machine_support import START_S, Machine, shared_cache

START_GOAL = 2.0
"""Times the floor's start."""
QUICK_GOAL_S, OUTPUT_GOAL_S = 1.5, 3.0
LOAD_GOAL = 1.5
"""Times what OpenSSH's own forwarding of the socket takes."""
BLOB_MIB = 64
IMAGE_MIB = 100
UP = b"floor is up"

# /modules is the list that Cove's own initramfs loads; the floor lies over that initramfs.
FLOOR_INIT = f"""#!/bin/busybox sh
export PATH=/bin
echo {UP.decode()} >/dev/console
exec sleep 1000000
"""
FLOOR_SERVER = f"""#!/bin/busybox sh
export PATH=/bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc
while read -r module; do insmod "$module"; done </modules
ip link set lo up; ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
grep -E '^Mem(Total|Available)' /proc/meminfo >/dev/console
mkdir /www; dd if=/dev/zero of=/www/blob bs=1M count={BLOB_MIB} 2>/dev/null
httpd -h /www
echo {UP.decode()} >/dev/console
exec sleep 1000000
"""


class Floor:
    """The kernel, and `script` as its init."""

    def __init__(self, machine: Machine, folder: Path, script: str) -> None:
        status = json.loads(machine.cove("machine", "status", "--json").stdout)
        image = machine.home / "data" / "images" / status["image"]
        over = io.BytesIO()
        tree = Tree()
        tree.add("init", file(script.encode(), 0o755))
        cpio.write(tree, over)
        self._initramfs = folder / "floor.cpio"
        # The kernel unpacks archives that follow each other, each at a multiple of four bytes, one over the other.
        first = (image / "initramfs").read_bytes()
        self._initramfs.write_bytes(first + bytes(-len(first) % 4) + over.getvalue())
        self._kernel = image / "vmlinuz"
        self.words = "quiet panic=-1 random.trust_cpu=on"
        """The kernel's command line, but for the console."""
        self.machines_words: str = json.loads((image / "manifest.json").read_text())["command_line"]
        self._options = ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"]
        if status["accelerator"] != "tcg":
            self._options = ["-accel", status["accelerator"], "-cpu", "host"]
        self._options += [
            "-machine",
            "q35,smm=off,vmport=off",
            "-smp",
            str(status["cpus"]),
            "-m",
            f"{status['memory'] >> 20}M",
        ]
        self._options += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]

    @contextmanager
    def running(self, *more: str) -> Iterator[tuple[float, str]]:
        """Seconds until its init said that it is up, and what was on the console."""
        words = [str(find("", here())), *self._options, *more, "-kernel", str(self._kernel)]
        words += ["-initrd", str(self._initramfs), "-append", f"{self.words} console=ttyS0"]
        begin = time.monotonic()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            text = _read_until(process.stdout.fileno(), UP, 120)
            yield time.monotonic() - begin, text
        finally:
            process.kill()
            process.wait(10)


def _read_until(fd: int, word: bytes, bound_s: float) -> str:
    deadline, data = time.monotonic() + bound_s, b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while word not in data:
            if not selector.select(deadline - time.monotonic()) or not (chunk := os.read(fd, 65536)):
                raise SystemExit(f"the floor did not come up within {bound_s:.0f} s: {data.decode(errors='replace')}")
            data += chunk
    return data.decode(errors="replace")


def start(machine: Machine, folder: Path, rounds: int) -> None:
    """From `cove machine start` to an engine that answers: from the beginning, and from a template."""
    floor = Floor(machine, folder, FLOOR_INIT)
    floor.words = floor.machines_words  # with two processors from the beginning it may die: see docs/troubleshooting.md
    cold, floors = [], []
    for _ in range(rounds):
        machine.cove("machine", "stop")
        with floor.running() as (seconds, _text):
            floors.append(seconds)
        for template in (shared_cache() / "templates").iterdir():
            template.unlink()
        cold.append(_started(machine)[0])
    a, b = statistics.median(cold), statistics.median(floors)
    row(
        "cold start to an answering engine, s",
        f"{a:.1f}",
        f"kernel and busybox init {b:.1f}",
        f"{a / b:.2f} (goal {START_GOAL})",
    )
    answers, outputs = zip(*(_started(machine) for _ in range(4 * rounds)), strict=True)
    c, d = statistics.median(answers), statistics.median(outputs)
    row("start from a template to an answering engine, s", f"{c:.2f}", f"cold {a:.1f}", f"goal {QUICK_GOAL_S} s")
    row("start from a template to a container's first output, s", f"{d:.2f}", "", f"goal {OUTPUT_GOAL_S} s")


def _started(machine: Machine) -> tuple[float, float]:
    """Seconds from the start of a machine, stopped first, to an engine that answers, and to the output of a container."""
    machine.cove("machine", "stop")
    begin = time.monotonic()
    machine.cove("machine", "start")
    machine.docker("version")
    answers = time.monotonic() - begin
    assert machine.docker("run", "--rm", "busybox", "echo", "here").stdout == "here\n"
    return answers, time.monotonic() - begin


def memory(machine: Machine, floor_console: str) -> None:
    """What an idle machine takes, in the guest and of this computer."""
    listing = machine.cove(
        "machine", "ssh", "cat /proc/meminfo; grep -s ^Pss: /proc/[0-9]*/smaps_rollup; ps -o pid,args"
    ).stdout
    used, floor = _used_mib(listing), _used_mib(floor_console)
    row("memory used in the idle guest, MiB", f"{used:.0f}", f"kernel and busybox {floor:.0f}", f"{used / floor:.2f}")
    commands = dict(re.findall(r"^\s*(\d+) (.*)$", listing, re.MULTILINE))
    pss = {
        commands.get(pid, ""): int(kib) / 1024
        for pid, kib in re.findall(r"/proc/(\d+)/smaps_rollup:Pss: +(\d+)", listing)
    }
    for name, word in (("engine and its supervisor", "-m coved.vm "), ("spawner", "spawner"), ("PID 1", "coved.boot")):
        found = [size for command, size in pss.items() if word in command + " "]
        row(f"{name}, proportional (PSS) MiB", f"{sum(found):.1f}" if found else "not found", "", "")
    status = json.loads(machine.cove("machine", "status", "--json").stdout)
    for name, pid in (("QEMU", status["pid"]), ("agent", status["agent_pid"])):
        (kib,) = re.findall(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        row(f"{name} on this computer, PSS MiB", f"{int(kib) / 1024:.0f}", "", "")


def _used_mib(text: str) -> float:
    total, available = (int(re.findall(rf"{name}: +(\d+)", text)[0]) for name in ("MemTotal", "MemAvailable"))
    return (total - available) / 1024


def ports(machine: Machine, floor_port: int, rounds: int) -> None:
    """A published port against QEMU's own user network with nothing behind it but busybox."""
    script = f"mkdir /www; dd if=/dev/zero of=/www/blob bs=1M count={BLOB_MIB} 2>/dev/null; echo ready; exec httpd -f -h /www"
    machine.docker("run", "-d", "--name", "blob", "-p", "127.0.0.1::80", "busybox", "sh", "-c", script)
    try:
        port = int(machine.docker("port", "blob", "80").stdout.rpartition(":")[2])
        machine.docker("exec", "blob", "sh", "-c", "until wget -q -O /dev/null http://127.0.0.1/blob; do sleep 1; done")
        ours, floors = [], []
        for _ in range(rounds):
            floors.append(_download(floor_port))
            ours.append(_download(port))
    finally:
        machine.docker("rm", "-f", "blob", check=False)
    a, b = statistics.median(ours), statistics.median(floors)
    row("download through a published port, MiB/s", f"{a:.0f}", f"raw slirp {b:.0f}", f"{a / b:.2f}")


def _download(port: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    begin = time.monotonic()
    connection.request("GET", "/blob")
    size = len(connection.getresponse().read())
    assert size == BLOB_MIB << 20, size
    connection.close()
    return BLOB_MIB / (time.monotonic() - begin)


def loading(machine: Machine, folder: Path, rounds: int) -> None:
    """`docker load` through the machine's docker socket, against the engine's socket forwarded by OpenSSH's client."""
    archive, forwarded = folder / "image.tar", folder / "ssh.sock"
    archive.write_bytes(docker_archive([tar([("data", os.urandom(IMAGE_MIB << 20))])], ["cove-bench:1"]))
    port = json.loads(machine.cove("machine", "status", "--json").stdout)["ssh_port"]
    options = f"-i {machine.folder}/ssh_key -p {port} -o StrictHostKeyChecking=yes -o HostKeyAlias=cove-default"
    options += f" -o UserKnownHostsFile={machine.folder}/known_hosts -o ExitOnForwardFailure=yes"
    # A session of its own says when the forwarding stands.
    words = ["ssh", *options.split(), "-L", f"{forwarded}:/run/docker.sock", "root@127.0.0.1", "echo ready; exec cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ssh:
        try:
            assert ssh.stdout is not None
            _read_until(ssh.stdout.fileno(), b"ready", 60)
            ours, floors = [], []
            for _ in range(rounds):
                floors.append(_load(machine, f"unix://{forwarded}", archive))
                ours.append(_load(machine, machine.docker_host, archive))
        finally:
            ssh.kill()
    a, b = statistics.median(ours), statistics.median(floors)
    row(
        f"docker load of {IMAGE_MIB} MiB, s",
        f"{a:.1f}",
        f"socket forwarded by OpenSSH {b:.1f}",
        f"{a / b:.2f} (goal {LOAD_GOAL})",
    )


def _load(machine: Machine, host: str, archive: Path) -> float:
    begin = time.monotonic()
    machine.docker("-H", host, "load", "-i", str(archive), timeout_s=300)
    seconds = time.monotonic() - begin
    machine.docker("rmi", "cove-bench:1")
    return seconds


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="starts and downloads of each kind (default 5)")
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp(prefix="cove-b", dir="/tmp"))
    (folder / "cache").symlink_to(shared_cache(), target_is_directory=True)
    machine = Machine(folder)
    try:
        machine.cove("machine", "start", timeout_s=START_S)
        row("what", "Cove", "floor", "ratio")
        row("---", "---:", "---:", "---:")
        start(machine, folder, rounds)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: Any = free.getsockname()[1]
        network = f"user,id=net0,net=10.0.2.0/24,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:80"
        server = Floor(machine, folder, FLOOR_SERVER)
        with server.running("-netdev", network, "-device", "virtio-net-pci,netdev=net0,romfile=") as (_, console):
            memory(machine, console)
            ports(machine, port, rounds)
        loading(machine, folder, rounds)
        return 0
    finally:
        machine.cove("machine", "rm", "--force", timeout_s=180, check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
