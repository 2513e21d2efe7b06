"""Killed at any moment of ``docker compose up`` and ``down``, the engine comes back, and the same command then succeeds.

Nothing of the project is lost or left then: containers, networks with aliases, the published port, the volume and what is in it.
The long form: ``COVE_COMPOSE_KILLS=100 COVE_COMPOSE_KILL_SEED=7 pytest tests/engine/test_networks_kill.py -s``. The same seed
gives the same schedule of commands and kills, though not the same interleaving.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from debian_files import docker_config
from kill_check import Checker
from kill_look import Netns, processes
from life_support import ask

KILLS = int(os.environ.get("COVE_COMPOSE_KILLS", "4"))
SEED = int(os.environ.get("COVE_COMPOSE_KILL_SEED", "1"))
BOUND_S = 60
BACK_S = 20.0
PORT = 20080
DATA = "volumes/kills_data/_data/numbers"

pytestmark = [pytest.mark.root, pytest.mark.native, pytest.mark.timeout(120 + 20 * KILLS)]

PROJECT = f"""
name: kills
services:
  web:
    image: busybox
    command: sh -c 'mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www'
    ports: ["127.0.0.1:{PORT}:80"]
    stop_signal: SIGKILL
    networks:
      front: {{aliases: [site]}}
      back: {{aliases: [pages]}}
  asks:
    image: busybox
    command: sleep 7200
    stop_signal: SIGKILL
    networks:
      front: {{}}
  writes:
    image: busybox
    # A number is on the disk before the next one is thought of.
    command: sh -c 'n=$$(wc -l < /v/numbers || echo 0); while n=$$((n+1)); do echo $$n > /r;
      dd if=/r of=/v/numbers oflag=append conv=notrunc,fsync 2> /dev/null; sleep 0.05; done'
    stop_signal: SIGKILL
    volumes: ["data:/v"]
    networks:
      back: {{aliases: [numbers]}}
networks:
  front: {{}}
  back: {{}}
volumes:
  data: {{}}
