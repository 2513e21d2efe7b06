"""Builds on this computer, beside a peer, with the unmodified docker CLI, as root:
python tests/bench/bench_build.py [--peer unix:///docker.sock] [--buildx FILE]

Both engines build from the image busybox:latest, which the peer must have. With ``--buildx``, the program docker-buildx, builds are
measured by BuildKit's protocol as well. The peer is measured in turn, so that the computer's mood falls on both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench_support import PEER_VARIABLE, goal, running_engine, table, timed_ms

DOCKERFILE = """FROM busybox
ENV A=1
WORKDIR /app
COPY a.txt /app/
RUN echo one > one
COPY b.bin /app/
RUN cat a.txt one > two
RUN echo x >> /etc/passwd
USER root
CMD ["cat", "two"]
"""
SLEEPERS = """FROM busybox AS one
ARG AT
RUN sleep 1
FROM busybox AS two
ARG AT
RUN sleep 1 && true
FROM scratch
COPY --from=one /etc/passwd /one
COPY --from=two /etc/passwd /two
"""
CACHED_FOLDER = """FROM busybox
ARG AT
RUN --mount=type=cache,target=/kept echo $AT >> /kept/lines && cp /kept/lines /lines
"""
COLD_GOAL, CACHED_GOAL, BUILDKIT_GOAL = 4.0, 1.0, 4.0
BIG = 2 << 30


class Cli:
    """The docker CLI at an engine, with or without the plugin for BuildKit."""

    def __init__(self, url: str, buildx: Path | None, folder: Path) -> None:
        self.url = url
        self._config = folder / f"config-{buildx is not None}"
        plugins = self._config / "cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        if buildx is not None and not (plugins / "docker-buildx").exists():
            (plugins / "docker-buildx").symlink_to(buildx)
        self._buildkit = buildx is not None

    def __call__(self, *words: str) -> str:
        environment = {
            **os.environ,
            "DOCKER_HOST": self.url,
            "DOCKER_CONFIG": str(self._config),
            "DOCKER_BUILDKIT": "1" if self._buildkit else "0",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }
        done = subprocess.run(
            ["docker", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise SystemExit(f"docker {' '.join(words)}: {done.stderr}")
        return done.stdout


def in_turn(runs: int, work: Callable[[Cli], object], engines: list[Cli]) -> list[float]:
    """The median for each engine, in milliseconds; the first round does not count."""
    times: list[list[float]] = [[] for _ in engines]
    for turn in range(runs + 1):
        for cli, own in zip(engines, times, strict=True):
            took = timed_ms(lambda: work(cli))  # noqa: B023 - it is called at once
            if turn:
                own.append(took)
    return [statistics.median(own) for own in times]


def prepare(folder: Path) -> Path:
    context = folder / "context"
    context.mkdir()
    (context / "a.txt").write_text("hello\n")
    (context / "b.bin").write_bytes(bytes(1 << 20))
    (context / "Dockerfile").write_text(DOCKERFILE)
    return context


def compare(engines: list[Cli], context: Path, cold_goal: float, cached_goal: float) -> list[list[str]]:
    rows = []
    for name, words, runs, wanted in (
        ("no cache", ("build", "-q", "--no-cache"), 5, cold_goal),
        ("all cached", ("build", "-q"), 15, cached_goal),
    ):
        times = in_turn(runs, lambda cli: cli(*words, str(context)), engines)  # noqa: B023
        cells = [f"{one:.0f}" for one in times]
        if len(times) > 1:
            ratio = times[1] / times[0]
            cells += [f"{ratio:.1f}", goal(ratio, wanted, least=True)]
        rows.append([name, *cells])
    return rows


def independent_stages(cli: Cli, folder: Path) -> float:
    """Seconds of a build of two stages that sleep one second each."""
    context = folder / "sleepers"
    context.mkdir()
    (context / "Dockerfile").write_text(SLEEPERS)
    return timed_ms(lambda: cli("build", "-q", "--build-arg", f"AT={random.random()}", str(context))) / 1000


def ignored(cli: Cli, folder: Path) -> float:
    """Seconds of a build whose context has 2 GB that .dockerignore leaves out."""
    context = folder / "big"
    context.mkdir()
    with (context / "data.bin").open("wb") as file:
        file.truncate(BIG)
    (context / ".dockerignore").write_text("*.bin\n")
    (context / "a").write_text("x")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    return timed_ms(lambda: cli("build", "-q", str(context))) / 1000


def kept_lines(cli: Cli, folder: Path) -> int:
    """Lines that three builds have left in a cache mount."""
    context = folder / "kept"
    context.mkdir()
    (context / "Dockerfile").write_text(CACHED_FOLDER)
    for turn in range(3):
        cli("build", "-q", "-t", "kept", "--build-arg", f"AT={turn}-{random.random()}", str(context))
    return len(cli("run", "--rm", "--network", "none", "kept", "cat", "/lines").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=os.environ.get(PEER_VARIABLE, ""))
    parser.add_argument("--buildx", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_engine() as own:
        folder = Path(name)
        urls = [own.url, *([options.peer] if options.peer else [])]
        context = prepare(folder)
        classic = [Cli(url, None, folder) for url in urls]
        heads = ["Cove, ms", *(["peer, ms", "times as fast", "goal"] if options.peer else [])]
        table([["classic, 10 instructions", *heads], *compare(classic, context, COLD_GOAL, CACHED_GOAL)])
        if options.buildx:
            modern = [Cli(url, options.buildx, folder) for url in urls]
            print()
            table([["BuildKit, 10 instructions", *heads], *compare(modern, context, COLD_GOAL, BUILDKIT_GOAL)])
            facts = {
                "two stages of a second each, s": round(independent_stages(modern[0], folder), 2),
                "2 GB in the context, ignored, s": round(ignored(modern[0], folder), 2),
                "lines of three builds in a cache mount": kept_lines(modern[0], folder),
            }
            print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
