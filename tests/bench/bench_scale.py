"""Many containers, and many who watch them: python tests/bench/bench_scale.py [--containers 300] [--charts FOLDER]

Run as root. The figures of growth are held against themselves: what the first starts took against the last, one start
against many at once. ``--charts`` writes the plots as SVG files too.
"""

from __future__ import annotations

import argparse
import resource
import selectors
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import charts
from bench_support import Api, Engine, cpu_s, goal, median_ms, pss_kb, running_engine, shims, table, timed_ms

FLAT_GOAL = 1.3
"""The last starts over the first."""
LIST_GOAL_MS = 50.0
SHIM_GOAL_MB = 4.0
ENGINE_GOAL_MB = 80.0
AT_ONCE = 50
FOLLOWERS = 200
STREAMS = 100
HELD_S = 10.0
EDGE = 25
"""How many starts, or removals, at the beginning and at the end are compared."""
PATIENCE_S = 60.0


class Stream:
    """An answer without end, read only as far as somebody waits for it."""

    def __init__(self, path: Path | str, request: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self.sock.sendall(f"{request} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
        self.data = b""


def wait_for(streams: list[Stream], done: Callable[[Stream], bool], bound_s: float) -> int:
    """How many of them came so far within the time."""
    deadline, left = time.monotonic() + bound_s, {stream for stream in streams if not done(stream)}
    with selectors.DefaultSelector() as selector:
        for stream in left:
            selector.register(stream.sock, selectors.EVENT_READ, stream)
        while left and (rest := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(rest):
                stream = key.data
                piece = stream.sock.recv(1 << 16)
                stream.data += piece
                if not piece or done(stream):
                    selector.unregister(stream.sock)
                    left.discard(stream)
                    if not piece and not done(stream):
                        print(f"a stream ended early: {stream.data[-200:]!r}")
    return sum(done(stream) for stream in streams)


class Growth:
    """What was measured, by the number of containers that ran."""

    def __init__(self) -> None:
        self.create: list[tuple[float, float]] = []
        self.start: list[tuple[float, float]] = []
        self.listing: list[tuple[float, float]] = []
        self.engine: list[tuple[float, float]] = []
        self.remove: list[tuple[float, float]] = []

    def smooth(self, points: list[tuple[float, float]], width: int = 10) -> list[tuple[float, float]]:
        """Medians of ``width`` neighbours each."""
        parts = [points[at : at + width] for at in range(0, len(points), width)]
        return [(statistics.mean(x for x, _ in part), statistics.median(y for _, y in part)) for part in parts]


def fill(engine: Engine, api: Api, count: int, growth: Growth) -> list[str]:
    """Starts that many, one after another; their ids."""
    made: list[str] = []
    for number in range(1, count + 1):
        begun = time.perf_counter()
        made.append(api.create(["cat"], "bridge", OpenStdin=True))
        created = time.perf_counter()
        api.json("POST", f"/v1.45/containers/{made[-1]}/start")
        growth.create.append((number, (created - begun) * 1000))
        growth.start.append((number, (time.perf_counter() - created) * 1000))
        if number % EDGE == 0 or number == count:
            growth.listing.append((number, listing_ms(api, 5)))
            growth.engine.append((number, pss_kb(engine.pid) / 1024))
    return made


def listing_ms(api: Api, rounds: int) -> float:
    return median_ms(timed_ms(lambda: api.call("GET", "/v1.45/containers/json").read()) for _ in range(rounds))


def at_once(engine: Engine, api: Api) -> tuple[list[str], float, int]:
    """Ids of containers that many clients have started together, seconds until all were, and how many run."""
    made = [api.create(["cat"], "bridge", OpenStdin=True) for _ in range(AT_ONCE)]
    clients = [Api(engine.url) for _ in made]
    for client in clients:
        client.connect()
    threads = [
        threading.Thread(target=client.json, args=("POST", f"/v1.45/containers/{container}/start"))
        for client, container in zip(clients, made, strict=True)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    for client in clients:
        client.close()
    running = {one["Id"] for one in api.json("GET", "/v1.45/containers/json")}
    return made, took, len(running.intersection(made))


def say(engine: Engine, container: str, line: bytes) -> None:
    """To the container's `cat`, which then says it too."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(engine.socket))
    path = f"/v1.45/containers/{container}/attach?stdin=1&stream=1"
    sock.sendall(f"POST {path} HTTP/1.1\r\nHost: engine\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    sock.sendall(line)
    sock.close()


def watched(engine: Engine, containers: list[str]) -> list[tuple[str, ...]]:
    """Rows for many who follow logs and stats at once."""
    before = pss_kb(engine.pid) / 1024
    followed = [containers[number % len(containers)] for number in range(FOLLOWERS)]
    logs = [Stream(engine.socket, f"GET /v1.45/containers/{one}/logs?follow=1&stdout=1") for one in followed]
    heads = wait_for(logs, lambda stream: b"\r\n\r\n" in stream.data, PATIENCE_S)
    begun = time.perf_counter()
    for container in sorted(set(followed)):
        say(engine, container, f"this is {container}\n".encode())
    seen = wait_for(logs, lambda stream: b"this is " in stream.data, PATIENCE_S)
    took = time.perf_counter() - begun
    rest = cpu_s(engine.pid)
    time.sleep(HELD_S)
    quiet = (cpu_s(engine.pid) - rest) / HELD_S
    with_logs = pss_kb(engine.pid) / 1024
    rows: list[tuple[str, ...]] = [
        (
            f"log followers that got their line, of {FOLLOWERS}",
            str(min(heads, seen)),
            goal(seen, FOLLOWERS, least=True),
        ),
        ("all lines written and received, s", f"{took:.2f}", ""),
        ("engine with them, nobody writing, % of a processor", f"{quiet * 100:.1f}", ""),
        ("engine's memory for a follower, kB", f"{(with_logs - before) * 1024 / FOLLOWERS:.0f}", ""),
    ]
    watching = [containers[number % len(containers)] for number in range(STREAMS)]
    stats = [Stream(engine.socket, f"GET /v1.45/containers/{one}/stats?stream=1") for one in watching]
    wait_for(stats, lambda stream: stream.data.count(b'"read"') >= 1, PATIENCE_S)
    rest, begun = cpu_s(engine.pid), time.perf_counter()
    counts = [stream.data.count(b'"read"') for stream in stats]
    wait_for(stats, lambda stream: time.perf_counter() - begun > HELD_S, HELD_S + 0.5)
    passed = time.perf_counter() - begun
    busy = (cpu_s(engine.pid) - rest) / passed
    got = [stream.data.count(b'"read"') - count for stream, count in zip(stats, counts, strict=True)]
    all_along = sum(one >= HELD_S - 2 for one in got)
    rows += [
        (
            f"stats streams that got a sample a second, of {STREAMS}",
            str(all_along),
            goal(all_along, STREAMS, least=True),
        ),
        ("engine with them, % of a processor", f"{busy * 100:.1f}", ""),
        ("of that for one sample, ms", f"{busy * passed * 1000 / max(1, sum(got)):.2f}", ""),
        ("engine's memory for a stream, kB", f"{(pss_kb(engine.pid) / 1024 - with_logs) * 1024 / STREAMS:.0f}", ""),
    ]
    for stream in [*logs, *stats]:
        stream.sock.close()
    return rows


def ends(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Medians of the first and of the last."""
    return median_ms(y for _, y in points[:EDGE]), median_ms(y for _, y in points[-EDGE:])


def remove(api: Api, containers: list[str], growth: Growth) -> None:
    for number, container in enumerate(containers):
        took = timed_ms(partial(api.json, "DELETE", f"/v1.45/containers/{container}?force=1"))
        growth.remove.append((len(containers) - number, took))


def run(engine: Engine, count: int, folder: Path | None) -> None:
    api, growth = Api(engine.url), Growth()
    containers = fill(engine, api, count, growth)
    first, last = ends(growth.start)
    rows: list[tuple[str, ...]] = [(f"{count} containers on a bridge", "measured", "goal")]
    rows.append((f"start, the first {EDGE}, ms", f"{first:.1f}", ""))
    rows.append((f"start, the last {EDGE}, ms", f"{last:.1f}", ""))
    rows.append(("the last over the first", f"{last / first:.2f}", goal(last / first, FLAT_GOAL)))
    listed, size = listing_ms(api, 20), len(api.call("GET", "/v1.45/containers/json").read())
    ping = median_ms(timed_ms(lambda: api.call("GET", "/_ping").read()) for _ in range(20))
    what = f"list, {size >> 10} KiB, ms (an empty answer: {ping:.1f})"
    rows.append((what, f"{listed:.1f}", goal(listed, LIST_GOAL_MS)))
    sizes = [pss_kb(pid) / 1024 for pid in shims(containers).values()]
    assert len(sizes) == count
    rows.append(("a shim, PSS, MB", f"{statistics.mean(sizes):.1f}", goal(statistics.mean(sizes), SHIM_GOAL_MB)))
    engine_mb = pss_kb(engine.pid) / 1024
    rows.append(("engine, PSS, MB", f"{engine_mb:.1f}", goal(engine_mb, ENGINE_GOAL_MB)))
    more, took, running = at_once(engine, api)
    rows.append((f"containers running of {AT_ONCE} started at once", str(running), goal(running, AT_ONCE, least=True)))
    rows.append(("until all were started, s", f"{took:.2f}", ""))
    ratio = took * 1000 / (last * AT_ONCE)
    rows.append(("that is, over one after another", f"{ratio:.2f}", goal(ratio, 1)))
    for container in more:
        api.json("DELETE", f"/v1.45/containers/{container}?force=1")
    rows += watched(engine, containers)
    remove(api, containers, growth)
    late, early = ends(growth.remove)
    rows.append((f"rm -f, the first {EDGE} of {count}, ms", f"{late:.1f}", ""))
    rows.append((f"rm -f, the last {EDGE}, ms", f"{early:.1f}", ""))
    rows.append(("engine afterwards, PSS, MB", f"{pss_kb(engine.pid) / 1024:.1f}", ""))
    table(rows)
    plots = {
        "scale-start": (
            "Create, start and rm -f",
            "ms",
            {
                "start": growth.smooth(growth.start),
                "create": growth.smooth(growth.create),
                "rm -f": growth.smooth(growth.remove),
            },
        ),
        "scale-list": ("GET /containers/json", "ms", {"list": growth.listing}),
        "scale-memory": ("The engine's memory (PSS)", "MB", {"engine": growth.engine}),
    }
    for name, (title, unit, series) in plots.items():
        print(f"\n{charts.text(f'{title}, {unit}, by how many run', series)}")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.svg").write_text(charts.svg(title, "containers running", unit, series))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=300)
    parser.add_argument("--charts", type=Path, help="folder for SVG files")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with running_engine() as engine:
        run(engine, arguments.containers, arguments.charts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
