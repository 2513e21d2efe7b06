"""Published ports on localhost, with a real VM: they are there when `start` returns, free when `stop` returns, and lose no byte.

The long form: ``COVE_PORT_LOOPS=1000 pytest tests/machine/test_published_ports.py -k again -s``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import port_support as server
import pytest

LOOPS = int(os.environ.get("COVE_PORT_LOOPS", "20"))

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600 + 10 * LOOPS)]

MANY = range(20000, 20200)


@pytest.fixture(scope="module")
def client(machine: Any) -> Iterator[Any]:
    made = docker.DockerClient(machine.docker_host, timeout=120)
    yield made
    made.close()


@pytest.fixture(scope="module")
def box(client: Any) -> Iterator[Any]:
    """The server, at TCP and UDP port 18300 of 127.0.0.1 and of ::1."""
    both = [("127.0.0.1", 18300), ("::1", 18300)]
    made = server.start(client, "ports-box", ports={"80/tcp": both, "80/udp": both})
    yield made
    with contextlib.suppress(docker.errors.NotFound):
        made.remove(force=True)


def agent_pid(machine: Any) -> int:
    return int(json.loads(machine.cove("machine", "status", "--json").stdout)["agent_pid"])


def until_ready(container: Any, times: int) -> None:
    """Until it has said for the so many'th time, in all its runs, that it listens."""
    seen, output = b"", container.logs(stream=True, follow=True)
    while seen.count(b"ready\n") < times:
        seen += next(output)
    output.close()


