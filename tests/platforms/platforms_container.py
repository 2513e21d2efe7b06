"""Systems to install packages on: containers of Cove's own engine, on this computer, from the base images that it makes."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from base_image import have_base_image
from engines import Engine
from uplink import uplink

BOUND_S = 600
USER = "someone"


class Containers:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextlib.contextmanager
    def running(self, image: str, *files: Path) -> Iterator[Container]:
        """One of a base image, with a user and, in /tmp, with copies of `files`."""
        have_base_image(self._engine.url, image)
        made = Container(self._engine.url, f"installed-{uuid.uuid4().hex[:8]}")
        made.docker("run", "--detach", "--init", "--name", made.name, image, "sleep", "infinity")
        try:
            made.sh(f"useradd --create-home {USER}")
            for file in files:
                made.docker("cp", str(file), f"{made.name}:/tmp/")
            yield made
        finally:
            made.docker("rm", "--force", made.name)


class Container:
    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self.name = name

    def sh(self, script: str, user: str = "root", status: int = 0) -> str:
        """What a login shell says on both outputs."""
        words = ["exec", self.name, "su", "-s", "/bin/bash", "-", user, "-c", f"exec 2>&1; set -eu; {script}"]
        return self.docker(*words, status=status)

    def install(self, *packages: str, status: int = 0) -> str:
        """By apt, as the documentation says, without a question and without what is only recommended."""
        self.sh("apt-get update -qq")
        words = f"apt-get install -q -y --no-install-recommends {' '.join(packages)}"
        return self.sh(f"DEBIAN_FRONTEND=noninteractive {words}", status=status)

    def docker(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            ["docker", "--host", self._url, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
        )
        assert done.returncode == status, f"status {done.returncode}: {done.stdout[-5000:]}{done.stderr[-5000:]}"
        return done.stdout


@contextlib.contextmanager
def containers() -> Iterator[Containers]:
    """Which reach what this computer reaches."""
    engine = Engine(Path(tempfile.mkdtemp(prefix="cove-i", dir="/tmp")))
    with contextlib.closing(engine):
        engine.start()
        with uplink(engine):
            yield Containers(engine)
