"""What logs cost: 200,000 lines run, waited for and read, and 200 MB of output, against the bare floor of the same work.

Run as root: ``python tests/bench/bench_logs.py [--peer unix:///docker.sock]``. With ``--peer``, a dockerd that has the
image busybox does the same in the same run; Cove must be at least 4 times as fast with the lines.
"""

import argparse
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from bench_support import Api, Engine, kilobytes, running_engine, shims, table
from runtime_support import busybox

LINES = 200_000
BYTES = 200_000_000
LINES_GOAL = 8.0  # times the floor, at most
OUTPUT_GOAL = 4.0
PEER_GOAL = 4.0  # times as fast as the peer, at least
MEMORY_GOAL_KB = 2_000  # how much the shim's own pages may grow, and the engine
TEXT = "0123456789012345678901234567890123456789"

LINES_SCRIPT = f"seq {LINES}"
BYTES_SCRIPT = f"yes {TEXT} | head -c {BYTES}"
OUTPUT_SCRIPT = f"read x; {BYTES_SCRIPT}; echo; echo written; exec sleep 1000"
DRIVERS: dict[str, tuple[str, dict[str, str]]] = {
    "json-file": ("json-file", {}),
    "json-file, 20m x 3, compressed": ("json-file", {"max-size": "20m", "max-file": "3", "compress": "true"}),
    "local": ("local", {}),
}


def start(api: Api, script: str, driver: str = "json-file", options: dict[str, str] | None = None) -> str:
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", script],
        "OpenStdin": True,
        "HostConfig": {"LogConfig": {"Type": driver, "Config": options or {}}, "NetworkMode": "none"},
    }
    made: str = json.load(api.call("POST", "/v1.45/containers/create", body))["Id"]
    api.call("POST", f"/v1.45/containers/{made}/start").read()
    return made


def wait(api: Api, container: str) -> None:
    assert json.load(api.call("POST", f"/v1.45/containers/{container}/wait"))["StatusCode"] == 0


def read(api: Api, container: str, **query: str) -> int:
    answer = api.call("GET", f"/v1.45/containers/{container}/logs?stdout=1&{urllib.parse.urlencode(query)}")
    size = 0
    while data := answer.read1(1 << 20):
        size += len(data)
    return size


def remove(api: Api, container: str) -> None:
    api.call("DELETE", f"/v1.45/containers/{container}?force=1").read()


def lines(api: Api) -> float:
    started = time.perf_counter()
    container = start(api, LINES_SCRIPT)
    wait(api, container)
    size = read(api, container)
    took = time.perf_counter() - started
    assert size == 8 * LINES + sum(len(str(number)) + 1 for number in range(1, LINES + 1))
    remove(api, container)
    return took


def floor(script: str, folder: Path, *, read_again: bool) -> float:
    """The same program into a pipe, the pipe into a file, and the file read: no lines, no times, no container."""
    file = folder / "floor"
    started = time.perf_counter()
    applets = re.sub(r"(^|\| )", rf"\1{busybox()} ", script)
    subprocess.run(["sh", "-c", f"{applets} | cat > {file}"], check=True, timeout=300)
    if read_again:
        with file.open("rb", 0) as data:
            while data.read(1 << 20):
                pass
    took = time.perf_counter() - started
    file.unlink()
    return took


def output(api: Api, container: str) -> tuple[float, float]:
    """Seconds until a client that is attached has all of it, and seconds to read the log."""
    with attach(api, container) as stream:
        started = time.perf_counter()
        stream.sendall(b"go\n")
        while not stream.recv(1 << 16).endswith(b"written\n"):
            pass
        took = time.perf_counter() - started
    started = time.perf_counter()
    read(api, container)
    return took, time.perf_counter() - started


def measured(api: Api, engine: Engine, driver: str, options: dict[str, str]) -> tuple[float, float, int, int]:
    """:func:`output`, and the kB that the shim's own pages and the engine have grown by."""
    pid = engine.pid
    container = start(api, OUTPUT_SCRIPT, driver, options)
    shim = shims([container])[container]
    shim_before, engine_before = kilobytes(shim, "smaps_rollup", "Private_Dirty"), kilobytes(pid, "status", "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    took, reading = output(api, container)
    shim_after, engine_peak = kilobytes(shim, "smaps_rollup", "Private_Dirty"), kilobytes(pid, "status", "VmHWM")
    remove(api, container)
    return took, reading, shim_after - shim_before, engine_peak - engine_before


def attach(api: Api, container: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(api.path)
    path = f"/v1.45/containers/{container}/attach?stdin=1&stdout=1&stream=1"
    sock.sendall(f"POST {path} HTTP/1.1\r\nHost: engine\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return sock


def median(rounds: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(rounds))


def run(rounds: int, peer: str) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="cove-e", dir="/tmp"))
    good = True
    with running_engine() as engine:
        api = Api(engine.url)
        bare = median(rounds, lambda: floor(LINES_SCRIPT, folder, read_again=True))
        ours = median(rounds, lambda: lines(api))
        rows: list[tuple[str, ...]] = [
            ("200,000 lines: run, wait, read", "ms", "times the floor"),
            ("floor", f"{bare * 1000:.0f}", "1"),
            ("cove", f"{ours * 1000:.0f}", f"{ours / bare:.1f}"),
        ]
        good &= ours / bare <= LINES_GOAL
        if peer:
            theirs = median(rounds, lambda: lines(Api(peer)))
            rows.append(("dockerd", f"{theirs * 1000:.0f}", f"{theirs / bare:.1f}"))
            good &= theirs / ours >= PEER_GOAL
        table(rows)
        if peer:
            print(f"\ndockerd / cove: {theirs / ours:.1f} (goal: at least {PEER_GOAL:.0f})")
        print(f"goal: at most {LINES_GOAL:.0f} times the floor\n")
        bare = median(rounds, lambda: floor(BYTES_SCRIPT, folder, read_again=False))
        rows = [("200 MB", "write MB/s", "times the floor", "read MB/s", "shim kB", "engine kB")]
        rows.append(("floor", f"{BYTES / bare / 1e6:.0f}", "1", "", "", ""))
        for name, (driver, options) in DRIVERS.items():
            wrote, reading, shim, grown = measured(api, engine, driver, options)
            rate = "" if options or driver == "local" else f"{BYTES / reading / 1e6:.0f}"
            rows.append((name, f"{BYTES / wrote / 1e6:.0f}", f"{wrote / bare:.1f}", rate, f"{shim:+}", f"{grown:+}"))
            good &= wrote / bare <= OUTPUT_GOAL and max(shim, grown) <= MEMORY_GOAL_KB
        if peer:
            other = Api(peer)
            container = start(other, OUTPUT_SCRIPT)
            wrote, reading = output(other, container)
            remove(other, container)
            speeds = f"{BYTES / wrote / 1e6:.0f}", f"{wrote / bare:.1f}", f"{BYTES / reading / 1e6:.0f}"
            rows.append(("dockerd, json-file", *speeds, "", ""))
        table(rows)
        print(f"goals: at most {OUTPUT_GOAL:.0f} times the floor, at most {MEMORY_GOAL_KB} kB more")
    shutil.rmtree(folder)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", default="", help="another engine's socket, unix:///path")
    arguments = parser.parse_args()
    return 0 if run(arguments.rounds, arguments.peer) else 1


if __name__ == "__main__":
    sys.exit(main())