def eventually(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


def connects(port: int, address: str) -> bool:
    """Whether somebody listens. To look whether a port is free is to take it for a moment, from whoever is about to."""
    try:
        server.connect(port, address).close()
    except OSError:
        return False
    return True


def test_start_request_stop_again_and_again_without_a_retry(machine: Any, client: Any) -> None:
    """The server says when it listens; whether it does when `start` returns is its own affair, with any engine."""
    script = "echo hi > /index.html; httpd -p 80 -h / && echo ready; exec sleep 1000"
    api = client.api
    made = client.containers.create(
        "busybox", ["sh", "-c", script], name="ports-again", ports={"80/tcp": ("127.0.0.1", 18301)},
        stop_signal="SIGKILL",
    )  # fmt: skip
    times: dict[str, list[float]] = {"start": [], "request": [], "stop": []}
    try:
        for number in range(LOOPS):
            begun = time.monotonic()
            api.start(made.id)
            times["start"].append(time.monotonic() - begun)
            until_ready(made, number + 1)
            begun = time.monotonic()
            with server.connect(18301) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert server.answer(machine, connection, 18301).endswith(b"hi\n")
            times["request"].append(time.monotonic() - begun)
            begun = time.monotonic()
            api.stop(made.id, timeout=10)
            times["stop"].append(time.monotonic() - begun)
            assert server.is_free(18301), f"the port is not free after stop {number + 1}"
        print(
            f"\n{LOOPS} loops, medians:",
            *(f"{what} {statistics.median(all) * 1e3:.0f} ms" for what, all in times.items()),
        )
    finally:
        made.remove(force=True)


def test_restarts_in_a_row(client: Any, box: Any) -> None:
    for number in range(2):
        box.restart(timeout=0)
        until_ready(box, number + 2)
        for address in ("127.0.0.1", "::1"):
            with server.connect(18300, address) as connection:
                server.echo(connection)


def test_two_hundred_ports_at_once(client: Any) -> None:
    made = server.start(client, "ports-many", ports={"80/tcp": [("127.0.0.1", port) for port in MANY]})
    try:
        made.reload()
        assert [int(one["HostPort"]) for one in made.attrs["NetworkSettings"]["Ports"]["80/tcp"]] == [*MANY]
        with contextlib.ExitStack() as stack:
            server.echo_all([stack.enter_context(server.connect(port)) for port in MANY])
        made.stop(timeout=10)
        assert [port for port in MANY if not server.is_free(port)] == []
    finally:
        made.remove(force=True)


def test_the_first_free_port_of_a_range_and_any_free_one(machine: Any) -> None:
    with socket.create_server(("127.0.0.1", 18310)):
        machine.docker(
            "run", "-d", "--name", "ports-r1", "-p", "18310-18312:80", "-p", "90", "busybox", "sleep", "1000"
        )
        machine.docker("run", "-d", "--name", "ports-r2", "-p", "18310-18312:80", "busybox", "sleep", "1000")
        done = machine.docker("run", "--name", "ports-r3", "-p", "18310-18312:80", "busybox", "true", check=False)
    try:
        assert machine.docker("port", "ports-r1", "80").stdout == "127.0.0.1:18311\n"
        assert machine.docker("port", "ports-r2", "80").stdout == "127.0.0.1:18312\n"
        assert done.returncode == 125
        assert "failed: port is already allocated" in done.stderr
        port = int(machine.docker("port", "ports-r1", "90").stdout.rpartition(":")[2])
        assert not server.is_free(port)
    finally:
        machine.docker("rm", "-f", "ports-r1", "ports-r2", "ports-r3", check=False)
    assert all(server.is_free(one) for one in (port, 18311, 18312))


def test_all_addresses_are_bound_when_asked_for_and_only_then(machine: Any) -> None:
    machine.docker(
        "run",
        "-d",
        "--name",
        "ports-all",
        "-p",
        "0.0.0.0:18313:80",
        "-p",
        "[::]:18313:80",
        "-p",
        "18314:80",
        "busybox",
        "sleep",
        "1000",
    )
    try:
        told = machine.docker("port", "ports-all").stdout.splitlines()
        assert {*told} == {f"80/tcp -> {end}" for end in ("0.0.0.0:18313", "[::]:18313", "127.0.0.1:18314")}
        assert not server.is_free(18313, "127.0.0.2")
        assert not server.is_free(18313, "::1")
        assert server.is_free(18314, "127.0.0.2")
        assert server.is_free(18314, "::1")
    finally:
        machine.docker("rm", "-f", "ports-all")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_each_direction_ends_by_itself(box: Any, address: str) -> None:
    data = os.urandom(3 << 20)
    with server.connect(18300, address) as connection:
        connection.sendall(b"COUNT\n" + data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read() == b"%d\n" % len(data)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_resets_end_the_other_side(box: Any, address: str) -> None:
    with server.connect(18300, address) as connection:
        connection.sendall(b"RESET\n")
        # QEMU's user networking closes its end of a connection that the guest resets: an end, not a reset.
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    established = "grep -c ':0050 [0-9A-F]*:[0-9A-F]* 01' /proc/net/tcp"
    eventually(lambda: box.exec_run(["sh", "-c", established]).output == b"0\n")
    mine = server.connect(18300, address)
    server.echo(mine)
    assert box.exec_run(["sh", "-c", established]).output == b"1\n"
    server.reset(mine)
    eventually(lambda: box.exec_run(["sh", "-c", established]).output == b"0\n")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_large_datagrams_pass(box: Any, address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as mine:
        mine.settimeout(20)
        mine.connect((address, 18300))
        for size in (1, 1400, 1473, 9000):
            data = os.urandom(size)
            mine.send(data)
            assert mine.recv(1 << 16) == data


def test_a_slow_reader_holds_back_who_writes_and_costs_no_memory(machine: Any, box: Any) -> None:
    pid = json.loads(machine.cove("machine", "status", "--json").stdout)["pid"]

    def resident() -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(server.connect(18300)) for _ in range(10)]
        for one in slow:
            one.sendall(b"GET %d\n" % (1 << 30))
        with server.connect(18300) as quick:
            for _ in range(3):
                server.get(quick, 4 << 20)  # others go on meanwhile
        assert resident() - before < 100 << 20
        for one in slow:
            assert len(one.recv(1000)) == 1000


def test_a_container_that_ends_ends_its_connections(client: Any) -> None:
    made = server.start(client, "ports-ends", ports={"80/tcp": ("127.0.0.1", 18302)})
    ends: dict[str, str] = {}
    moved = {"idle": 0, "reads": 0, "writes": 0}

    def reads(connection: socket.socket, name: str) -> None:
        try:
            while data := connection.recv(1 << 18):
                moved[name] += len(data)
            ends[name] = "end"
        except ConnectionResetError:
            ends[name] = "reset"

    def writes(connection: socket.socket) -> None:
        try:
            while True:
                moved["writes"] += connection.send(bytes(1 << 18))
        except (ConnectionResetError, BrokenPipeError):
            ends["writes"] = "reset"

    with contextlib.ExitStack() as stack:
        idle, taking, giving = (stack.enter_context(server.connect(18302)) for _ in range(3))
        server.echo(idle)
        taking.sendall(b"GET %d\n" % (1 << 40))
        giving.sendall(b"PUT %d\n" % (1 << 40))
        threads = [
            threading.Thread(target=reads, args=(idle, "idle")),
            threading.Thread(target=reads, args=(taking, "reads")),
            threading.Thread(target=writes, args=(giving,)),
        ]
        for one in threads:
            one.start()
        eventually(lambda: min(moved["reads"], moved["writes"]) > 16 << 20)  # more than lies in buffers
        assert ends == {}
        made.remove(force=True)
        for one in threads:
            one.join(20)
    assert ends.keys() == {"idle", "reads", "writes"}
    assert server.is_free(18302)


def test_a_thousand_connections_are_held_and_answered(box: Any) -> None:
    """All are opened before the first has been answered: a burst, which the VM's queues have to take."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(server.connect(18300, timeout_s=120)) for _ in range(1000)]
        server.echo_all(held)
        server.echo_all(held)


def test_ports_follow_a_container_from_network_to_network(client: Any) -> None:
    made = server.start(client, "ports-moves", ports={"80/tcp": ("127.0.0.1", 18303)})
    other = client.networks.create("ports-other")
    try:
        other.connect(made)
        client.networks.get("bridge").disconnect(made)
        with server.connect(18303) as connection:
            server.echo(connection)
        client.networks.get("bridge").connect(made)
        other.disconnect(made)
        with server.connect(18303) as connection:
            server.echo(connection)
    finally:
        made.remove(force=True)
        other.remove()
    assert server.is_free(18303)


def test_a_killed_engine_leaves_all_ports_as_they_are(machine: Any, box: Any) -> None:
    with server.connect(18300) as open_before:
        machine.cove("machine", "ssh", "kill -9 $(cd /proc; grep -lx cove-engine [0-9]*/comm | cut -d / -f 1)")
        machine.cove("ps", timeout_s=60)
        server.echo(open_before)
    for address in ("127.0.0.1", "::1"):
        with server.connect(18300, address) as connection:
            server.echo(connection)


def test_a_killed_agent_finds_the_ports_again(machine: Any, box: Any) -> None:
    before = agent_pid(machine)
    with server.connect(18300) as open_before:
        os.kill(before, signal.SIGKILL)
        machine.docker("ps")  # the next one is there
        server.echo(open_before)
    for address in ("127.0.0.1", "::1"):
        # It answers docker before the engine has told it what it publishes.
        eventually(lambda address=address: connects(18300, address))  # type: ignore[misc]
        with server.connect(18300, address) as connection:
            server.echo(connection)


def test_a_port_whose_container_ended_without_an_agent_is_freed_by_the_next(machine: Any, client: Any) -> None:
    server.start(client, "ports-left", ports={"80/tcp": [("127.0.0.1", 18304), ("::1", 18304)]})
    os.killpg(os.getpgid(agent_pid(machine)), signal.SIGKILL)  # and the supervisor that would start it again
    eventually(lambda: server.is_free(18304, "::1"))  # the agent's own, so it has ended
    assert not server.is_free(18304)
    with server.connect(18304) as connection:  # by QEMU alone
        connection.sendall(b"EXIT\n")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert not server.is_free(18304)
    eventually(lambda: "Exited (7)" in machine.cove("ps", "-a", "--filter", "name=ports-left").stdout)
    eventually(lambda: server.is_free(18304) and server.is_free(18304, "::1"))
    machine.docker("rm", "ports-left")


def test_the_program_that_has_an_ipv6_port_is_named(machine: Any) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        done = machine.docker("run", "--rm", "-p", f"[::1]:{port}:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert f"listen tcp6 [::1]:{port}: bind: address already in use" in done.stderr
    assert f"(process {os.getpid()}) has it" in done.stderr


def test_what_has_a_way_of_its_own_is_refused_and_the_rest_published(machine: Any) -> None:
    done = machine.docker("run", "--name", "ports-sctp", "-p", "18305:80/sctp", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "cannot publish 80/sctp" in done.stderr
    machine.docker("run", "--rm", "-P", "--expose", "80/sctp", "--expose", "81", "busybox", "true")


def test_a_taken_port_leaves_the_container_to_be_started_later(machine: Any) -> None:
    with socket.create_server(("127.0.0.1", 18306)):
        done = machine.docker(
            "run", "-d", "--name", "ports-later", "-p", "18306:80", "busybox", "sleep", "1000", check=False
        )
        assert done.returncode == 125
    machine.docker("start", "ports-later")
    assert not server.is_free(18306)
    machine.docker("rm", "-f", "ports-later")
    assert server.is_free(18306)
