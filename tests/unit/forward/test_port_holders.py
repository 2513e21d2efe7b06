"""Why a port cannot be published, with real sockets: who has it, or what else forbids it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.drivers.base import Forward
from cove.errors import DriverError, PortInUse
from cove.forward import holders
from cove.forward.ports import PortForwards
from coved.link.protocol import PortForward

# All that is needed is imported before: the interpreter may lie where only its user can read.
AS_NOBODY = (
    "import os, pwd, encodings.ascii\nfrom cove.forward import holders\nif os.geteuid() == 0: os.setuid(65534)\n"
)


@pytest.fixture
def other() -> Iterator[tuple[int, int]]:
    """Another process that listens on all addresses: its pid and its port."""
    script = "import socket; s = socket.create_server(('0.0.0.0', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def test_the_program_that_has_a_port_is_named(other: tuple[int, int]) -> None:
    pid, port = other
    name = os.path.basename(os.path.realpath(sys.executable))[:15]  # noqa: PTH119
    for address in ("127.0.0.1", "0.0.0.0"):
        error = holders.refusal("tcp", address, port)
        assert isinstance(error, PortInUse)
        assert f"(process {pid}) has it" in error.message
        assert name.startswith("python") is error.message.startswith("python")
        assert str(port) in error.hint


def test_another_machine_is_told_by_its_name(tmp_path: Path) -> None:
    """And not as the program that runs it."""
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    words = ["-name", "cove-dev", "-pidfile", str(tmp_path / "dev/qemu.pid")]
    with subprocess.Popen(
        [sys.executable, "-c", script, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert holders.holder("tcp", "127.0.0.1", port) == f"Cove's machine dev (process {process.pid})"
        process.kill()


@pytest.mark.parametrize(
    ("family", "bound", "asked", "found"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", True),
        (socket.AF_INET, "127.0.0.1", "0.0.0.0", True),
        (socket.AF_INET, "127.0.0.2", "127.0.0.1", False),
        (socket.AF_INET6, "::", "127.0.0.1", True),
        (socket.AF_INET6, "::1", "::1", True),
        (socket.AF_INET6, "::1", "::", True),
        (socket.AF_INET6, "::1", "127.0.0.1", False),
        (socket.AF_INET, "127.0.0.1", "::1", False),
    ],
)
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_only_those_in_the_way_are_named(proto: str, family: int, bound: str, asked: str, found: bool) -> None:
    with socket.socket(family, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM) as mine:
        mine.bind((bound, 0))
        if proto == "tcp":
            mine.listen()
        who = holders.holder(proto, asked, mine.getsockname()[1])
        assert (f"(process {os.getpid()})" in who) is found
        assert holders.holder("udp" if proto == "tcp" else "tcp", asked, mine.getsockname()[1]) == ""


def test_a_port_that_nobody_has_any_more_is_only_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert holders.refusal("tcp", "127.0.0.1", port) is None


def test_an_address_of_another_computer_is_told_in_dockers_words() -> None:
    error = holders.refusal("tcp", "192.0.2.1", 8080)
    assert error is not None
    assert not isinstance(error, PortInUse)
    assert error.message == "listen tcp4 192.0.2.1:8080: bind: cannot assign requested address"


def test_a_port_for_root_alone_is_told_in_dockers_words() -> None:
    script = AS_NOBODY + "print(holders.refusal('tcp', '127.0.0.1', 81))"
    # A network namespace of its own has the kernel's limit, whatever this machine's is.
    words = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-r", "-n"]
    done = subprocess.run(
        [*words, "sh", "-c", 'echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start; ip link set lo up; exec "$@"', "sh",
         sys.executable, "-c", script],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.startswith("listen tcp4 127.0.0.1:81: bind: permission denied (ports below 1024 are root's: "), (
        done.stderr
    )
    assert "sudo sysctl net.ipv4.ip_unprivileged_port_start=81" in done.stdout


def test_somebody_elses_program_is_told_by_its_user(other: tuple[int, int]) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test changes its user: run it as root")
    script = AS_NOBODY + f"print(holders.holder('tcp', '127.0.0.1', {other[1]}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "a process of user root", done.stderr


@pytest.mark.parametrize(
    ("platform", "command"),
    [
        ("linux", "sudo ss -tlnp 'sport = :80'"),
        ("darwin", "sudo lsof -nP -iTCP:80"),
        ("win32", "netstat -ano | findstr :80"),
    ],
)
def test_each_system_has_a_command_that_tells(monkeypatch: pytest.MonkeyPatch, platform: str, command: str) -> None:
    monkeypatch.setattr(holders.sys, "platform", platform)
    monkeypatch.setattr(holders, "holder", lambda *_: "")
    monkeypatch.setattr(holders, "_bind_error", lambda *_: 98)
    refusal = holders.refusal("tcp", "127.0.0.1", 80)
    assert refusal is not None
    assert command in refusal.hint


@pytest.mark.parametrize(
    ("platform", "words"),
    [("linux", "ip_unprivileged_port_start=80"), ("darwin", "publish 0.0.0.0:80"), ("win32", "excludedportrange")],
)
def test_each_system_says_what_to_do_about_a_port_that_it_keeps(
    monkeypatch: pytest.MonkeyPatch, platform: str, words: str
) -> None:
    monkeypatch.setattr(holders.sys, "platform", platform)
    monkeypatch.setattr(holders, "_bind_error", lambda *_: 13)
    assert words in str(holders.refusal("tcp", "127.0.0.1", 80))


class Refuses:
    """A driver that can bind nothing, as QEMU says it: without a reason."""

    async def forward(self, forward: Forward) -> None:
        raise PortInUse("no reason")

    async def forwards(self) -> set[Forward]:
        return set()

    async def unforward(self, forward: Forward) -> None:
        return


def test_a_refused_publish_names_the_program(other: tuple[int, int]) -> None:
    pid, port = other
    driver: Any = Refuses()
    with pytest.raises(PortInUse, match=rf"\(process {pid}\) has it"):
        asyncio.run(PortForwards(driver, "127.0.0.1").publish(PortForward("tcp", 49152, "", port)))
    with pytest.raises(DriverError, match="cannot assign requested address"):
        asyncio.run(PortForwards(driver, "127.0.0.1").publish(PortForward("tcp", 49152, "192.0.2.1", port)))


def test_a_port_of_another_container_is_told_so() -> None:
    class Once(Refuses):
        bound = False

        async def forward(self, forward: Forward) -> None:
            if self.bound:
                raise PortInUse("no reason")
            self.bound = True

    driver: Any = Once()

    async def scenario() -> None:
        ports = PortForwards(driver, "127.0.0.1")
        await ports.publish(PortForward("tcp", 49152, "", 18099))
        with pytest.raises(PortInUse, match="another container has it"):
            await ports.publish(PortForward("tcp", 49153, "", 18099))

    asyncio.run(scenario())
