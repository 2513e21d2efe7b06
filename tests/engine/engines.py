"""The engines that are tested: the one in the VM, and `coved` on this computer. Tests look at either's machine through the
same methods, and so run on both."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from debian_files import crun_folder, init_folder, seccomp_profile
from life_support import ask

START_S = 30
LOOK_S = 60


class AnyEngine:
    """What tests may ask of an engine and its machine, wherever it is."""

    url: str
    socket: Path
    root: Path
    """Where it keeps images and containers."""
    state: Path
    """Where it keeps what ends with the machine's boot."""

    slowness = 1.0
    """How much longer than on this computer things may take."""
    pause_s = 0.05
    """Between two looks at it."""
    table: str
    """Name of its nft table."""

    def nft_ports(self, rules: str, ports: set[tuple[str, str]]) -> tuple[set[str], set[str]]:
        """The published ports that its nft table leads on, and which those must be; ``ports``: on the computer, and of the VM."""
        raise NotImplementedError

    def sh(self, script: str) -> str:
        """What a shell on the engine's machine says; what goes wrong there is a failure."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it again after `kill`; it answers."""
        raise NotImplementedError

    def log(self) -> str:
        """What it has written down."""
        raise NotImplementedError

    def in_network(self, *words: str) -> list[str]:
        """A command line of this computer that reaches the engine's published ports."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The engine's own, which is another after each death of it."""
        raise NotImplementedError

    @property
    def supervisor(self) -> int:
        """The pid of the engine's supervisor."""
        raise NotImplementedError

    def next_pid(self, but: int) -> int:
        """The engine's pid, once there is one that is another than `but`."""
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(ValueError, IndexError):
                if (pid := self.pid) != but:
                    return pid
            assert time.monotonic() < deadline, "there is no engine"

    def kill_process(self, pid: int) -> None:
        """kill -9, of one that may have gone."""
        self.sh(f"kill -9 {pid} || true")

    def kill_supervisor(self) -> int:
        """kill -9, of which the engine dies as well; whatever starts services here starts the next. The engine's pid."""
        pid = self.pid
        self.kill_process(self.supervisor)
        return pid

    def ended(self) -> bool:
        """Whether it is over for good."""
        return False

    def kill(self, meanwhile: str = "") -> None:
        """kill -9; the containers go on. `meanwhile` is a script for the machine while there is no engine."""
        pid = self.pid
        self.sh(f"kill -9 {pid}; while grep -q '^State:.[^ZX]' /proc/{pid}/status 2>/dev/null; do :; done; {meanwhile}")

    def read(self, path: Path | str) -> str:
        return self.sh(f"cat {shlex.quote(str(path))}")

    def names(self, folder: Path | str) -> list[str]:
        """What is in a folder; nothing when it is not there."""
        return self.sh(f"ls -A {shlex.quote(str(folder))} 2>/dev/null || true").split("\n")[:-1]

    def exists(self, path: Path | str) -> bool:
        return bool(self.sh(f"[ -e {shlex.quote(str(path))} ] && echo yes || true"))

    def cgroups(self) -> Path:
        """Where its machine has its cgroup v2 tree."""
        return Path(self.sh("awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts").strip())

    def now(self) -> float:
        """Its machine's clock."""
        told = ask(self, "GET", "/info")[1]["SystemTime"]
        # Nine digits, of which Python takes six.
        return datetime.fromisoformat(f"{told[:19]}{told[19:].rstrip('Z')[:7]}+00:00").timestamp()

    def descriptors(self) -> int:
        """How many descriptors the engine has open."""
        return len(self.names(f"/proc/{self.pid}/fd"))

    def memory_kib(self) -> int:
        """The engine's resident memory."""
        return int(self.sh(f"awk '/^VmRSS/ {{print $2}}' /proc/{self.pid}/status"))