"""


class Project:
    """The project of an engine of its own, and what is found wrong about it."""

    def __init__(self, engine: Any, folder: Path) -> None:
        (folder / "compose.yaml").write_text(PROJECT)
        self._engine = engine
        self._environment = {
            **os.environ, "DOCKER_HOST": engine.url, "DOCKER_CONFIG": str(docker_config(folder / "config")),
            "COMPOSE_PROGRESS": "plain", "DOCKER_CLI_HINTS": "false",
        }  # fmt: skip
        self._words = ["docker", "compose", "--project-directory", str(folder)]
        self._netns = Netns(engine.namespace_pid)
        self._checker = Checker(engine, self._netns)
        self._numbers = 0
        self.back: dict[str, list[float]] = {}

    def close(self) -> None:
        self._netns.close()

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._words, *words], env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *words: str) -> str:
        return self.finish(self.begin(*words), 0)

    @staticmethod
    def finish(process: subprocess.Popen[str], status: int | None = None) -> str:
        try:
            said, _ = process.communicate(timeout=BOUND_S)
        finally:
            process.kill()
        assert status in (None, process.returncode), said
        return said

    def kill(self, what: str) -> None:
        """Waits until there is an engine again."""
        for pid, name in [*processes(self._engine.state)] if "spawner" in what else ():
            if name == "cove-spawner":
                self._engine.kill_process(pid)
        if "supervisor" in what:
            self._engine.kill_supervisor()
        elif "engine" in what:
            self._engine.kill_process(self._engine.pid)
        begun = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                if ask(self._engine, "GET", "/_ping")[0] == 200:
                    break
            assert time.monotonic() < begun + BOUND_S, "there is no engine any more"
            time.sleep(0.01)
        self.back.setdefault(what, []).append(time.monotonic() - begun)

    def is_up(self) -> Iterator[str]:
        yield from self._checker.agree()
        listed = ask(self._engine, "GET", "/containers/json?all=1")[1]
        states = {one["Labels"]["com.docker.compose.service"]: one["State"] for one in listed}
        if states != dict.fromkeys(("web", "asks", "writes"), "running"):
            yield f"the services are {states}"
        if (said := self._netns.fetch(f"http://127.0.0.1:{PORT}/")) != "served\n":
            yield f"the port answers {said!r}"
        for asker, name in (("asks", "site"), ("writes", "pages")):
            said = self.run("exec", "-T", asker, "wget", "-q", "-O", "-", f"http://{name}/")
            if said != "served\n":
                yield f"{name} answers {said!r}"
        yield from self._data()

    def is_down(self) -> Iterator[str]:
        yield from self._checker.agree()
        if left := ask(self._engine, "GET", "/containers/json?all=1")[1]:
            yield f"containers are left: {[one['Names'] for one in left]}"
        networks = {one["Name"] for one in ask(self._engine, "GET", "/networks")[1]}
        if networks != {"bridge", "host", "none"}:
            yield f"networks are left: {networks}"
        yield from self._data()

    def _data(self) -> Iterator[str]:
        """The volume has every number that it ever had."""
        with contextlib.suppress(FileNotFoundError):
            said = (self._engine.root / DATA).read_text()
            said = said[: said.rfind("\n") + 1]  # it is being written to
            count = said.count("\n")
            if said != "".join(f"{number}\n" for number in range(1, count + 1)):
                yield f"the numbers in the volume are damaged: {said[-100:]!r}"
            if count < self._numbers:
                yield f"the volume has {count} numbers, and had {self._numbers}"
            self._numbers = count
            return
        if self._numbers:
            yield "the volume has lost its file"

    @property
    def numbers(self) -> int:
        return self._numbers

    def nothing_left(self) -> Iterator[str]:
        yield from self.is_gone()
        yield from self._checker.agree()
        yield from self._checker.nothing_left()

    def is_gone(self) -> Iterator[str]:
        if volumes := ask(self._engine, "GET", "/volumes")[1]["Volumes"]:
            yield f"volumes are left: {volumes}"


def test_compose_meets_kills(engine_with: Callable[..., Any], tmp_path: Path) -> None:
    chance = random.Random(SEED)
    wrong: list[str] = []
    kills: Counter[str] = Counter()
    with engine_with() as engine:
        project = Project(engine, tmp_path)
        try:
            lasts = {}
            for verb in ("up", "down"):
                begun = time.monotonic()
                project.run(*WORDS[verb])
                lasts[verb] = time.monotonic() - begun
            for number in range(KILLS):
                verb = ("up", "down")[number % 2]
                what = chance.choice(("engine", "engine", "engine", "spawner", "engine and spawner", "supervisor"))
                kills[f"{what} in {verb}"] += 1
                command = project.begin(*WORDS[verb])
                time.sleep(chance.uniform(0, lasts[verb]))  # any moment will do
                project.kill(what)
                said = project.finish(command)
                again = project.run(*WORDS[verb])
                found = [*(project.is_up() if verb == "up" else project.is_down())]
                wrong += [f"kill {number}, of {what} in {verb}: {one}\n{said}\nagain:\n{again}" for one in found]
            project.run(*WORDS["down"], "--volumes")
            wrong += project.nothing_left()
            engine.kill()
            engine.start()
            wrong += project.nothing_left()
        finally:
            project.close()
            print(f"\nseed {SEED}, {project.numbers} numbers in the volume: {dict(kills)}")
            for what, times in project.back.items():
                print(
                    f"s from a kill of {what} to /_ping: {statistics.median(times):.2f} median, {max(times):.2f} worst"
                )
    assert not wrong, "\n".join(wrong)
    assert project.numbers > 0
    # Far more than it takes, on a busy machine as well: an engine that waits for something in vain is what is looked for.
    assert max(one for times in project.back.values() for one in times) < BACK_S


WORDS = {"up": ("up", "--detach"), "down": ("down", "--timeout", "1")}
