"""How long `cove` takes against docker's CLI on the same socket: python tests/bench/bench_cli.py unix:///path/docker.sock

Commands run in turn, so that the machine's load weighs on both; medians, and their difference in milliseconds.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time

COMMANDS = (
    "version",
    "ps",
    "ps -a",
    "images",
    "inspect busybox",
    "run --rm --network none busybox true",
    "run --rm busybox true",
)
ROUNDS = 20
GOAL_MS = 80.0


def once(program: list[str], words: list[str], host: str) -> float:
    """Milliseconds of one call. Raises `CalledProcessError`."""
    environment = os.environ | {"DOCKER_HOST": host, "COVE_HOST": host}
    start = time.perf_counter()
    subprocess.run([*program, *words], env=environment, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def main(host: str) -> int:
    cove = shutil.which("cove", path=os.path.dirname(sys.executable))  # noqa: PTH120
    programs = {"docker": ["docker"], "cove": [cove] if cove else [sys.executable, "-m", "cove"]}
    print("| command | docker ms | cove ms | difference ms | ratio |\n|---|---:|---:|---:|---:|")
    late = False
    for command in COMMANDS:
        times: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(ROUNDS):
            for name, program in programs.items():
                times[name].append(once(program, command.split(), host))
        docker, ours = (statistics.median(times[name]) for name in programs)
        print(f"| `{command}` | {docker:.0f} | {ours:.0f} | {ours - docker:+.0f} | {ours / docker:.1f} |", flush=True)
        late = late or (command == "ps" and ours - docker > GOAL_MS)
    if late:
        print(f"the goal, at most {GOAL_MS:.0f} ms more for ps, was missed")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
