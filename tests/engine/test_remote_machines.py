"""Machines on other computers, by `cove` itself: real sshd, real links that are cut, an engine that is brought there and one that is used
as it is. On this computer, as root, in namespaces (`remote_host.py`)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine_support import shared_cache
from remote_host import RemoteHost

from busybox_image import import_busybox
from debian_files import init_folder, seccomp_profile

LIMIT_S, AGAIN_S = 120.0, 0.2
ROOT = Path(__file__).resolve().parents[2]


class Laptop:
    """A user of this computer, with a home and machines of their own."""

    def __init__(self, far: RemoteHost) -> None:
        self.far = far
        self.folder = Path(tempfile.mkdtemp(prefix="cove-l", dir="/tmp"))
        self.home = self.folder / "home"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        shutil.copy(far.user_key, self.home / ".ssh/id_ed25519")
        cove_home = self.folder / "c"
        cove_home.mkdir()
        (cove_home / "cache").symlink_to(shared_cache(), target_is_directory=True)
        kept = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"}
        self.environment = {**kept, "HOME": str(self.home), "COVE_HOME": str(cove_home)}

    def cove(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"cove {' '.join(words)}\n{done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def refused(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cove", *words], env=self.environment, capture_output=True, text=True, timeout=LIMIT_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cove("machine", "status", "far", "--json"))
        return found

    def comes_back(self, *words: str) -> str:
        """What it says once it succeeds."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            done = self.run(*words)
            if done.returncode == 0:
                return done.stdout
            assert time.monotonic() < deadline, f"{done.stdout}{done.stderr}{self.log()}"
            time.sleep(AGAIN_S)

    def log(self) -> str:
        file = self.folder / "c/data/machines/far/agent.log"
        return file.read_text()[-6000:] if file.exists() else ""

    def machine_files(self) -> list[str]:
        return [str(one) for one in (self.folder / "c/data/machines").glob("*") if not one.name.endswith(".lock")]

    def close(self) -> None:
        self.run("machine", "rm", "--force", "far")
        shutil.rmtree(self.folder, ignore_errors=True)


def page(port: int) -> str:
    return subprocess.run(
        ["curl", "-s", "-m", "20", f"http://127.0.0.1:{port}/index.html"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    ).stdout


def page_becomes(port: int, wanted: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while (found := page(port)) != wanted:
        assert time.monotonic() < deadline, f"{found!r} at port {port}, and not {wanted!r}"
        time.sleep(AGAIN_S)


def web(name: str, port: int) -> list[str]:
    serve = f"echo {name} >/index.html; exec httpd -f -h / -p 80"
    options = ["-d", "--name", name, "--stop-timeout", "1", "-p", f"{port}:80", "--restart", "always"]
    return ["-m", "far", "run", *options, "busybox", "sh", "-c", serve]


LENT = [word for each in ("usr", "lib", "lib64") for word in ("-v", f"/host/{each}:/{each}:ro")]
"""The far host's own programs, for a container of its."""
SHOUT = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5353))
while True:
    data, peer = s.recvfrom(1 << 16)
    s.sendto(data.upper(), peer)
