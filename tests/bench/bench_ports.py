"""Published ports against raw slirp: QEMU's own forward to the same server in the same VM, with no container around it.

Transfers and requests alternate between the two, so that both see the same computer. Beside the wall clock, which other programs
disturb, QEMU's processor time for the same work is compared: under software emulation that is what a transfer costs.
python tests/bench/bench_ports.py [--rounds N] [--home DIR], the COVE_HOME of a machine that runs, with nothing published.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import docker
import port_support as server
from machine_support import START_S, Machine, shared_cache

GOAL = 0.9
MIB = 24
REQUESTS = 200
CONNECTIONS = 40
HELD = 1000
NAMES = ("bench-ports", "bench-decoy", "bench-raw")
# Untracked, its packets are not translated: they come to the VM's own port, where the server listens.
RAW = """
add table ip bench_raw
delete table ip bench_raw
table ip bench_raw {{
  chain inward {{ type filter hook prerouting priority raw - 10; tcp dport {port} notrack; }}
  chain outward {{ type filter hook output priority raw - 10; tcp sport {port} notrack; }}
}}
"""

Work = Callable[[int, str], None]


def download(port: int, address: str) -> None:
    with server.connect(port, address) as connection:
        server.get(connection, MIB << 20)


def upload(port: int, address: str) -> None:
    with server.connect(port, address) as connection:
        server.put(connection, MIB << 20)


def requests(port: int, address: str) -> None:
    with server.connect(port, address) as connection:
        for _ in range(REQUESTS):
            server.echo(connection)


def connections(port: int, address: str) -> None:
    for _ in range(CONNECTIONS):
        with server.connect(port, address) as connection:
            server.echo(connection)


def held(port: int, address: str) -> None:
    with contextlib.ExitStack() as stack:
        all = [stack.enter_context(server.connect(port, address)) for _ in range(HELD)]
        server.echo_all(all)
        server.echo_all(all)


@contextlib.contextmanager
def served(machine: Machine) -> Iterator[tuple[int, int]]:
    """The published port, and the raw one; the first is at ::1, too."""
    client = docker.DockerClient(machine.docker_host, timeout=300)
    try:
        server.start(client, NAMES[0], ports={"80/tcp": [("127.0.0.1", 18700), ("::1", 18700)]})
        decoy = client.containers.run(
            "busybox", ["sleep", "100000"], name=NAMES[1], detach=True, ports={"80/tcp": ("127.0.0.1", 18701)}
        )
        record = json.loads(machine.cove("machine", "ssh", f"cat /run/cove/sandboxes/{decoy.id}.json").stdout)
        guest_port = record["ports"][0]["guest_port"]
        server.start(client, NAMES[2], guest_port, network_mode="host")
        machine.cove("machine", "ssh", f"nft '{RAW.format(port=guest_port)}'")
        yield 18700, 18701
    finally:
        machine.cove("machine", "ssh", "nft delete table ip bench_raw", check=False)
        for name in NAMES:
            with contextlib.suppress(docker.errors.NotFound):
                client.containers.get(name).remove(force=True)
        client.close()


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(pid: int, work: Work, port: int, address: str = "127.0.0.1") -> tuple[float, float]:
    """Seconds on the clock, and of QEMU's processor time."""
    begun, used = time.monotonic(), processor_s(pid)
    work(port, address)
    return time.monotonic() - begun, processor_s(pid) - used


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def compare(
    pid: int, name: str, work: Work, count: float, unit: str, ports: tuple[int, int], rounds: int, address: str
) -> None:
    ours, raw = [], []
    for number in range(rounds):
        # Whoever comes second finds a busier or a quieter computer.
        for one in (0, 1) if number % 2 else (1, 0):
            if one:
                raw.append(measured(pid, work, ports[1]))
            else:
                ours.append(measured(pid, work, ports[0], address))
    wall, wall_raw = (statistics.median(one[0] for one in all) for all in (ours, raw))
    used, used_raw = (statistics.median(one[1] for one in all) for all in (ours, raw))

    def shown(seconds: float) -> str:
        return f"{count / seconds:.1f}" if unit == "MiB/s" else f"{seconds / count * 1e3:.1f}"

    said = f"{wall_raw / wall:.2f}" + ("" if wall_raw / wall >= GOAL else " (missed)")
    row(f"{name}, {unit}", shown(wall), shown(wall_raw), said, f"{used_raw / used:.2f}" if used else "")


def run(machine: Machine, rounds: int) -> None:
    pid = json.loads(machine.cove("machine", "status", "--json").stdout)["pid"]
    with served(machine) as ports:
        row("what", "published", "raw slirp", f"times as fast (goal {GOAL})", "by processor time")
        row("---", "---:", "---:", "---:", "---:")
        for address in ("127.0.0.1", "::1"):
            where = "" if address == "127.0.0.1" else " at ::1, relayed"
            compare(pid, f"download{where}", download, MIB, "MiB/s", ports, rounds, address)
            compare(pid, f"upload{where}", upload, MIB, "MiB/s", ports, rounds, address)
            compare(pid, f"request{where}", requests, REQUESTS, "ms", ports, rounds, address)
            compare(pid, f"connection and request{where}", connections, CONNECTIONS, "ms", ports, rounds, address)
        try:
            compare(pid, f"{HELD} connections held, 2 requests on each", held, HELD, "ms each", ports, 1, "127.0.0.1")
        except (OSError, AssertionError) as error:
            row(f"{HELD} connections held, 2 requests on each", f"missed: {error}", "", "", "")


def main() -> int:
    parser = argparse.ArgumentParser(description=re.sub(r"\s+", " ", __doc__ or ""))
    parser.add_argument("--rounds", type=int, default=5, help="transfers of each kind (default 5)")
    parser.add_argument("--home", type=Path, help="COVE_HOME of a machine that runs (default: one of its own)")
    arguments = parser.parse_args()
    if arguments.home:
        run(Machine(arguments.home), arguments.rounds)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="cove-b", dir="/tmp"))
    (folder / "cache").symlink_to(shared_cache(), target_is_directory=True)
    machine = Machine(folder)
    try:
        machine.cove("machine", "start", timeout_s=START_S)
        run(machine, arguments.rounds)
        return 0
    finally:
        machine.cove("machine", "rm", "--force", timeout_s=180, check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
