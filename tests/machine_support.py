"""A real VM for tests: booted, looked at from outside, and removed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

START_S = 600
"""Seconds for image and first boot: downloads, unpacking, and a boot under software emulation."""


_TROUBLE = re.compile(r"Kernel panic|Oops|BUG: |rcu_preempt detected stalls|soft lockup|blocked for more than")


class Machine:
    """A Cove of its own, under a COVE_HOME of its own; only downloads are shared with the user's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COVE_"))},
            "COVE_HOME": str(home),
            "HOME": str(home / "user"),  # which is shared with the machine
            "DOCKER_CONFIG": str(home / "user/.docker"),  # where it is without that, too
        }
        mirrors = {name: os.environ[name] for name in os.environ if name.startswith("COVE_DEBIAN_")}
        self.environment.update(mirrors)

    @property
    def folder(self) -> Path:
        return self.home / "data" / "machines" / "default"

    @property
    def docker_host(self) -> str:
        return f"unix://{self.home}/run/default/docker.sock"

    def cove(self, *words: str, timeout_s: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `cove`; with `check`, fail with what it said when it does not succeed."""
        return self._run([sys.executable, "-m", "cove", *words], timeout_s, check, {})

    def docker(self, *words: str, timeout_s: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run docker's own client on the machine's socket."""
        return self._run(["docker", *words], timeout_s, check, {"DOCKER_HOST": self.docker_host})

    def check_console(self) -> None:
        """Fail when the VM's kernel complained: whatever tests saw of it, it is the cause."""
        console = (self.folder / "console.log").read_text(errors="replace")
        if found := _TROUBLE.search(console):
            pytest.fail(f"the VM's kernel was in trouble:\n{console[max(0, found.start() - 200) :][:6000]}")

    def _run(
        self, words: list[str], timeout_s: float, check: bool, more: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, env={**self.environment, **more}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout_s,
        )  # fmt: skip
        if check and done.returncode:
            pytest.fail(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done


@contextlib.contextmanager
def running_machine(**settings: str) -> Iterator[Machine]:
    """With these settings, by their keys."""
    # Short, for the paths of sockets; the cache of downloads is the user's own, so that they are fetched once.
    home = Path(tempfile.mkdtemp(prefix="cove-t", dir="/tmp"))
    (home / "user").mkdir()
    (home / "cache").symlink_to(shared_cache(), target_is_directory=True)
    made = Machine(home)
    made.environment |= {f"COVE_{key.upper()}": value for key, value in settings.items()}
    try:
        made.cove("machine", "start", timeout_s=START_S)
        yield made
        made.check_console()
    finally:
        made.cove("machine", "rm", "--force", timeout_s=180, check=False)
        shutil.rmtree(home, ignore_errors=True)


def shared_cache() -> Path:
    import platformdirs

    cache = Path(platformdirs.user_cache_dir("cove", appauthor=False))
    cache.mkdir(parents=True, exist_ok=True)
    return cache
