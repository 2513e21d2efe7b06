"""A machine stops in order when this computer is shut down: logind waits for it, and so do those that the system asks to end."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.agent.logind import AT_ONCE, Shutdown
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from jeepney import DBusAddress, HeaderFields, MessageType, message_bus, new_error, new_method_return, new_signal
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection

Eventually = Callable[..., None]
MANAGER = DBusAddress("/org/freedesktop/login1", "org.freedesktop.login1", "org.freedesktop.login1.Manager")
ALLOW_REPLACEMENT, REPLACE_EXISTING = 1, 2
WAIT_S = 60.0
IN_ORDER = "stopping containers and powering off"


class Logind:
    """Stands in for it on a bus of the test's own."""

    def __init__(self, address: str) -> None:
        self._connection = open_dbus_connection(address, enable_fds=True, auth_timeout=WAIT_S)
        bus = Proxy(message_bus, self._connection, timeout=WAIT_S)
        assert bus.RequestName(MANAGER.bus_name, ALLOW_REPLACEMENT | REPLACE_EXISTING) == (1,)
        self.refuses = False
        self.asked: list[tuple[str, ...]] = []
        self.let_go = -1
        """Whose other end is the lock that was given away last: it can be read from when nobody has that any more."""
        self._has_asked = threading.Semaphore(0)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                message = self._connection.receive()
            except ConnectionResetError:  # the test is over
                return
            if message.header.message_type is not MessageType.method_call:
                continue
            assert message.header.fields[HeaderFields.member] == "Inhibit"
            if self.refuses:
                self._connection.send(new_error(message, "org.freedesktop.DBus.Error.AccessDenied"))
            else:
                self.let_go, lock = os.pipe()
                self._connection.send(new_method_return(message, "h", (lock,)))
                os.close(lock)
            self.asked.append(message.body)
            self._has_asked.release()

    def wait_asked(self) -> None:
        assert self._has_asked.acquire(timeout=WAIT_S), "nobody asked logind for a delay"

    def say(self, coming: bool) -> None:
        self._connection.send(shutdown_signal(coming))

    def is_let_go(self, timeout_s: float) -> bool:
        return bool(select.select([self.let_go], [], [], timeout_s)[0])


def shutdown_signal(coming: bool) -> Any:
    return new_signal(MANAGER, "PrepareForShutdown", "b", (coming,))