"""


def shouted(port: int, words: bytes) -> bytes:
    """What comes back of a datagram; one that comes before the program in the container is lost."""
    deadline = time.monotonic() + LIMIT_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        while time.monotonic() < deadline:
            asking.sendto(words, ("127.0.0.1", port))
            try:
                return asking.recv(1 << 16)
            except (TimeoutError, ConnectionRefusedError):
                continue
    raise AssertionError(f"no datagram comes back from port {port}")


@pytest.fixture
def far() -> Iterator[RemoteHost]:
    made = RemoteHost(shared=(ROOT, Path(sys.prefix), Path(sys.base_prefix)))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def laptop(far: RemoteHost) -> Iterator[Laptop]:
    made = Laptop(far)
    try:
        yield made
    finally:
        made.close()


def test_an_engine_of_ours_comes_to_a_host_and_goes(laptop: Laptop, far: RemoteHost) -> None:
    files, traces = far.changed(), far.traces()
    (source := laptop.home / "src").mkdir()
    share = [word for each in (source, "/no/such") for word in ("--share", str(each))]
    said = laptop.run("machine", "init", "--ssh", f"root@{far.address}", "--host-key", far.fingerprint, *share, "far")
    assert "Cove's own engine" in said.stdout, said.stderr
    assert "/no/such is not shared: there is no such folder" in said.stderr
    started = laptop.run("machine", "start", "far")
    assert started.returncode == 0, started.stderr
    laptop.cove(*web("first", 18471))
    assert page(18471) == "first\n"
    status = laptop.status()
    assert "/no/such is not shared: there is no such folder" in started.stderr
    state = status["folders"][0]["state"]
    assert (state == "shared") or f"{source}: {state}" in started.stderr
    assert (status["state"], status["engine"], status["host"]) == ("running", "cove", f"root@{far.address}")
    assert status["host_key"] == far.fingerprint
    assert "unreachable" not in laptop.cove("machine", "list")
    words = ["-p", "18473:5353/udp", *LENT, "busybox", "/usr/bin/python3", "-c", SHOUT]
    laptop.cove("-m", "far", "run", "-d", "--name", "udp", "--stop-timeout", "1", *words)
    assert shouted(18473, b"x" * 20_000) == b"X" * 20_000

    # What is sent is lost from now on: clients are told, the container goes on, and nobody else gets its port.
    far.cut()
    told = laptop.refused("-m", "far", "ps")
    assert f"the connection to root@{far.address} is lost since" in told
    assert laptop.status()["state"] == "unreachable"
    assert page(18471) == ""
    assert "cannot be reached" in laptop.refused(
        "machine", "stop", "far"
    )  # which is no reason to turn anybody away later
    far.restore()
    assert "first" in laptop.comes_back("-m", "far", "ps")
    assert page(18471) == "first\n"
    assert laptop.status()["state"] == "running"

    # It boots anew: the next connection starts the engine, and that what is to be restarted.
    far.reboot()
    assert "first" in laptop.comes_back("-m", "far", "ps")
    page_becomes(18471, "first\n")

    laptop.cove("machine", "stop", "far")
    assert far.traces() == traces
    assert page(18471) == ""
    laptop.cove("machine", "rm", "--force", "far")
    assert far.traces() == traces
    assert far.changed() == files
    assert not laptop.machine_files()


def test_an_engine_that_is_there_is_used_as_it_is(laptop: Laptop, far: RemoteHost) -> None:
    started = dockerd(far)
    laptop.cove("machine", "init", "--ssh", f"root@{far.address}", "--engine", "docker", "--accept-host-key", "far")
    laptop.cove("machine", "start", "far")
    import_busybox(f"unix://{laptop.status()['docker_socket']}")
    laptop.cove(*web("theirs", 18472))
    page_becomes(18472, "theirs\n")
    assert "docker" in laptop.cove("machine", "status", "far")

    # The engine ends and comes again, as at an upgrade, with the connection whole.
    far.sh(f"kill {started}; while [ -e /proc/{started} ]; do sleep 0.1; done")
    laptop.refused("-m", "far", "ps")
    dockerd(far)
    assert "theirs" in laptop.comes_back("-m", "far", "ps")
    page_becomes(18472, "theirs\n")
    laptop.cove("-m", "far", "rm", "-f", "theirs")
    page_becomes(18472, "")

    # A port that another program of this computer has is told of; it is had once that has ended.
    with subprocess.Popen(
        [sys.executable, "-u", "-c", "import socket; s = socket.create_server(('127.0.0.1', 18472)); print(); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        other.stdout.readline()
        laptop.cove(*web("late", 18472))
        deadline = time.monotonic() + LIMIT_S
        while not (lost := laptop.status().get("lost_ports")):
            assert time.monotonic() < deadline
        assert lost[0]["port"] == "127.0.0.1:18472/tcp"
        assert "python" in lost[0]["reason"]
    laptop.status()
    page_becomes(18472, "late\n")

    # What runs there stays when the machine goes.
    laptop.cove("machine", "rm", "--force", "far")
    assert "httpd" in far.traces()["processes"]


def dockerd(far: RemoteHost) -> int:
    """Cove's engine in dockerd's place: its API at dockerd's socket. The pid there."""
    (far.folder / "places/_var_lib/seccomp.json").write_bytes(seccomp_profile().read_bytes())
    variables = (
        f"PYTHONPATH={ROOT}/guest COVE_SECCOMP_PROFILE=/var/lib/seccomp.json PATH=$PATH:/usr/sbin:{init_folder()}"
    )
    options = "--root /var/lib/docker --socket /run/docker.sock --state /run/dockerd"
    far.begin(
        f"cd /; rm -f /run/docker.sock; export {variables}; echo $$ >/run/dockerd.pid; exec {sys.executable} -m coved {options}"
    )
    ask = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('/run/docker.sock');"
        r" s.sendall(b'GET /_ping HTTP/1.0\r\n\r\n'); sys.exit(b' 200 ' not in s.recv(99))"
    )
    deadline = time.monotonic() + LIMIT_S
    while subprocess.run(far.inside(sys.executable, "-c", ask), capture_output=True, timeout=LIMIT_S).returncode:
        assert time.monotonic() < deadline, far.log()[-3000:]
        time.sleep(AGAIN_S)
    return int(far.sh("cat /run/dockerd.pid"))


