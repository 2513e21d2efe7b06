"""Engines for the engine's tests, with busybox imported: the one in the shared VM, or with ``--native`` `coved` on this
computer, in a network namespace of its own. Tests of what only its own machine can see use `native_engine` in both cases."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from isolation_support import making
from runtime_support import busybox

START_S = 30
_INIT_PACKAGE = "tini"
_SECCOMP_PACKAGE = "golang-github-containers-common"


class Engine:
    """`kill` and `start` again leave the containers running."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.root = folder / "root"
        self.socket = folder / "docker.sock"
        self.url = f"unix://{self.socket}"
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

    def log_end(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def launch(self) -> None:
        """Starts it as PID 1 does in the VM: without waiting for it."""
        words = ["nsenter", f"--net=/proc/{self._namespace.pid}/ns/net", sys.executable, "-m", "coved"]
        words += [
            "--root",
            str(self.root),
            "--socket",
            str(self.socket),
            "--state",
            str(self.folder / "run"),
            *self.options,
        ]
        environment = {**os.environ, "COVE_SECCOMP_PROFILE": str(_seccomp_profile())}
        environment["PATH"] = f"{environment['PATH']}:{_init_folder()}:{_crun_folder()}"
        self.process = subprocess.Popen(words, stdout=self._log, stderr=self._log, env=environment)

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.launch()
        assert self.process is not None
        deadline = time.monotonic() + START_S
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the engine did not start:\n{self.log_end()}")
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def sh(self, script: str) -> str:
        """What a shell on the engine's machine says."""
        return subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True, timeout=60).stdout

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def descriptors(self) -> int:
        """How many descriptors the engine has open."""
        return len(self.sh(f"ls /proc/{self.pid}/fd").split())

    def memory_kib(self) -> int:
        """The engine's resident memory."""
        return int(self.sh(f"awk '/^VmRSS/ {{print $2}}' /proc/{self.pid}/status"))

    def in_network(self, *words: str) -> list[str]:
        """A command line that runs in the engine's network namespace."""
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


class VmEngine:
    """The same for the engine in the VM, which PID 1 starts again by itself."""

    root = Path("/var/lib/cove")

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self.url = machine.docker_host
        self.socket = Path(self.url.removeprefix("unix://"))

    def sh(self, script: str) -> str:
        return str(self._machine.cove("machine", "ssh", script).stdout)

    @property
    def pid(self) -> int:
        return int(self.sh("ps | awk '/[m] coved.vm/ {print $1}'"))

    def kill(self) -> None:
        self.sh(f"kill -9 {self.pid}")

    def start(self) -> None:
        """Returns when it answers again."""
        self._machine.docker("version")

    def descriptors(self) -> int:
        return len(self.sh(f"ls /proc/{self.pid}/fd").split())

    def memory_kib(self) -> int:
        return int(self.sh(f"awk '/^VmRSS/ {{print $2}}' /proc/{self.pid}/status"))

    def in_network(self, *words: str) -> list[str]:
        """Its published ports are this computer's."""
        return list(words)


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("native_engine" if request.config.getoption("--native") else "vm_engine")


@pytest.fixture(scope="session")
def vm_engine(machine: Any) -> VmEngine:
    made = VmEngine(machine)
    _import_busybox(made.url)
    return made


@pytest.fixture(scope="session")
def native_engine() -> Iterator[Engine]:
    with running_engine() as made:
        yield made


@pytest.fixture(scope="session")
def engine_with() -> Callable[..., contextlib.AbstractContextManager[Engine]]:
    """Starts further engines, with options of the command line."""
    return running_engine


@contextlib.contextmanager
def running_engine(*options: str) -> Iterator[Engine]:
    """An engine with these options of the command line, and busybox in it."""
    made = Engine(Path(tempfile.mkdtemp(prefix="cove-e", dir="/tmp")), *options)
    try:
        made.start()
        _import_busybox(made.url)
        yield made
    finally:
        made.close()


def _import_busybox(url: str) -> None:
    client = docker.DockerClient(url, timeout=60)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    client.api.import_image_from_data(_busybox_tar(), "busybox", "latest", changes=['CMD ["sh"]', f"ENV {path}"])
    client.close()


@pytest.fixture
def docker_client(engine: Any) -> Iterator[Any]:
    client = docker.DockerClient(engine.url, timeout=60)
    yield client
    client.close()


@pytest.fixture
def make(docker_client: Any) -> Iterator[Callable[..., Any]]:
    """Containers of busybox that are gone after the test."""
    with making(docker_client) as create:
        yield create


def _busybox_tar() -> bytes:
    program = busybox()
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name in ("bin", "etc", "tmp", "root", "dev", "proc", "sys"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(member)
        data = program.read_bytes()
        member = tarfile.TarInfo("bin/busybox")
        member.size, member.mode = len(data), 0o755
        archive.addfile(member, io.BytesIO(data))
        for applet in subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split():
            if applet != "busybox":
                member = tarfile.TarInfo(f"bin/{applet}")
                member.type, member.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(member)
        for name, text in (
            ("passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
            ("group", "root:x:0:\n"),
        ):
            member = tarfile.TarInfo(f"etc/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return output.getvalue()


def _seccomp_profile() -> Path:
    """Docker's default profile as Debian packages it, fetched when this system does not have it."""
    return _packaged(Path("/usr/share/containers/seccomp.json"), _SECCOMP_PACKAGE)


def _init_folder() -> Path:
    """Where tini is, for --init."""
    return _packaged(Path("/usr/bin/tini-static"), _INIT_PACKAGE).parent


def _crun_folder() -> Path:
    """Where crun is, the other runtime."""
    program = _packaged(Path("/usr/bin/crun"), "crun")
    if program == Path("/usr/bin/crun"):
        return program.parent
    library = _packaged(Path("/usr/lib/x86_64-linux-gnu/libyajl.so.2"), "libyajl2")
    folder = program.parents[2] / "wrapped"
    folder.mkdir(exist_ok=True)
    wrapper = folder / "crun"
    wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={library.parent} exec {program} "$@"\n')
    wrapper.chmod(0o755)
    return folder


def _packaged(path: Path, package: str) -> Path:
    """A file of a Debian package: the machine's own, or that of the package, fetched once."""
    if path.exists():
        return path
    cache = Path(tempfile.gettempdir()) / f"cove-test-cache-{os.getuid()}"
    found = cache / package / path.relative_to("/")
    if not found.exists():
        cache.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", package], cwd=cache, check=True, timeout=120)
        (archive,) = cache.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", archive, cache / package], check=True, timeout=60)
        archive.unlink()
    return found


@pytest.fixture
def name(docker_client: Any) -> Iterator[str]:
    """A container's name of this test's own; the containers with it go afterwards."""
    made = f"t-{uuid.uuid4().hex[:12]}"
    yield made
    for container in docker_client.containers.list(all=True, filters={"name": made}):
        container.remove(force=True)


@pytest.fixture(scope="module")
def own_engine() -> Iterator[Engine]:
    """An engine for tests after which nobody can know what is left in it."""
    with running_engine() as made:
        yield made
