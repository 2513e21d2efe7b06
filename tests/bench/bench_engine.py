"""The engine on this computer, over its API and with the docker CLI: python tests/bench/bench_engine.py [--peer unix:///docker.sock]

Run as root. With ``--peer``, or COVE_BENCH_PEER in the environment, another engine that has the image busybox does the same
in turn, and its times over Cove's are held against the goals. "The CLI alone" is what the same command takes with an engine
that answers at once (`instant_engine.py`): the peer's time over that is the most that any engine could reach.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import bench_logs
from bench_support import Api, beside_a_peer, goal, median_ms, table, timed_ms
from instant_engine import instant_engine

API_GOAL_MS = 20.0
LINES_GOAL = 4.0
"""Times as fast as the peer."""
NAME = "cove-bench"
CLI_S = 60

Step = Callable[[str], object]


@dataclass(frozen=True)
class Operation:
    """``calls`` of the CLI, which are timed; ``goal`` is how many times as fast as the peer they should be."""

    name: str
    calls: tuple[str, ...]
    goal: float = 0.0
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


RUN = "run --rm {} busybox true"
SLEEPER = f"run -d --network none --name {NAME} busybox sleep 1000"
OPERATIONS = (
    Operation("run, no network", (RUN.format("--network none"),), 5),
    Operation("run, host's network", (RUN.format("--network host"),)),
    Operation("run, bridge", (RUN.format("--network bridge"),), 6),
    Operation("run, port published", (RUN.format("-p 127.0.0.1::80"),), 6),
    Operation("create + rm", (f"create --name {NAME} busybox true", f"rm {NAME}"), 3),
    Operation("exec", (f"exec {NAME} true",), 3, (SLEEPER,), (f"rm -f {NAME}",)),
    Operation("stop (rm -f)", (f"rm -f {NAME}",), 3, (SLEEPER,)),
    Operation("network create + rm", (f"network create {NAME}", f"network rm {NAME}"), 3),
    Operation("volume create + rm", (f"volume create {NAME}", f"volume rm {NAME}")),
    Operation("ps", ("ps",)),
)


def docker(host: str, words: str) -> None:
    """The unmodified CLI. Ends the benchmark when it fails."""
    done = subprocess.run(
        ["docker", *words.split()],
        env=os.environ | {"DOCKER_HOST": host},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLI_S,
    )
    if done.returncode != 0:
        raise SystemExit(f"docker {words} on {host}: {done.stderr}")


def in_turn(hosts: list[str], rounds: int, step: Callable[[str], float]) -> list[float]:
    """The median of each host's times in ms, taken A B A B so that the computer's load weighs on all of them."""
    times: dict[str, list[float]] = {host: [] for host in hosts}
    for host in hosts:
        step(host)  # what is loaded only once
    for _ in range(rounds):
        for host in hosts:
            times[host].append(step(host))
    return [median_ms(times[host]) for host in hosts]


def once(operation: Operation) -> Callable[[str], float]:
    """Milliseconds of the timed calls on a host."""

    def step(host: str) -> float:
        for words in operation.before:
            docker(host, words)
        took = sum(timed_ms(partial(docker, host, words)) for words in operation.calls)
        for words in operation.after:
            docker(host, words)
        return took

    return step


def life(connections: dict[str, Api], network: str) -> Callable[[str], float]:
    """Milliseconds of a container's whole life over the API."""

    def whole(api: Api) -> None:
        made = api.create(["true"], network)
        api.json("POST", f"/v1.45/containers/{made}/start")
        api.json("POST", f"/v1.45/containers/{made}/wait")
        api.json("DELETE", f"/v1.45/containers/{made}")

    return lambda host: timed_ms(lambda: whole(connections[host]))


def run(url: str, peer: str, rounds: int) -> None:
    hosts = [url, peer] if peer else [url]
    connections = {host: Api(host) for host in hosts}
    head = ("peer ms", "peer / Cove") if peer else ()
    rows: list[tuple[str, ...]] = [("create, start, wait, remove of `true` over the API", "Cove ms", *head, "goal, ms")]
    for network in ("none", "bridge"):
        ours, *theirs = in_turn(hosts, 3 * rounds, life(connections, network))
        against = [cell for their in theirs for cell in (f"{their:.1f}", f"{their / ours:.1f}")]
        rows.append((f"network {network}", f"{ours:.1f}", *against, goal(ours, API_GOAL_MS)))
    table(rows)
    print()
    columns = ("peer ms", "peer / Cove", "goal", "at most") if peer else ()
    rows = [("docker CLI", "Cove ms", "the CLI alone ms", *columns)]
    with instant_engine() as instant:
        for operation in OPERATIONS:
            ours, alone, *theirs = in_turn([url, instant, *hosts[1:]], rounds, once(operation))
            row = [operation.name, f"{ours:.1f}", f"{alone:.1f}"]
            for their in theirs:
                wanted = goal(their / ours, operation.goal, least=True) if operation.goal else ""
                row += [f"{their:.1f}", f"{their / ours:.1f}", wanted, f"{their / alone:.1f}"]
            rows.append(tuple(row))
    table(rows)
    print()
    ours, *theirs = in_turn(hosts, min(rounds, 5), lambda host: bench_logs.lines(connections[host]) * 1000)
    rows = [("200,000 log lines", "Cove ms", *head, *(("goal",) if peer else ()))]
    against = [f"{ours:.0f}"]
    for their in theirs:
        against += [f"{their:.0f}", f"{their / ours:.1f}", goal(their / ours, LINES_GOAL, least=True)]
    rows.append(("run, wait, read", *against))
    table(rows)


if __name__ == "__main__":
    beside_a_peer(__doc__, 15, run)
