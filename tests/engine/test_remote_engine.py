"""Cove's engine on a host that it is brought to: installed, used, upgraded, and gone without a trace."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cove.errors import RemoteError, TransportError
from cove.machine.architecture import AMD64
from cove.remote.engine import RemoteEngine, Running, look
from cove.remote.payload import MARK, Payload, payload
from local_host import Laptop, LocalHost, heard
from remote_host import RemoteHost

NAME, OTHER, THIRD = "0123456789abcdef", "fedcba9876543210", "0011223344556677"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def far() -> Iterator[RemoteHost]:
    made = RemoteHost()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def brought() -> Payload:
    return payload(AMD64)


@pytest.fixture(scope="module")
def installed(far: RemoteHost) -> Iterator[RemoteEngine]:
    """Nothing of it is there when the tests are over."""
    made = RemoteEngine(LocalHost(far), NAME, "default of a test")
    yield made
    made.remove()


@pytest.fixture
def engine(installed: RemoteEngine, brought: Payload) -> RemoteEngine:
    """It may run already, from a test before."""
    installed.install(brought)
    return installed


def laptop(far: RemoteHost, running: Running) -> Laptop:
    return Laptop(LocalHost(far), running.streams)


def rules(far: RemoteHost) -> str:
    """The names of all nft tables there."""
    program = "from coved.networks.nftables import Nftables; print(Nftables().run('list tables'))"
    words = ["nsenter", "-t", str(far.pid), "-n", sys.executable, "-c", program]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout


def state(far: RemoteHost) -> tuple[dict[str, str], set[str], str]:
    return far.traces(), far.changed(), rules(far)


def differences(far: RemoteHost, before: tuple[dict[str, str], set[str], str]) -> list[object]:
    traces, changed, tables = state(far)
    found: list[object] = [(key, before[0][key], traces[key]) for key in traces if traces[key] != before[0][key]]
    if changed != before[1] or tables != before[2]:
        found.append((changed ^ before[1], tables))
    return found


def wait_for(laptop: Laptop, container: str, status: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (now := laptop.ask("GET", f"/containers/{container}/json")[1]["State"]["Status"]) != status:
        assert time.monotonic() < deadline, f"the container is {now}, and never {status}"
        time.sleep(0.05)


def said_by(laptop: Laptop, container: str, text: str) -> None:
    """Returns when a container has said it."""
    deadline = time.monotonic() + PATIENCE_S
    while text not in (said := laptop.ask("GET", f"/containers/{container}/logs?stdout=1&stderr=1")[1]):
        assert time.monotonic() < deadline, f"the container said {said!r}, and never {text!r}"
        time.sleep(0.05)


def remove(laptop: Laptop, container: str) -> None:
    assert laptop.ask("DELETE", f"/containers/{container}?force=1")[0] == 204
    laptop.close()


def fetched(laptop: Laptop, port: int) -> bytes:
    """What a web server of a container says at a published port, once it is there."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            stream = laptop.transport.open_stream(f"tcp:{port}")
        except TransportError:
            assert time.monotonic() < deadline, "nobody answers at the published port"
            time.sleep(0.05)
            continue
        stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return heard(stream)


def test_a_host_says_what_it_is(far: RemoteHost) -> None:
    found = look(LocalHost(far))
    assert (found.login, found.root, found.cgroup, found.missing) == ("root", "yes", "v2", ())
    assert found.architecture in (AMD64,)
    found.check()


def test_nothing_stays_of_an_engine_that_was_used(far: RemoteHost, brought: Payload) -> None:
    before = state(far)
    engine = RemoteEngine(LocalHost(far), OTHER, "default of a test")
    engine.install(brought)
    running = engine.start(brought)
    near = laptop(far, running)
    assert running.began
    assert look(LocalHost(far)).engines[0].label == "default of a test"
    near.ask("POST", "/networks/create", {"Name": "mine"})
    near.ask("POST", "/volumes/create", {"Name": "data"})
    one = near.run(
        "busybox", "sh", "-c", "echo said; exec sleep 1000", HostConfig={"NetworkMode": "mine", "Binds": ["data:/data"]}
    )
    said_by(near, one, "said")
    assert state(far) != before
    near.close()
    engine.remove()
    assert differences(far, before) == []


def test_what_comes_by_half_is_not_installed(far: RemoteHost, brought: Payload, tmp_path: Path) -> None:
    before = state(far)
    half = tmp_path / "half.tar.gz"
    half.write_bytes(brought.archive.read_bytes()[: 1 << 20])
    engine = RemoteEngine(LocalHost(far), THIRD, "default of a test")
    with pytest.raises(RemoteError, match="cannot be installed on that host"):
        engine.install(Payload(brought.digest, half))
    engine.remove()
    assert differences(far, before) == []


