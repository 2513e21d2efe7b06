"""A machine stops in order when this computer is shut down: logind waits for it, and so do those that the system asks to end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from jeepney import DBusAddress, HeaderFields, MessageType, message_bus, new_error, new_method_return, new_signal
from jeepney.io.blocking import Proxy, open_dbus_connection

Eventually = Callable[..., None]
MANAGER = DBusAddress("/org/freedesktop/login1", "org.freedesktop.login1", "org.freedesktop.login1.Manager")
WAIT_S = 60.0
IN_ORDER = "stopping containers and powering off"


class Logind:
    """Stands in for it on a bus of the test's own."""

    def __init__(self, address: str) -> None:
        self._connection = open_dbus_connection(address, enable_fds=True, auth_timeout=WAIT_S)
        Proxy(message_bus, self._connection, timeout=WAIT_S).RequestName(MANAGER.bus_name)
        self.refuses = False
        self.asked: list[tuple[str, ...]] = []
        self.let_go, self._lock = os.pipe()
        """Whose other end is the lock that is given away: it can be read from when nobody has that any more."""
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
                self._connection.send(new_method_return(message, "h", (self._lock,)))
                os.close(self._lock)
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
