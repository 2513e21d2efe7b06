"""What the benchmarks of the engine on this computer share: an engine, its API without a client's own costs, and tables."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from conftest import running_engine
from engines import Engine

__all__ = ["Api", "Engine", "goal", "kilobytes", "median_ms", "pss_kb", "running_engine", "shims", "table", "timed_ms"]

PEER_VARIABLE = "COVE_BENCH_PEER"
"""Environment variable with another engine's socket, unix:///path, to be measured in turn; it has the image busybox."""
TICKS = os.sysconf("SC_CLK_TCK")


class Api(http.client.HTTPConnection):
    """One connection to an engine, kept open: what is measured is the engine."""

    def __init__(self, url: str) -> None:
        super().__init__("engine", timeout=300)
        self.path = url.removeprefix("unix://")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def call(self, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
        """The answer, whose body is still to be read. Ends the benchmark for any other than a success."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.getresponse()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {answer.read().decode()}")
        return answer

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """What the answer says; None when it says nothing."""
        told = self.call(method, path, body).read()
        return json.loads(told) if told else None

    def create(self, command: Sequence[str], network: str = "none", **config: Any) -> str:
        """Id of a container of busybox."""
        body = {"Image": "busybox", "Cmd": list(command), "HostConfig": {"NetworkMode": network}, **config}
        return str(self.json("POST", "/v1.45/containers/create", body)["Id"])


def timed_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def median_ms(values: Iterable[float]) -> float:
    return statistics.median(values)


def kilobytes(pid: int, file: str, field: str) -> int:
    """A field, such as Pss, of a process's file in /proc."""
    text = Path(f"/proc/{pid}/{file}").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(f"{field}:")).split()[1])


def pss_kb(pid: int) -> int:
    """Its memory, pages that others have as well in proportion (proc(5), smaps_rollup)."""
    return kilobytes(pid, "smaps_rollup", "Pss")


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def shims(containers: Iterable[str]) -> dict[str, int]:
    """Pids of the containers' shims, by container id."""
    names = {f"shim:{container[:10]}": container for container in containers}
    found = {}
    for one in Path("/proc").glob("[0-9]*/comm"):
        try:
            if container := names.get(one.read_text().strip()):
                found[container] = int(one.parent.name)
        except OSError:
            continue
    return found


def children(pid: int) -> list[int]:
    """Pids of the processes that a process has started and not yet waited for."""
    found = []
    for one in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(one.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(one.parent.name))
        except OSError:
            continue
    return sorted(found)


def table(rows: Iterable[Sequence[str]]) -> None:
    """Markdown; the first row is the head."""
    for number, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if number == 0:
            print("| --- |" + " ---: |" * (len(row) - 1), flush=True)


def goal(value: float, limit: float, unit: str = "", *, least: bool = False) -> str:
    """The words that a table has for a goal: whether it was missed."""
    met = value >= limit if least else value <= limit
    return f"{limit:g}{unit}" if met else f"{limit:g}{unit}, missed"


def beside_a_peer(about: str | None, rounds: int, run: Callable[[str, str, int], object]) -> None:
    """The command line of a bench that measures an engine on this computer, and a peer in turn with it when one is named.

    Args:
        rounds: how many when nothing is said.
        run: told the addresses of Cove's engine and of the peer ("" for none), and the rounds.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(
        "--peer", default=os.environ.get(PEER_VARIABLE, ""), help="another engine's socket, unix:///path"
    )
    arguments = parser.parse_args()
    with running_engine() as engine:
        run(engine.url, arguments.peer, arguments.rounds)
