"""What one machine holds, with the settings that a new one has: python tests/bench/bench_holds.py [--memory 2GiB] [--containers 400]

Containers that sleep on the default bridge, until the machine takes no more or has no memory to speak of; then published ports, and
networks of users until no addresses are left. The numbers stand in docs/scale.md. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench_support import Api, table, timed_ms
from machine_support import START_S, Machine, shared_cache

LEAST_MIB = 128
"""Of memory that is left in the machine: with less the kernel ends programs."""
STEP = 25
PORTS = 500
FIRST_PORT = 20000
BOUND_S = 900.0


class Machines(Api):
    """The machine's engine."""

    def left_mib(self, container: str) -> float:
        """Memory that programs of the machine can still have (MemAvailable of proc(5))."""
        body = {"Cmd": ["grep", "MemAvailable", "/proc/meminfo"], "AttachStdout": True, "Tty": True}
        made = self.json("POST", f"/v1.45/containers/{container}/exec", body)["Id"]
        said = self.call("POST", f"/v1.45/exec/{made}/start", {"Detach": False, "Tty": True}).read()
        return int(said.split()[1]) / 1024

    def started(self, **config: object) -> str:
        """Id of a container that sleeps."""
        container = self.create(["sleep", "1000000"], "bridge", **config)
        self.json("POST", f"/v1.45/containers/{container}/start")
        return container


def containers(engine: Machines, most: int) -> list[tuple[str, str]]:
    """Rows of the table; ends with what the machine says when it takes no more."""
    witness = engine.started()
    before, began, told = engine.left_mib(witness), time.monotonic(), "as many as asked for"
    took: list[float] = []
    left = before
    while len(took) < most and time.monotonic() - began < BOUND_S:
        try:
            took += [timed_ms(engine.started) for _ in range(STEP)]
        except SystemExit as refused:  # as `Api` ends a benchmark
            told = str(refused)
            break
        left = engine.left_mib(witness)
        if left < LEAST_MIB:
            told = f"less than {LEAST_MIB} MiB of memory left"
            break
    listed = statistics.median(timed_ms(lambda: engine.call("GET", "/v1.45/containers/json").read()) for _ in range(5))
    return [
        ("containers that sleep", f"{len(took) + 1}: {told}"),
        ("memory of one, MiB", f"{(before - left) / max(len(took), 1):.1f}"),
        ("memory left in the machine at first, and then, MiB", f"{before:.0f}, {left:.0f}"),
        ("create and start of one, the first 25, ms", f"{statistics.median(took[:STEP]):.0f}"),
        ("create and start of one, the last 25, ms", f"{statistics.median(took[-STEP:]):.0f}"),
        ("list of all, ms", f"{listed:.0f}"),
    ]


def ports(engine: Machines) -> tuple[str, str]:
    exposed: dict[str, Any] = {f"{80 + one}/tcp": {} for one in range(PORTS)}
    bound = {f"{80 + one}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(FIRST_PORT + one)}] for one in range(PORTS)}
    host = {"NetworkMode": "bridge", "PortBindings": bound}
    took = timed_ms(lambda: engine.started(ExposedPorts=exposed, HostConfig=host))
    return f"start of a container with {PORTS} published ports, s", f"{took / 1000:.1f}"


def networks(engine: Machines) -> tuple[str, str]:
    made, told, began = 0, "still more", time.monotonic()
    while time.monotonic() - began < BOUND_S / 3:
        try:
            engine.json("POST", "/v1.45/networks/create", {"Name": f"holds{made}"})
        except SystemExit as refused:
            told = str(refused)
            break
        made += 1
    return "networks of users", f"{made}: {told}"


def emptied(engine: Machines) -> None:
    for one in engine.json("GET", "/v1.45/containers/json?all=1"):
        engine.json("DELETE", f"/v1.45/containers/{one['Id']}?force=1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", default="2GiB", help="of the machine (default 2GiB)")
    parser.add_argument("--containers", type=int, default=400, help="no more than so many (default 400)")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cove-b", dir="/tmp"))
    (folder / "cache").symlink_to(shared_cache(), target_is_directory=True)
    machine = Machine(folder)
    try:
        machine.cove("machine", "init")
        machine.cove("config", "set", "memory", chosen.memory)
        machine.cove("machine", "start", timeout_s=START_S)
        status = json.loads(machine.cove("machine", "status", "--json").stdout)
        rows: list[tuple[str, str]] = [(f"a machine of {chosen.memory}", "measured")]
        parts: list[Callable[[Machines], list[tuple[str, str]]]] = [
            lambda engine: containers(engine, chosen.containers),
            lambda engine: [ports(engine)],
            lambda engine: [networks(engine)],
        ]
        for part in parts:
            engine = Machines(f"unix://{status['docker_socket']}")
            rows += part(engine)
            emptied(Machines(f"unix://{status['docker_socket']}"))
        table(rows)
        return 0
    finally:
        machine.cove("machine", "rm", "--force", timeout_s=180, check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
