"""A user's computer with nothing set but docker's context: where other people's programs run in these tests, before an engine of this
computer or the VM's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.machine import lifecycle, usual_socket
from debian_files import docker_config
from engines import Engine
from machine_support import Machine
from registries import Registry

BOUND_S = 600
"""In the VM, which may be emulated."""
LINE_S = 180
ADDRESS = "127.0.0.1:5000"
"""Of the registry, in the engine's network."""


class Laptop:
    """Args: home: its user's. reaches: makes a command line one of where published ports answer."""

    registry = ""
    """One that stands for Docker Hub, as the laptop and the engine call it; "": there is none."""
    takes_early = True
    """Whether a published port takes connections before anybody listens in the container, and ends them then, as QEMU's forwarding does."""

    def __init__(self, home: Path, environment: dict[str, str], reaches: Any = list) -> None:
        self.home = home
        self.environment = environment
        self._reaches = reaches

    def run(self, *words: str | Path, status: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """A program, by the user; ``status``: how it must end, None: somehow."""
        done = subprocess.run(
            self._reaches([str(word) for word in words]), env={**self.environment, **more}, cwd=self.home,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOUND_S,
        )  # fmt: skip
        assert status is None or done.returncode == status, f"{words}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done

    def docker(self, *words: str | Path, status: int | None = 0) -> str:
        return self.run("docker", *words, status=status).stdout

    def first_line(self, *words: str) -> str:
        """Of a program that goes on; "" when it says none in time."""
        with subprocess.Popen(self._reaches(words), env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            bound = threading.Timer(LINE_S, process.kill)
            bound.start()
            try:
                assert process.stdout is not None
                return process.stdout.readline().strip()
            finally:
                bound.cancel()
                process.kill()

    def has_image(self, name: str, archive: bytes, *changes: str) -> None:
        """Have an image where the engine finds it by its name when somebody asks for it."""
        words = ["docker", "import", *(word for one in changes for word in ("--change", one)), "-", name]
        subprocess.run(words, env=self.environment, input=archive, capture_output=True, timeout=BOUND_S, check=True)


class BesideRegistry(Laptop):
    """With a registry: an image is pulled when it is wanted first."""

    registry = "localhost:5000"
    takes_early = False

    def has_image(self, name: str, archive: bytes, *changes: str) -> None:
        super().has_image(name, archive, *changes)
        there = f"{self.registry}/{name if '/' in name else f'library/{name}'}"
        self.docker("tag", name, there)
        self.docker("push", "--quiet", there)
        self.docker("rmi", name, there)


@contextlib.contextmanager
def native_laptop() -> Iterator[Laptop]:
    """Before an engine on this computer, which Cove's files describe as a machine's."""
    home = Path(tempfile.mkdtemp(prefix="cove-l", dir="/tmp"))
    folder = home / "engine"
    folder.mkdir()
    engine = Engine(folder, "--registry-mirror", f"http://{ADDRESS}")
    try:
        engine.start()
        registry = Registry(engine, home / "registry", ADDRESS)
        try:
            user = home / "user"
            environment = _environment(home)
            with pytest.MonkeyPatch.context() as patch:
                for name in ("HOME", "COVE_HOME"):
                    patch.setenv(name, environment[name])
                patch.delenv("DOCKER_CONFIG", raising=False)
                paths = lifecycle.init("default")
                usual_socket.create(paths)
                paths.docker_socket.symlink_to(engine.socket)
            _use(user)
            yield BesideRegistry(user, environment, lambda words: engine.in_network(*words))
        finally:
            registry.close()
    finally:
        engine.close()
        shutil.rmtree(home, ignore_errors=True)


def laptop_of(machine: Machine) -> Laptop:
    _use(machine.home / "user")
    return Laptop(machine.home / "user", _environment(machine.home))


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COVE_", "XDG_"))}
    # Both clients keep things where temporary files are, beyond their end.
    temporary = home / "tmp"
    temporary.mkdir(exist_ok=True)
    made = {**kept, "HOME": str(home / "user"), "COVE_HOME": str(home), "TMPDIR": str(temporary)}
    if Path("/.dockerenv").exists():
        # These tests run in somebody's container themselves, by which testcontainers would look for ports on a gateway.
        made |= {"TESTCONTAINERS_HOST_OVERRIDE": "localhost", "TESTCONTAINERS_CONNECTION_MODE": "docker_host"}
    return made


def _use(user: Path) -> None:
    """`docker context use cove`, with docker's plugins of Debian."""
    folder = user / ".docker"
    made = docker_config(user / ".plugins")
    folder.mkdir(parents=True, exist_ok=True)
    (made / "cli-plugins").rename(folder / "cli-plugins")
    (folder / "config.json").write_text(json.dumps({"currentContext": "cove"}))