def test_published_ports_are_the_laptops_alone(far: RemoteHost, engine: RemoteEngine, brought: Payload) -> None:
    near = laptop(far, engine.start(brought))
    near.link()
    own = "import http.server as h; h.HTTPServer(('127.0.0.1', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
    far.begin(
        f"mkdir -p /run/own && cd /run/own && echo the host itself >index.html && exec python3 -c {shlex.quote(own)}"
    )
    far.sh("curl -s --retry 100 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080 >/dev/null")
    serve = "mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www"
    one = near.run(
        "busybox", "sh", "-c", serve,
        HostConfig={"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}, ExposedPorts={"80/tcp": {}},
    )  # fmt: skip
    wait_for(near, one, "running")
    guest = near.ports[8080]
    assert b"hello" in fetched(near, guest)
    assert far.sh(f"curl -s http://127.0.0.1:{guest} || echo nobody") == "nobody\n"
    assert far.sh("curl -s http://127.0.0.1:8080") == "the host itself\n"
    remove(near, one)


def test_the_hosts_own_files_are_at_host(far: RemoteHost, engine: RemoteEngine, brought: Payload) -> None:
    far.sh("mkdir -p /srv/data && echo of the host >/srv/data/file")
    near = laptop(far, engine.start(brought))
    near.link()
    one = near.run("busybox", "cat", "/data/file", HostConfig={"Binds": ["/host/srv/data:/data"]})
    wait_for(near, one, "exited")
    assert near.ask("GET", f"/containers/{one}/logs?stdout=1")[1].endswith("of the host\n")
    pid = far.sh(f"cat /run/cove-remote/{NAME}/pid").strip()
    assert far.sh(f"nsenter -t {pid} -m cat /etc/resolv.conf") == far.sh("cat /etc/resolv.conf")
    remove(near, one)
    far.sh("rm -r /srv/data")


def test_only_who_logs_in_has_the_streams(far: RemoteHost, engine: RemoteEngine, brought: Payload) -> None:
    engine.stop()
    of_a_user = RemoteEngine(engine.host, engine.name, engine.label)
    of_a_user._found = replace(engine.found, login="alice", uid=1000, gid=1000)
    streams = of_a_user.start(brought).streams
    program = f"import socket; socket.socket(socket.AF_UNIX).connect({streams!r})"
    by = "setpriv --reuid {uid} --regid {uid} --clear-groups python3 -c {program} 2>&1 || true"
    assert far.sh(by.format(uid=1000, program=shlex.quote(program))) == ""
    assert "PermissionError" in far.sh(by.format(uid=1001, program=shlex.quote(program)))
    engine.stop()


def test_a_host_that_forwards_nothing_lets_containers_out(
    far: RemoteHost, engine: RemoteEngine, brought: Payload
) -> None:
    """As dockerd and ufw have it."""
    far.sh("iptables -P FORWARD DROP")
    try:
        before = far.sh("iptables -S FORWARD")
        near = laptop(far, engine.start(brought))
        engine.start(brought)
        near.ask("POST", "/networks/create", {"Name": "mine"})
        one = near.run(
            "busybox",
            "sh",
            "-c",
            f"nc -w 20 {far.near_address} {served(far)} </dev/null",
            HostConfig={"NetworkMode": "mine"},
        )
        wait_for(near, one, "exited")
        said = near.ask("GET", f"/containers/{one}/logs?stdout=1&stderr=1")[1]
        assert "the laptop" in said, far.sh(
            "iptables -S FORWARD; cat /proc/sys/net/ipv4/ip_forward; ip address; ip route"
        )
        remove(near, one)
        engine.stop()
        assert far.sh("iptables -S FORWARD") == before
    finally:
        far.sh("iptables -P FORWARD ACCEPT")


def served(far: RemoteHost) -> int:
    """A port of this computer that says once who it is."""
    listener = socket.create_server((far.near_address, 0))
    listener.settimeout(PATIENCE_S)

    def serve() -> None:
        with listener, contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"the laptop")

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_it_goes_on_without_the_laptop(far: RemoteHost, engine: RemoteEngine, brought: Payload) -> None:
    first = engine.start(brought)
    near = laptop(far, first)
    one = near.run("busybox", "sleep", "1000")
    near.close()
    again = engine.start(brought)
    assert (again.boot_id, again.began) == (first.boot_id, False)
    near = laptop(far, again)
    assert near.ask("GET", f"/containers/{one}/json")[1]["State"]["Running"] is True
    remove(near, one)


