"""Where the time of a container's start goes, and that of its end and removal: python tests/bench/profile_start.py [--network bridge]

Run as root. The stages are told apart by marks that are put around functions of the engine from outside (marks/stage_marks.py),
in all the processes that take part; the sum of the stages is what a client of the API waits.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "marks"))

from bench_support import Api, median_ms, running_engine, table
from stage_marks import SIZE, VARIABLE, Page

Stage = tuple[str, str, str]
"""The mark that it ends with, the process whose it is, and what it is."""
CALLED, ANSWERED = "called", "answered"

START: tuple[Stage, ...] = (
    ("life.start", "engine", "HTTP: request read and routed"),
    ("sandbox", "engine", "layout, what is joined and linked"),
    ("sandbox done", "engine", "network planned"),
    ("spec", "engine", "hosts, resolv.conf, hostname"),
    ("ask", "engine", "OCI spec; the log's target"),
    ("give", "spawner", "request sent, read; profile looked up"),
    ("shim", "spare", "request taken over, parsed"),
    ("cgroup", "shim", "folder, socket, state"),
    ("cgroup done", "shim", "cgroup"),
    ("mounts", "shim", "device rules, log opened"),
    ("mounts done", "shim", "overlay and all other mounts made, detached"),
    ("held", "shim", "stdio"),
    ("held done", "shim", "network waited for: namespace, pair, ports, made beside all since it was planned"),
    ("clone", "shim", "network namespace joined"),
    ("init", "init", "clone3: namespaces"),
    ("root", "init", "signals, session, cgroup namespace"),
    ("root done", "init", "mounts attached, devices, masks, pivot_root"),
    ("become", "init", "host name, keyring"),
    ("become done", "init", "limits, user, stdio, capabilities"),
    ("execute", "init", "says that it is ready; it has been told to go on by then"),
    ("execve", "init", "program found, seccomp, last capability"),
    ("reply", "shim", "execve; beside it the state sent, the start read"),
    ("started done", "engine", "told that it runs"),
    ("save", "engine", "events, health"),
    ("save done", "engine", "noted in the database"),
    (ANSWERED, "engine", "HTTP: answer"),
)
END: tuple[Stage, ...] = (
    ("exit file", "shim", "reaped, output read to its end"),
    ("exit file done", "shim", "exit noted on the disk"),
    ("ended", "engine", "told that it has ended"),
    ("close done", "engine", "network taken away"),
    ("save", "engine", "shim, cgroup and folder taken away"),
    ("save done", "engine", "noted in the database"),
    (ANSWERED, "engine", "HTTP: answer to wait"),
)
REMOVE: tuple[Stage, ...] = (
    ("remove", "engine", "HTTP: request read and routed"),
    ("forget done", "engine", "network forgotten"),
    ("delete done", "engine", "taken out of the database"),
    ("take", "engine", "committed"),
    ("take done", "engine", "files put out of the way"),
    (ANSWERED, "engine", "HTTP: answer"),
)


def once(api: Api, page: Page, network: str) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """The marks of a start, an end and a removal."""
    made = api.create(["sleep", "0.2"], network)  # long enough for its start to be over before its end begins

    def measured(method: str, path: str) -> dict[str, int]:
        page.clear()
        called = time.monotonic_ns()
        api.json(method, path)
        return {CALLED: called, ANSWERED: time.monotonic_ns(), **page.read()}

    start = measured("POST", f"/v1.45/containers/{made}/start")
    end = measured("POST", f"/v1.45/containers/{made}/wait")
    return start, {**end, CALLED: end["reap"]}, measured("DELETE", f"/v1.45/containers/{made}")


def show(title: str, stages: tuple[Stage, ...], rounds: list[dict[str, int]]) -> None:
    rows: list[tuple[str, ...]] = [(title, "process", "ms", "%")]
    times = []
    before = CALLED
    for mark, _, _ in stages:
        if any(one[mark] == 0 for one in rounds):
            raise SystemExit(f"nothing passed the mark {mark!r}")
        times.append(median_ms((one[mark] - one[before]) / 1e6 for one in rounds))
        before = mark
    whole = median_ms((one[ANSWERED] - one[CALLED]) / 1e6 for one in rounds)
    for (_, process, what), took in zip(stages, times, strict=True):
        rows.append((what, process, f"{took:.2f}", f"{took / whole * 100:.0f}"))
    rows.append(("all of it", "", f"{whole:.2f}", ""))
    table(rows)
    print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--network", default="bridge")
    arguments = parser.parse_args()
    with tempfile.NamedTemporaryFile(prefix="cove-marks-") as file:
        file.truncate(SIZE)
        os.environ[VARIABLE] = file.name
        os.environ["PYTHONPATH"] = f"{Path(__file__).parent / 'marks'}:{os.environ.get('PYTHONPATH', '')}"
        page = Page(file.name)
        with running_engine() as engine:
            api = Api(engine.url)
            once(api, page, arguments.network)
            rounds = [once(api, page, arguments.network) for _ in range(arguments.rounds)]
    for number, (title, stages) in enumerate(
        ((f"start, network {arguments.network}", START), ("end, until wait answers", END), ("remove", REMOVE))
    ):
        show(title, stages, [one[number] for one in rounds])
    return 0


if __name__ == "__main__":
    sys.exit(main())
