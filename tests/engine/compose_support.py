"""Projects of docker compose, the real one, on the engine that is tested."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from debian_files import compose_program, docker_config

BOUND_S = 30
QUICK = "stop_grace_period: 0s"
Done = subprocess.CompletedProcess[str]


class Project:
    """One project in a folder of its own; all that it made goes with it."""

    def __init__(self, engine: Any, folder: Path, config: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.name = f"p{uuid.uuid4().hex[:10]}"
        self._compose = [str(compose_program())]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))}
        self.environment = {
            **kept, "DOCKER_HOST": engine.url, "DOCKER_CONFIG": str(config), "BUILDKIT_PROGRESS": "plain",
            "COMPOSE_PROJECT_NAME": self.name, "NAME": self.name,
        }  # fmt: skip

    def write(self, text: str, path: str = "compose.yaml") -> Path:
        """A file of the project; indented as its surroundings in the test are."""
        made = self.folder / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(dedent(text))
        return made

    def __call__(self, *words: str, status: int = 0, data: str = "", **environment: str) -> Done:
        """docker compose with these words, which must end with that status."""
        return self._run([*self._compose, *words], status, data, environment)

    def docker(self, *words: str, status: int = 0) -> str:
        return self._run(["docker", *words], status, "", {}).stdout

    def _run(self, words: list[str], status: int, data: str, environment: dict[str, str]) -> Done:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment | environment, input=data, capture_output=True, text=True,
            timeout=BOUND_S,
        )  # fmt: skip
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def up(self, *words: str, **more: Any) -> Done:
        return self("up", "--detach", "--quiet-pull", *words, **more)

    def sh(self, service: str, script: str, *words: str, **more: Any) -> str:
        """What a shell in the service's container says."""
        return self("exec", "-T", *words, service, "sh", "-c", script, **more).stdout

    def logs(self, service: str) -> str:
        # compose 2.26 has each line clear the one that a terminal would show there.
        return self("logs", "--no-log-prefix", "--no-color", service).stdout.replace("\x1b[2K", "")

    def inspect(self, service: str, index: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.docker("inspect", f"{self.name}-{service}-{index}"))[0]
        return found

    def ids(self) -> dict[str, str]:
        """Of the containers, by name."""
        words = ("ps", "--all", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.name}")
        lines = self.docker(*words, "--format", "{{.Names}} {{.ID}}").splitlines()
        return dict(line.removeprefix(f"{self.name}-").split(" ", 1) for line in lines)  # type: ignore[misc]

    @contextlib.contextmanager
    def running(self, *words: str, **environment: str) -> Iterator[Lines]:
        """docker compose that goes on, and the lines that it says on both outputs."""
        with subprocess.Popen(
            [*self._compose, *words], cwd=self.folder, env=self.environment | environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                yield Lines(process)
            finally:
                process.kill()

    def get(self, address: str) -> str:
        """What a published port answers over HTTP."""
        words = self.engine.in_network("curl", "-sS", "--fail", "--max-time", "20", f"http://{address}")
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        self("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "0", "--rmi", "local")
        assert not self.ids()


class Lines:
    """What a running process says, as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[str] = []
        self._queue = queue.Queue[str | None]()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # closed at the end of the test
            for line in self.process.stdout:
                self._queue.put(line)
        self._queue.put(None)

    def until(self, text: str) -> str:
        """The next line with `text` in it."""
        deadline = time.monotonic() + BOUND_S
        while True:
            line = self._queue.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, f"no {text!r} in {self.seen}"
            self.seen.append(line)
            if text in line:
                return line

    def end(self) -> tuple[int, str]:
        """Status, and all that was said, when it has ended by itself."""
        status = self.process.wait(BOUND_S)
        while (line := self._queue.get(timeout=10)) is not None:
            self.seen.append(line)
        return status, "".join(self.seen)


@pytest.fixture(scope="module")
def compose_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return docker_config(tmp_path_factory.mktemp("docker") / "config")


@pytest.fixture
def project(engine: Any, compose_config: Path, tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "project"
    folder.mkdir()
    made = Project(engine, folder, compose_config)
    yield made
    if (folder / "compose.yaml").exists():
        made.close()