class Engine(AnyEngine):
    """On this computer, in a network namespace of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.root = folder / "root"
        self.state = folder / "run"
        self.socket = folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.table = f"cove-{hashlib.sha256(str(self.state.resolve()).encode()).hexdigest()[:8]}"
        self._log = (folder / "log").open("ab")
        # The namespace must outlive the engine, or its bridges would go with it.
        self._namespace = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "ip link set lo up; echo; exec sleep 7200"], stdout=subprocess.PIPE
        )
        assert self._namespace.stdout is not None
        self._namespace.stdout.readline()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def namespace_pid(self) -> int:
        """Of a process in the engine's network namespace."""
        return self._namespace.pid

    def launch(self) -> None:
        """Starts its supervisor as PID 1 does in the VM: without waiting for it."""
        words = [*self.in_network(sys.executable), "-m", "coved"]
        words += ["--root", str(self.root), "--socket", str(self.socket), "--state", str(self.state), *self.options]
        environment = {**os.environ, "COVE_SECCOMP_PROFILE": str(seccomp_profile())}
        environment["PATH"] = f"{environment['PATH']}:{init_folder()}:{crun_folder()}"
        self.process = subprocess.Popen(words, stdout=self._log, stderr=self._log, env=environment)

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.launch()
        assert self.process is not None
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the engine did not start:\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return ask(self, "GET", "/_ping")[0] == 200
        except OSError:
            return False

    def kill(self, meanwhile: str = "") -> None:
        """Along with its supervisor, which would start the next one at once."""
        assert self.process is not None
        pid = self.pid
        self.process.kill()
        self.process.wait(10)
        self.sh(f"while grep -q '^State:.[^ZX]' /proc/{pid}/status 2>/dev/null; do :; done; {meanwhile}")

    def sh(self, script: str) -> str:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=LOOK_S)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def nft_ports(self, rules: str, ports: set[tuple[str, str]]) -> tuple[set[str], set[str]]:
        return set(re.findall(r"tcp \. 127\.0\.0\.1 \. (\d+) :", rules)), {host for host, _ in ports}

    @property
    def supervisor(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill_process(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def kill_supervisor(self) -> int:
        """Here there is no PID 1 that starts it again: this does."""
        pid = super().kill_supervisor()
        assert self.process is not None
        self.process.wait(10)
        self.launch()
        return pid

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    @property
    def pid(self) -> int:
        return int(self.read(f"/proc/{self.supervisor}/task/{self.supervisor}/children").split()[0])

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def in_network(self, *words: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._namespace.pid}/ns/net", *words]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._namespace.kill()
        self._namespace.wait(10)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class VmEngine(AnyEngine):
    """In the VM, where PID 1 starts it again by itself."""

    root = Path("/var/lib/cove")
    state = Path("/run/cove")
    slowness, pause_s = 4.0, 0.5  # it is emulated
    table = "cove"

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self.url = machine.docker_host
        self.socket = Path(self.url.removeprefix("unix://"))
        self._shell = _Shell([sys.executable, "-m", "cove", "machine", "ssh", "sh"], machine.environment)

    def sh(self, script: str) -> str:
        return self._shell.run(script)

    def nft_ports(self, rules: str, ports: set[tuple[str, str]]) -> tuple[set[str], set[str]]:
        led = re.search(r"map published \{.*?\n\t\}", rules, re.DOTALL)
        return set(re.findall(r"6 \. (\d+) : ", led[0] if led else "")), {guest for _, guest in ports}

    @property
    def pid(self) -> int:
        return int(self.sh("cd /proc; grep -lx cove-engine [0-9]*/comm 2>/dev/null | head -n 1").partition("/")[0])

    @property
    def supervisor(self) -> int:
        return int(self.sh(f"cut -d ' ' -f 4 /proc/{self.pid}/stat"))

    def start(self) -> None:
        self._machine.docker("version")

    def log(self) -> str:
        return self.read(self.root / "log/engine.log")

    def in_network(self, *words: str) -> list[str]:
        """Its published ports are this computer's."""
        return list(words)

    def close(self) -> None:
        self._shell.close()


class _Shell:
    """A shell that stays: connecting to the emulated machine takes most of a second, a command on the way there a moment."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._words, self._environment = words, environment
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, script: str) -> str:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment, bufsize=0
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        mark = uuid.uuid4().hex
        errors = f"/tmp/errors-{mark}"
        line = f"sh -c {shlex.quote(script)} </dev/null 2>{errors}; echo {mark} $?; cat {errors}; rm {errors}; echo {mark}\n"
        self._process.stdin.write(line.encode())
        told, deadline = b"", time.monotonic() + LOOK_S
        while not told.endswith(f"{mark}\n".encode()) or told.count(mark.encode()) < 2:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            piece = self._process.stdout.read(1 << 20) if ready else b""
            if not piece:
                self.close()
                pytest.fail(f"the machine's shell gave no answer within {LOOK_S} s to\n{script}\nbut {told!r}")
            told += piece
        said, _, rest = told.decode("utf-8", "replace").removesuffix(f"{mark}\n").partition(f"{mark} ")
        status, _, complaint = rest.partition("\n")
        assert status == "0", f"{script}\n{said}{complaint}"
        return said

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
