"""A Cove of its own whose QEMU is a stand-in: command line, agent, locks, sockets, QMP, link and SSH are all real."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.machine import lifecycle, settings
from cove.machine.paths import MachinePaths
from cove.support import status
from made_vm_images import publish_image

FAKE = Path(__file__).parent / "fake_qemu.py"
QEMU = f"""\
#!/bin/sh
case " $* " in
*" --version "*) echo "QEMU emulator version 9.9.9 (fake)" ;;
*" -pidfile "*) exec "{sys.executable}" "{FAKE}" "$@" ;;
*" tcg "*) exit {0x31 << 1 | 1} ;;
*) echo "fake: there is no such accelerator" >&2; exit 1 ;;
esac
"""
"""The stand-in. Each first start asks for its version and tries accelerators, of which only software emulation runs the firmware: a
shell has answered before a Python has started."""


class Cove:
    """One COVE_HOME. `faults` are words for the stand-in (see fake_qemu)."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.faults = ""
        self.qemu = home / "qemu"
        self.qemu.write_text(QEMU)
        self.qemu.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "COVE_FAKE": self.faults}

    def wait_less(
        self, monkeypatch: pytest.MonkeyPatch, seconds: float, *bounds: str, there: Path | None = None
    ) -> None:
        """Agents that start from now on wait so long where their bounds, of `cove.agent.vm` or of the module that is named, are for real
        guests; with `there` only those that find such a file, as not all may be given up soon that are waited for."""
        site = self.home / "site"
        site.mkdir(exist_ok=True)
        with (site / "sitecustomize.py").open("a") as file:
            file.write("import importlib, os, sys\nif sys.argv[0] == '-m' and 'cove.agent' in sys.orig_argv:\n")
            for bound in bounds:
                module, _, name = bound.rpartition(".")
                module = f"importlib.import_module({module or 'cove.agent.vm'!r})"
                if there is None:
                    file.write(f"    {module}.{name} = {seconds}\n")
                else:  # each agent is a fork of its supervisor
                    less = f"lambda: os.path.exists({str(there)!r}) and setattr({module}, {name!r}, {seconds})"
                    file.write(f"    os.register_at_fork(after_in_child={less})\n")
        monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def make(self, name: str = "default") -> MachinePaths:
        paths = lifecycle.init(name)
        settings.set_value(paths.settings, "qemu", str(self.qemu))
        return paths

    def spawn(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cove", *words], env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        process = self.spawn(*words)
        out, errors = process.communicate(timeout=60)
        if status is not None and process.returncode != status:
            pytest.fail(f"cove {' '.join(words)}: exit status {process.returncode}\n{out}{errors}")
        return subprocess.CompletedProcess(words, process.returncode, out, errors)

    def status(self, name: str = "default") -> dict[str, Any]:
        """What `cove machine status --json` tells, told by this process: it is asked for again and again."""
        return dict(json.loads(json.dumps(status.of(name), default=str)))

    def end(self) -> None:
        """Kill what tests left running: agents and stand-ins whose files are under this home."""
        while self._kill_all():  # an agent may have started its VM while we looked
            time.sleep(0.01)

    def _kill_all(self) -> bool:
        found = False
        for process in Path("/proc").iterdir():
            if not process.name.isdecimal() or int(process.name) == os.getpid():
                continue
            try:
                words = (process / "cmdline").read_bytes()
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            ours = f"COVE_HOME={self.home}\0".encode() in environment + b"\0"
            if ours and (b"cove.agent" in words or b"fake_qemu" in words):
                os.kill(int(process.name), signal.SIGKILL)
                found = True
        return found


@contextlib.contextmanager
def cove_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cove]:
    home = Path(tempfile.mkdtemp(prefix="cove-u", dir="/tmp"))  # short, for the paths of sockets
    for name in [name for name in os.environ if name.startswith(("COVE_", "DOCKER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COVE_HOME", str(home))
    # Agents run in their machine's folder, and must not find another Cove there than the one that is tested.
    places = [str(Path(place).absolute()) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    # Shutdowns of the computer that the tests run on are none of theirs.
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={home}/no-bus")
    publish_image()
    made = Cove(home)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(home, ignore_errors=True)
