"""`cove stats` on a terminal, followed while containers come and go."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.root

PATIENCE_S = 20


class Display:
    """The program on a terminal of its own; `until` reads what it draws."""

    def __init__(self, url: str, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cove", "--host", url, "stats", *words], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._drawn = ""

    def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """The first whole frame from now on of which `holds` is true, as lines."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            *frames, rest = re.split(r"\x1b\[J", self._drawn)
            for frame in frames:
                lines = [line.removesuffix("\x1b[K").rstrip() for line in frame.removeprefix("\x1b[H").splitlines()]
                if holds(lines):
                    return lines
            self._drawn = rest
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            assert ready, f"not drawn: {self._drawn!r}"
            self._drawn += os.read(self.master, 65536).decode()

    def close(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            os.close(self.master)


def names(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines[1:]]


def test_it_follows_containers_that_come_and_go(engine: Any, docker_client: Any, name: str) -> None:
    first = docker_client.containers.run("busybox", "sleep 600", name=f"{name}-a", detach=True)
    display = Display(engine.url)
    try:
        lines = display.until(lambda lines: f"{name}-a" in names(lines))
        assert lines[0].split("  ")[0] == "CONTAINER ID"
        docker_client.containers.run("busybox", ["sh", "-c", "while :; do :; done"], name=f"{name}-b", detach=True)
        busy = re.compile(rf" {name}-b +[1-9]\d*\.\d\d% ")
        lines = display.until(lambda lines: any(map(busy.search, lines)))
        assert f"{name}-a" in names(lines)
        first.stop(timeout=0)
        lines = display.until(lambda lines: f"{name}-a" not in names(lines))
        assert f"{name}-b" in names(lines)
        docker_client.containers.get(f"{name}-b").remove(force=True)
        display.until(lambda lines: f"{name}-b" not in names(lines))
    finally:
        assert display.close() == 130


def test_a_named_one_stays_and_loses_its_numbers_when_it_is_removed(engine: Any, docker_client: Any, name: str) -> None:
    made = docker_client.containers.run("busybox", "sleep 600", name=name, detach=True)
    display = Display(engine.url, name)
    try:
        display.until(lambda lines: re.search(rf"{name} +\d+\.\d\d%", lines[-1]) is not None)
        made.remove(force=True)
        lines = display.until(lambda lines: " -- " in lines[-1])
        assert lines[-1].split() == [made.id[:12], name, "--", "--", "/", "--", "--", "--", "--", "--"]
    finally:
        display.close()


@pytest.mark.parametrize("words", [["--no-stream"], ["--no-stream", "--all"]])
def test_once_it_says_what_docker_says(engine: Any, docker_client: Any, name: str, words: list[str]) -> None:
    for ending in "ab":
        docker_client.containers.create("busybox", "true", name=f"{name}-{ending}")
    docker_client.containers.run("busybox", "sleep 600", name=f"{name}-c", detach=True)
    form = ["--format", "{{.ID}} {{.Name}} {{.MemUsage}} {{.BlockIO}}"]
    environment = {**os.environ, "DOCKER_HOST": engine.url, "COVE_HOST": engine.url}
    shown = [
        subprocess.run(
            [*program, "stats", *words, *form], env=environment, capture_output=True, text=True, timeout=30
        ).stdout.splitlines()
        for program in (["docker"], [sys.executable, "-m", "cove"])
    ]
    # What is used may be another amount a moment later.
    own = [[re.sub(r" [\d.]+[KM]iB / ", " some / ", line) for line in lines if name in line] for lines in shown]
    assert len(own[0]) == (3 if "--all" in words else 1)
    assert sorted(own[1]) == sorted(own[0])