def test_one_that_was_killed_starts_again(far: RemoteHost, engine: RemoteEngine, brought: Payload) -> None:
    """With all its processes, for its PID 1 has gone."""
    near = laptop(far, engine.start(brought))
    one = near.run("busybox", "sleep", "1000", HostConfig={"RestartPolicy": {"Name": "always"}})
    near.close()
    far.sh(f"kill -9 $(cat /run/cove-remote/{NAME}/pid)")
    running = engine.start(brought)
    assert running.began
    near = laptop(far, running)
    wait_for(near, one, "running")
    remove(near, one)


def test_another_version_keeps_the_data(
    far: RemoteHost, engine: RemoteEngine, brought: Payload, tmp_path: Path
) -> None:
    first = engine.start(brought)
    near = laptop(far, first)
    one = near.run("busybox", "true", name="kept")
    near.close()
    newer = another(brought, tmp_path)
    engine.install(newer)
    assert engine.start(newer).digest == brought.digest, "one that runs is not taken away from its containers"
    engine.stop()
    second = engine.start(newer)
    assert (second.digest, second.began) == (newer.digest, True)
    near = laptop(far, second)
    assert near.ask("GET", "/containers/kept/json")[1]["Id"] == one
    near.close()
    engine.install(newer)
    engine.stop()
    assert far.sh(f"ls -d /var/lib/cove-remote/{NAME}/system-*").split() == [
        f"/var/lib/cove-remote/{NAME}/system-{newer.digest}"
    ]


def test_data_of_a_newer_version_are_refused_and_kept(far: RemoteHost, engine: RemoteEngine, brought: Payload) -> None:
    engine.start(brought)
    engine.stop()
    program = f"import sqlite3; c = sqlite3.connect('/var/lib/cove-remote/{NAME}/data/metadata.db')"
    program += "; c.execute('UPDATE schema_versions SET version = version {} 1000'); c.commit()"
    far.sh(f"python3 -c {shlex.quote(program.format('+'))}")
    with pytest.raises(RemoteError, match="that host: the data was written by a newer Cove"):
        engine.start(brought)
    far.sh(f"python3 -c {shlex.quote(program.format('-'))}")
    assert engine.start(brought).began


def another(one: Payload, folder: Path) -> Payload:
    """The same system by another name."""
    digest = hashlib.sha256(one.digest.encode()).hexdigest()
    content = gzip.decompress(one.archive.read_bytes())
    head, mark, tail = content.rpartition(one.digest.encode())
    assert mark
    assert MARK.encode() in head[-600:]
    archive = folder / "another.tar.gz"
    archive.write_bytes(gzip.compress(head + digest.encode() + tail, 1))
    return Payload(digest, archive)


def test_two_do_not_know_each_other(far: RemoteHost, engine: RemoteEngine, brought: Payload) -> None:
    """And the other is installed by busybox's tools."""
    tools = " ".join(("sh", "tar", "gzip", "chroot", "mkdir", "chmod", "cat", "rm", "mv", "rmdir", "uname", "id"))
    busybox = far.sh(f"echo /var/lib/cove-remote/{NAME}/system-*/usr/bin/busybox").strip()
    far.sh(f"mkdir -p /run/tools && for one in {tools}; do ln -s {busybox} /run/tools/$one; done")
    other = RemoteEngine(LocalHost(far, "env", "PATH=/run/tools:/usr/bin:/bin"), OTHER, "of somebody else")
    other.install(brought)
    laptop(far, other.start(brought)).close()
    other.stop()
    near, beside = laptop(far, engine.start(brought)), laptop(far, other.start(brought))
    subnets = {one.ask("GET", "/networks/bridge")[1]["IPAM"]["Config"][0]["Subnet"] for one in (near, beside)}
    assert len(subnets) == 2, "the other had one of its own, and moves when that is taken"
    one = near.run("busybox", "sleep", "1000", name="same")
    beside.run("busybox", "sleep", "1000", name="same")
    out = beside.run("busybox", "sh", "-c", f"nc -w 20 {far.near_address} {served(far)} </dev/null")
    said_by(beside, out, "the laptop")
    other.stop()
    assert near.ask("GET", f"/containers/{one}/json")[1]["State"]["Running"] is True
    assert {one.name for one in look(LocalHost(far)).engines if one.running} == {NAME}
    remove(near, one)
    other.start(brought)
    engine.stop()
    other.remove()
    assert far.traces()["sysctls"] == "0\n0\n", "the last puts back what the first has changed"
    assert [one.name for one in look(LocalHost(far)).engines] == [NAME]


def test_a_restart_of_the_host_loses_nothing(far: RemoteHost, engine: RemoteEngine, brought: Payload) -> None:
    near = laptop(far, engine.start(brought))
    one = near.run("busybox", "sleep", "1000", HostConfig={"RestartPolicy": {"Name": "always"}})
    near.close()
    far.reboot()
    running = engine.start(brought)
    assert running.began
    near = laptop(far, running)
    wait_for(near, one, "running")
    remove(near, one)