def test_a_host_has_to_be_who_it_was(laptop: Laptop, far: RemoteHost) -> None:
    init = ["machine", "init", "--ssh", f"root@{far.address}", "--engine", "docker"]
    far.sh("touch /run/x; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('/run/docker.sock')\"")
    assert f"key is {far.fingerprint}" in laptop.refused(*init, "--json", "far")  # and nobody is asked
    assert far.fingerprint in laptop.refused(*init, "--host-key", "SHA256:" + "A" * 43, "far")
    (laptop.home / ".ssh/known_hosts").write_text(f"{far.address} {far.host_key}\n")
    laptop.cove(*init, "far")
    assert laptop.status()["state"] == "stopped"
    assert far.fingerprint in laptop.cove("machine", "status", "far")

    pinned = far.fingerprint
    far.stop()
    far.new_host_key()
    far.start()
    told = laptop.refused("machine", "start", "far")
    assert f"shows another host key than before: {far.fingerprint}, and not {pinned}" in told
    assert "another host key" in laptop.run("diagnose", "far").stdout
    assert far.fingerprint in laptop.cove(*init, "--host-key", far.fingerprint, "far")  # whatever known_hosts has


def test_a_host_that_is_out_of_reach_is_forgotten_by_force(laptop: Laptop, far: RemoteHost) -> None:
    laptop.cove("machine", "init", "--ssh", f"root@{far.address}", "--engine", "cove", "--accept-host-key", "far")
    laptop.cove("machine", "start", "far")
    instance = laptop.status()["instance"]
    far.stop()
    refused = laptop.refused("machine", "stop", "far")
    assert "cannot be reached" in refused
    assert "cove machine stop --force far" in refused
    assert "what runs there goes on" in laptop.cove("machine", "stop", "--force", "far")
    status = laptop.status()
    assert (status["state"], status["agent_pid"]) == ("running", None)
    done = laptop.run("machine", "rm", "--force", "far")
    assert done.returncode == 0, done.stderr
    assert f"/var/lib/cove-remote/{instance}" in done.stderr
    assert not laptop.machine_files()


def test_what_a_failed_start_has_begun_is_stopped_and_a_host_that_is_as_new_is_used(
    laptop: Laptop, far: RemoteHost
) -> None:
    far.sh("echo AllowStreamLocalForwarding no >>/etc/ssh/sshd_config")
    far.reboot()
    traces = far.traces()
    laptop.cove("machine", "init", "--ssh", f"root@{far.address}", "--engine", "cove", "--accept-host-key", "far")
    assert "its sshd forbids it" in laptop.refused("machine", "start", "far")
    assert laptop.status()["state"] == "running"
    assert far.traces()["processes"] != traces["processes"]
    laptop.cove("machine", "stop", "far")
    assert far.traces() == traces

    far.sh("sed -i /^AllowStreamLocalForwarding/d /etc/ssh/sshd_config")
    far.reboot()
    laptop.cove("machine", "start", "far")
    far.stop()
    shutil.rmtree(far.folder / "places/_var_lib/cove-remote")
    far.start()
    laptop.comes_back("-m", "far", "ps")
    laptop.cove("machine", "stop", "far")
    assert far.traces() == traces


def test_commands_that_are_not_for_another_computer_say_so(laptop: Laptop, far: RemoteHost) -> None:
    far.sh("python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('/run/docker.sock')\"")
    laptop.cove("machine", "init", "--ssh", f"root@{far.address}", "--engine", "docker", "--accept-host-key", "far")
    for command in ("suspend", "upgrade", "rollback", "reset", "resume"):
        assert "not for the machine far" in laptop.refused("machine", command, "far")
    assert "cpus means nothing for the machine far" in laptop.refused("config", "set", "-m", "far", "cpus", "4")
    assert laptop.cove("config", "list", "-m", "far").startswith("bind_address = ")
    assert "memory" not in laptop.cove("config", "list", "-m", "far")
    assert "podman" in laptop.refused(
        "machine", "init", "--ssh", f"root@{far.address}", "--engine", "podman", "--accept-host-key", "other"
    )
