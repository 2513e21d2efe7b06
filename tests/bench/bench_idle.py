"""What runs while nothing happens: the system calls of an engine at rest: python tests/bench/bench_idle.py [--seconds 60]

With `--machine`, those of the agent of the machine `default`, which runs, and of the agent's supervisor; and before that the processor
time that they and QEMU take together (goal: 1 % of a core), and how often each wakes. QEMU passes the timers of the guest's kernel on:
what a kernel with nothing but a busybox script takes is the floor, which `bench_gives_back.py` prints beside it.

Run as root, with strace installed. A few containers run, and clients are connected: one keeps its connection open, one follows
events and one follows a log. Engine, supervisor, spawner, spare and shims are watched by `strace -f`, each by one of its own. The goal is
that none of them makes any system call: then none wakes a sleeping laptop. Calls of the first second are left out, for strace
interrupts what waits, and that is asked for again. The table is strace's own `-c` by process, made of a log with times: what
is periodic shows by its intervals. When the watch is over everything is removed, and each strace must have seen that.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench_scale import Stream
from bench_support import Api, children, goal, running_engine, shims, table

SETTLE_S = 3.0
"""After the last request, until the watch begins: keeps what ends it (a spare's fork, a freed page) out of the count."""
ATTACHING_S = 1.0
_CALL = re.compile(r"^(?:\d+ +)?(\d+\.\d+) (?:<\.\.\. )?(\w+)(?:\(| resumed)")


def watch(
    pids: dict[str, int], seconds: float, folder: Path, wake: Callable[[], None]
) -> dict[str, list[tuple[float, str]]]:
    """Each process's calls as (seconds since the watch began, name). ``wake`` then gives every one of them something to do."""
    tracers = {
        name: subprocess.Popen(
            # What a supervisor forks is none of its own.
            [
                "strace",
                *(["-f"] if name != "supervisor" else []),
                "-ttt",
                "-qq",
                "-o",
                f"{folder}/{number}",
                "-p",
                str(pid),
            ],
            stderr=subprocess.DEVNULL,
        )
        for number, (name, pid) in enumerate(pids.items())
    }
    time.sleep(ATTACHING_S)
    began = time.time()
    time.sleep(seconds)
    wake()
    for tracer in tracers.values():
        if tracer.poll() is None:  # that of a shim ends with it
            tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
    calls: dict[str, list[tuple[float, str]]] = {}
    for number, name in enumerate(pids):
        lines = (folder / f"{number}").read_text().splitlines()
        found = [match for line in lines if (match := _CALL.match(line))]
        after = [(float(match[1]) - began, match[2]) for match in found]
        if not any(at > seconds for at, _ in after):
            raise SystemExit(f"strace did not see what {name} did")
        calls[name] = [(at, call) for at, call in after if 0 <= at <= seconds]
    return calls


def report(seconds: float, calls: dict[str, list[tuple[float, str]]]) -> None:
    rows: list[tuple[str, ...]] = [(f"idle for {seconds:.0f} s", "system calls", "which", "goal")]
    for name, seen in calls.items():
        kinds = ", ".join(f"{call} {count}" for call, count in Counter(call for _, call in seen).most_common(6))
        rows.append((name, str(len(seen)), kinds, goal(len(seen), 0)))
    table(rows)
    for name, seen in calls.items():
        for at, call in seen[:20]:
            print(f"  {name} at {at:.3f} s: {call}")


def taken(pid: int) -> tuple[float, int]:
    """Seconds of processor time that a process has taken, and how often its threads have woken (sched-stats, proc(5))."""
    seconds, wakes = 0.0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            seconds += int((task / "schedstat").read_text().split()[0]) / 1e9
            wakes += int((task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        except (OSError, IndexError):
            continue  # it has ended
    return seconds, wakes


def processor(pids: dict[str, int], seconds: float) -> float:
    """Print what processes take at rest; returns it, as a part of one core."""
    before = {name: taken(pid) for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(seconds)
    passed, rows, all_of_it = time.monotonic() - began, [], 0.0
    for name, pid in pids.items():
        now = taken(pid)
        part = max(0.0, now[0] - before[name][0]) / passed
        all_of_it += part
        rows.append((name, f"{part:.2%}", f"{(now[1] - before[name][1]) / passed:.1f}", ""))
    table(
        [
            (f"at rest for {seconds:.0f} s", "of one core", "wakes a second", "goal"),
            *rows,
            ("all of it", f"{all_of_it:.2%}", "", goal(all_of_it * 100, 1)),
        ]
    )
    return all_of_it


def run_machine(seconds: float) -> None:
    """A container with a published port, a client that keeps its connection open, one that follows events and one a log."""
    words = [sys.executable, "-m", "cove", "machine", "status", "--json"]
    status = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    path, agent = status["docker_socket"], status["agent_pid"]
    supervisor = int(Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1])
    api = Api(f"unix://{path}")
    ports = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
    made = api.create(["sleep", "10000"], "bridge", ExposedPorts={"80/tcp": {}}, HostConfig=ports)
    api.json("POST", f"/v1.45/containers/{made}/start")
    streams = [
        Stream(path, "GET /v1.45/events"),
        Stream(path, f"GET /v1.45/containers/{made}/logs?follow=1&stdout=1"),
    ]
    api.json("GET", "/v1.45/containers/json")
    time.sleep(SETTLE_S)

    def wake() -> None:
        api.json("DELETE", f"/v1.45/containers/{made}?force=1")
        # The supervisor has one thing to do in its life.
        os.kill(agent, signal.SIGKILL)
        subprocess.run([*words[:3], "ps"], check=True, stdout=subprocess.DEVNULL)

    processor({"supervisor": supervisor, "agent": agent, "QEMU": status["pid"]}, seconds)
    with tempfile.TemporaryDirectory() as scratch:
        report(seconds, watch({"supervisor": supervisor, "agent": agent}, seconds, Path(scratch), wake))
    for stream in streams:
        stream.sock.close()


def run(seconds: float) -> None:
    with running_engine() as engine, tempfile.TemporaryDirectory() as scratch:
        api = Api(engine.url)
        ports = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
        made = [api.create(["cat"], network, OpenStdin=True) for network in ("none", "host", "bridge")]
        made.append(api.create(["sleep", "10000"], "bridge", HostConfig=ports))
        for container in made:
            api.json("POST", f"/v1.45/containers/{container}/start")
        streams = [
            Stream(engine.socket, "GET /v1.45/events"),
            Stream(engine.socket, f"GET /v1.45/containers/{made[0]}/logs?follow=1&stdout=1"),
        ]
        api.json("GET", "/v1.45/containers/json")
        time.sleep(SETTLE_S)
        pids = {"supervisor": engine.supervisor, "engine": engine.pid}
        for child in children(engine.pid):
            pids[Path(f"/proc/{child}/comm").read_text().strip()] = child
            for spare in children(child):
                if (name := Path(f"/proc/{spare}/comm").read_text().strip()) == "cove-spare":
                    pids[name] = spare
        for number, shim in enumerate(shims(made).values(), 1):
            pids[f"shim {number}"] = shim
        missing = {"supervisor", "engine", "cove-spawner", "cove-spare"} - pids.keys()
        if missing or len(pids) != 4 + len(made):
            raise SystemExit(f"not all processes were found: {pids}")

        def wake() -> None:
            last = api.create(["true"])
            api.json("POST", f"/v1.45/containers/{last}/start")
            for container in (last, *made):
                api.json("DELETE", f"/v1.45/containers/{container}?force=1")
            os.kill(engine.pid, signal.SIGKILL)  # all that the supervisor has to do
            Api(engine.url).json("GET", "/v1.45/version")

        calls = watch(pids, seconds, Path(scratch), wake)
        report(seconds, calls)
        for stream in streams:
            stream.sock.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--machine", action="store_true", help="watch the agent of the running machine")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("system calls at rest are not counted: strace is not installed")
        return 0
    (run_machine if options.machine else run)(options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