@pytest.fixture
def bus(cove: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a system bus for this test."""
    address = f"unix:path={cove.home}/bus"
    words = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline().decode().startswith(address)
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
            yield address
        finally:
            daemon.kill()


@pytest.fixture
def logind(bus: str) -> Logind:
    return Logind(bus)


def log(paths: MachinePaths) -> str:
    return paths.agent_log.read_text()


def test_a_shutdown_of_the_computer_waits_until_the_machine_has_stopped_in_order(
    cove: Any, logind: Logind, eventually: Eventually
) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    logind.wait_asked()
    assert logind.asked == [("shutdown", "Cove", "Containers are being stopped", "delay")]
    logind.say(False)
    assert cove.status()["state"] == "running"
    assert not logind.is_let_go(0)
    logind.say(True)
    assert logind.is_let_go(WAIT_S)
    assert FileLock(paths.vm_lock).is_free()
    assert IN_ORDER in log(paths)
    eventually(FileLock(paths.lock).is_free)
    status = cove.status()
    assert status["state"] == "stopped"
    assert "crash" not in status


def test_a_machine_that_is_stopped_holds_no_shutdown_up(cove: Any, logind: Logind) -> None:
    cove.make()
    cove.run("machine", "start")
    logind.wait_asked()
    cove.run("machine", "stop")
    assert logind.is_let_go(WAIT_S)


def test_what_other_users_of_the_bus_say_is_not_believed(cove: Any, bus: str, logind: Logind) -> None:
    cove.make()
    cove.run("machine", "start")
    logind.wait_asked()
    agent = cove.status()["agent_pid"]
    with open_dbus_connection(bus, auth_timeout=WAIT_S) as somebody:
        asks = Proxy(message_bus, somebody, timeout=WAIT_S)
        (names,) = asks.ListNames()
        pids = {name: asks.GetConnectionUnixProcessID(name)[0] for name in names if name.startswith(":")}
        (cove_is,) = [name for name, pid in pids.items() if pid == agent]
        for destination in (None, cove_is):
            lie = shutdown_signal(True)
            if destination is not None:
                lie.header.fields[HeaderFields.destination] = destination
            somebody.send(lie)
        asks.GetId()  # the bus has passed on what came before
    logind.say(False)
    assert cove.status()["state"] == "running"
    assert not logind.is_let_go(0)


def test_one_whose_vm_is_gone_holds_no_shutdown_up_until_it_runs_again(cove: Any, logind: Logind) -> None:
    cove.make()
    cove.run("machine", "start")
    logind.wait_asked()
    agent = cove.status()["agent_pid"]
    cove.run("machine", "suspend")
    assert logind.is_let_go(WAIT_S)
    cove.run("machine", "start")
    logind.wait_asked()
    assert cove.status()["agent_pid"] == agent
    assert not logind.is_let_go(0)


def test_a_logind_that_begins_again_is_asked_again_and_heard(cove: Any, bus: str, logind: Logind) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    logind.wait_asked()
    follower = Logind(bus)
    follower.wait_asked()
    assert logind.is_let_go(WAIT_S)
    assert not follower.is_let_go(0)
    follower.say(True)
    assert follower.is_let_go(WAIT_S)
    assert IN_ORDER in log(paths)


def test_who_says_more_and_more_on_the_bus_holds_nothing_up(logind: Logind, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, at_turns = 0, []
    hear = DBusConnection.recv_messages

    async def scenario() -> None:
        loop, coming = asyncio.get_running_loop(), asyncio.Event()

        def more(connection: DBusConnection, *, timeout: float) -> None:
            nonlocal taken
            if not taken:
                loop.call_soon(lambda: at_turns.append(taken))
            taken += 1
            if taken > 1000:
                hear(connection, timeout=timeout)

        monkeypatch.setattr(DBusConnection, "recv_messages", more)
        shutdown = Shutdown(coming.set)
        shutdown.await_it()
        await asyncio.to_thread(logind.wait_asked)
        logind.say(True)
        async with asyncio.timeout(WAIT_S):
            await coming.wait()
        shutdown.close()

    asyncio.run(scenario())
    assert at_turns == [AT_ONCE]


def test_a_connection_that_its_library_has_closed_is_let_go_of(
    logind: Logind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()

        def fail(connection: DBusConnection, *, timeout: float) -> None:
            connection.close()
            loop.call_soon(heard.set)
            raise RuntimeError("Unable to receive all file descriptors")

        monkeypatch.setattr(DBusConnection, "recv_messages", fail)
        shutdown = Shutdown(lambda: None)
        shutdown.await_it()
        async with asyncio.timeout(WAIT_S):
            await heard.wait()
        shutdown.close()

    asyncio.run(scenario())
    assert "logind is out of reach, a shutdown will not wait for the machine: Unable to receive" in caplog.text
    assert logind.is_let_go(WAIT_S)


@pytest.mark.parametrize("why", ["there is no bus", "there is no logind", "logind refuses"])
def test_a_machine_runs_where_no_shutdown_waits(
    why: str, cove: Any, bus: str, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    paths = cove.make()
    if why == "there is no bus":
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={cove.home}/none")
    if why == "logind refuses":
        Logind(bus).refuses = True
    cove.run("machine", "start")
    eventually(lambda: "a shutdown of this computer will not wait for the machine" in log(paths))
    assert cove.status()["state"] == "running"
    cove.run("machine", "stop")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to", ["agent", "supervisor", "all"])
def test_one_whose_processes_are_asked_to_end_stops_in_order(
    number: signal.Signals, to: str, cove: Any, eventually: Eventually
) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    status = cove.status()
    supervisor = parent(status["agent_pid"])
    if to == "all":
        os.kill(status["pid"], number)
    if to != "agent":
        os.kill(supervisor, number)
    if to != "supervisor":
        os.kill(status["agent_pid"], number)
    eventually(FileLock(paths.lock).is_free)
    assert FileLock(paths.vm_lock).is_free()
    assert IN_ORDER in log(paths)
    status = cove.status()
    assert status["state"] == "stopped"
    assert "crash" not in status
    assert not paths.docker_socket.exists()
    cove.run("machine", "start")
    cove.run("machine", "stop")


def test_an_agent_that_is_told_to_end_before_it_can_heed_it_stops_the_machine_in_order(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    site, told = cove.home / "site", cove.home / "told"
    site.mkdir()
    early = f"lambda: os.path.exists({str(told)!r}) and os.kill(os.getpid(), signal.SIGTERM)"
    (site / "sitecustomize.py").write_text(
        "import os, signal, sys\nif sys.argv[0] == '-m' and 'cove.agent' in sys.orig_argv:\n"
        f"    os.register_at_fork(after_in_child={early})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    paths = cove.make()
    cove.run("machine", "start")
    told.touch()
    os.kill(cove.status()["agent_pid"], signal.SIGKILL)
    eventually(FileLock(paths.lock).is_free)
    assert FileLock(paths.vm_lock).is_free()
    assert IN_ORDER in log(paths)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_order_to_end_that_meets_a_dead_agent_is_for_the_next(
    number: signal.Signals, cove: Any, eventually: Eventually
) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    agent = cove.status()["agent_pid"]
    supervisor = parent(agent)
    os.kill(supervisor, signal.SIGSTOP)  # so that it has both at once
    os.kill(agent, signal.SIGKILL)
    os.kill(supervisor, number)
    os.kill(supervisor, signal.SIGCONT)
    eventually(FileLock(paths.lock).is_free)
    assert FileLock(paths.vm_lock).is_free()
    assert IN_ORDER in log(paths)


def test_a_start_that_is_under_way_ends_when_its_agent_is_asked_to_end(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.faults = "silent"
    start = cove.spawn("machine", "start")
    eventually(paths.run_state.exists)
    os.kill(cove.status()["agent_pid"], signal.SIGTERM)
    _, errors = start.communicate(timeout=WAIT_S)
    assert "the start of machine default was given up" in errors
    eventually(FileLock(paths.lock).is_free)
    assert FileLock(paths.vm_lock).is_free()


def test_one_that_sleeps_is_not_woken_to_be_stopped(
    cove: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = cove.make()
    cove.faults = "idle"
    monkeypatch.setenv("COVE_SUSPEND_AFTER", "1s")
    cove.run("machine", "start")
    eventually(lambda: cove.status()["state"] == "suspended")
    os.kill(cove.status()["agent_pid"], signal.SIGTERM)
    eventually(FileLock(paths.lock).is_free)
    assert cove.status()["state"] == "suspended"
