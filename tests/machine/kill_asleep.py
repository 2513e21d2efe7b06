"""Kills of QEMU and the agent while a machine is suspended and wakes: what goes on afterwards has lost and repeated nothing.

A container counts: it keeps the number in its memory, appends it to a file in a volume, and prints it when it is on the disk. A state
that is loaded over a disk that has moved on would count numbers again that are in the file already; one that is lost begins
with the last number in the file, as after a power cut.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

_COUNT = (
    "n=$(tail -n 1 /v/numbers 2>/dev/null); n=${n:-0}; while :; do n=$((n+1));"
    " echo $n | dd of=/v/numbers oflag=append conv=notrunc,fsync 2>/dev/null && echo $n; sleep 0.05; done"
)
MOMENTS_S = {"suspend": 3.0, "start": 5.0}
"""Within these a kill comes, after the command began."""


class SleepRun:
    """``machine``: a tests.machine_support.Machine of its own that runs."""

    def __init__(self, machine: Any, seed: int) -> None:
        self._machine = machine
        self._random = random.Random(seed)
        self.ends: Counter[str] = Counter()
        """How the rounds went: what was killed amid what, and how the machine came back."""
        machine.docker(
            "run", "-d", "--name", "counter", "--restart", "always", "-v", "numbers:/v", "busybox", "sh", "-c", _COUNT
        )

    def round(self) -> None:
        """Raises AssertionError."""
        before = self._status()
        named = f"named-{self.ends.total()}"
        self._machine.docker("create", "--name", named, "busybox")
        acknowledged = self._acknowledged()
        verb = self._random.choice(("suspend", "start"))
        if verb == "start":
            self._machine.cove("machine", "suspend", "--force")
        words = ["machine", verb, *(["--force"] if verb == "suspend" else [])]
        who = self._random.choice(("agent", "QEMU"))
        with subprocess.Popen(
            [sys.executable, "-m", "cove", *words], env=self._machine.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as under_way:  # fmt: skip
            time.sleep(self._random.random() * MOMENTS_S[verb])
            with contextlib.suppress(OSError, ValueError):  # it was over already
                pid = before["agent_pid"] if who == "agent" else int((self._machine.folder / "qemu.pid").read_text())
                os.kill(pid, signal.SIGKILL)
            under_way.wait(180)
        said = self._machine.cove("machine", "start", timeout_s=180).stderr
        after = self._status()
        assert after["state"] == "running"
        same = after["boot_id"] == before["boot_id"]
        if not same:
            log = (self._machine.folder / "agent.log").read_text() + said
            assert "as after a power cut" in log or "the VM has ended by itself" in log or who == "QEMU"
        self.ends[f"{who} amid {verb}: {'went on' if same else 'booted'}"] += 1
        assert named in self._machine.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()
        self._check_numbers(acknowledged)
        assert "EXT4-fs error" not in self._machine.cove("machine", "ssh", "dmesg").stdout

    def _status(self) -> dict[str, Any]:
        return dict(json.loads(self._machine.cove("machine", "status", "--json").stdout))

    def _acknowledged(self) -> int:
        """The last number that a client has seen, and a moment later there are more."""
        lines = self._machine.docker("logs", "--tail", "1", "counter").stdout.split()
        return int(lines[-1]) if lines else 0

    def _check_numbers(self, acknowledged: int) -> None:
        numbers = self._numbers()
        assert numbers == [*range(1, len(numbers) + 1)], f"numbers are missing or there twice: {numbers[-50:]}"
        assert numbers[-1] >= acknowledged
        deadline = time.monotonic() + 60
        while len(self._numbers()) <= len(numbers):  # it counts on, by itself or started by its policy
            assert time.monotonic() < deadline, "the container does not go on"

    def _numbers(self) -> list[int]:
        told = self._machine.docker("run", "--rm", "-v", "numbers:/v", "busybox", "cat", "/v/numbers").stdout
        return [int(line) for line in told.split()]
