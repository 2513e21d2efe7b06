"""What an idle machine gives back to the computer: python tests/bench/bench_gives_back.py [--seconds 60]

Processor time at rest (agent, supervisor and QEMU together, beside QEMU with the same kernel and a busybox script); memory after a
container that took 400 MB, and after files of 300 MB; the size of the disk's file after a volume of 300 MB and an image are removed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench_idle import processor
from bench_machine import FLOOR_SERVER, Floor, row
from machine_support import START_S, Machine, shared_cache

SETTLE_S = 90.0
"""From a load until what it leaves is at rest: the engine looks after a minute whether the caches can go."""


def settled(value: Path | int, bound_s: float) -> float:
    """MB that a file takes of the disk, or a process of memory, when that shrinks no more."""
    least, since, began = mb(value), time.monotonic(), time.monotonic()
    while time.monotonic() - since < 10 and time.monotonic() - began < bound_s:
        time.sleep(0.5)
        if (now := mb(value)) < least - 1:
            least, since = now, time.monotonic()
    return least


def mb(value: Path | int) -> float:
    if isinstance(value, Path):
        return value.stat().st_blocks * 512 / 1e6
    return int(Path(f"/proc/{value}/statm").read_text().split()[1]) * 4096 / 1e6


def rest(machine: Machine, folder: Path, seconds: float) -> None:
    for number in range(3):
        machine.docker("run", "-d", "-p", "127.0.0.1::80", "--name", f"idle{number}", "cove/starter")
    time.sleep(SETTLE_S)
    status = json.loads(machine.cove("machine", "status", "--json").stdout)
    agent = status["agent_pid"]
    supervisor = int(Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1])
    processor({"supervisor": supervisor, "agent": agent, "QEMU": status["pid"]}, seconds)
    machine.docker("rm", "-f", "idle0", "idle1", "idle2")
    machine.cove("machine", "stop")
    network = ("-netdev", "user,id=net0,net=10.0.2.0/24,ipv6=off", "-device", "virtio-net-pci,netdev=net0,romfile=")
    with Floor(machine, folder, FLOOR_SERVER).running(*network):
        time.sleep(10)
        listed = subprocess.run(["pgrep", "-f", str(folder / "floor.cpio")], capture_output=True, text=True, check=True)
        processor({"QEMU of the floor": int(listed.stdout.split()[0])}, seconds)
    machine.cove("machine", "start", timeout_s=START_S)


def memory(machine: Machine) -> None:
    pid = json.loads(machine.cove("machine", "status", "--json").stdout)["pid"]
    before = settled(pid, 30)
    name = machine.docker(
        "run", "-d", "busybox", "sh", "-c", "dd if=/dev/zero bs=400M count=1 | sleep 5"
    ).stdout.strip()
    most, end = 0.0, time.monotonic() + 60
    while time.monotonic() < end and "true" in machine.docker("inspect", "-f", "{{.State.Running}}", name).stdout:
        most = max(most, mb(pid))
    machine.docker("rm", "-f", name)
    row(
        "QEMU's memory (RSS), MB: before, with, after a container with 400 MB",
        *(f"{value:.0f}" for value in (before, most, settled(pid, 60))),
    )
    machine.docker(
        "run", "--rm", "-v", "files:/v", "busybox", "sh", "-c", "dd if=/dev/urandom of=/v/f bs=1M count=300; sync"
    )
    most = mb(pid)
    time.sleep(SETTLE_S)
    row("the same with 300 MB of files written", f"{before:.0f}", f"{most:.0f}", f"{settled(pid, 60):.0f}")


def disk(machine: Machine) -> None:
    file = machine.folder / "data.qcow2"
    most = mb(file)
    machine.docker("volume", "rm", "files")
    row(
        "the disk's file, MB: with a volume of 300 MB, after its removal", f"{most:.0f}", f"{settled(file, 60):.0f}", ""
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    folder = Path(tempfile.mkdtemp(prefix="cove-b", dir="/tmp"))
    (folder / "cache").symlink_to(shared_cache(), target_is_directory=True)
    machine = Machine(folder)
    try:
        machine.cove("machine", "init", "--memory", "1GiB")
        machine.cove("machine", "start", timeout_s=START_S)
        memory(machine)
        disk(machine)
        rest(machine, folder, seconds)
        return 0
    finally:
        machine.cove("machine", "rm", "--force", timeout_s=180, check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
