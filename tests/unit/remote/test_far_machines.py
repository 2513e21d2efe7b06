"""A machine on another computer as its agent has it: connections that break and come back, starts that are given up, stops of what
cannot be reached. The connection is a stand-in; real ones are in tests/engine/test_remote_machines.py."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from cove.agent import far, far_ours, network_changes
from cove.agent import service as services
from cove.agent.client import ask
from cove.agent.far import Far
from cove.agent.far_foreign import Foreign
from cove.agent.far_ours import Ours
from cove.agent.network_changes import NetworkChanges
from cove.agent.service import Service
from cove.agent.supervisor import Listeners
from cove.errors import CoveError, RemoteError, TransportError
from cove.machine import remote as remotes
from cove.machine.paths import MachinePaths
from cove.machine.remote import Address, Remote
from cove.progress import Report, ignore
from cove.remote.connection import Connection
from cove.remote.engine import Running
from cove.transport.base import Stream
from coved.link.protocol import PortForward

LIMIT_S = 60.0
KEY = "ssh-ed25519 AAAA"
OURS = Remote(Address("build.example", "ann"), KEY, "cove", instance="0123456789abcdef")
THEIRS = Remote(Address("build.example", "ann"), KEY, "docker", socket="/run/docker.sock")


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[MachinePaths]:
    with tempfile.TemporaryDirectory(prefix="cove-f", dir="/tmp") as folder:
        monkeypatch.setenv("COVE_HOME", folder)
        places = MachinePaths("far")
        places.folder.mkdir(parents=True)
        places.make_run_dir()
        places.settings.write_text("")
        remotes.save(places, OURS)
        yield places


def limited(work: Awaitable[Any]) -> Any:
    async def run() -> Any:
        return await asyncio.wait_for(work, LIMIT_S)

    return run()


class Made:
    """A connection."""

    def __init__(self) -> None:
        self.active = True
        self.closing: Exception | None = None
        self.no_stream: TransportError | None = None

    def watch(self, on_lost: Callable[[], None]) -> None:
        pass

    def is_active(self) -> bool:
        return self.active

    def answers(self, within_s: float) -> bool:
        return True

    def open_stream(self, target: str) -> Stream:
        assert self.no_stream is not None
        raise self.no_stream

    def open_port(self, host: str, port: int) -> Stream:
        return self.open_stream("")

    def close(self) -> None:
        self.active = False
        if self.closing is not None:
            raise self.closing


class Host:
    """What `connect` comes to."""

    def __init__(self) -> None:
        self.tries = 0
        self.fails: CoveError | None = None
        self.silent: threading.Event | None = None
        """It is waited for."""
        self.tried = asyncio.Condition()
        self.made = Made()

    def connect(self, address: Address, host_key: str) -> Made:
        self.tries += 1
        if self.silent is not None:
            self.silent.wait(LIMIT_S)
        if self.fails is not None:
            raise self.fails
        self.made = Made()
        return self.made


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(far.connections, "connect", made.connect)
    return made


class Machine(Far):
    """An engine of whichever kind."""

    _ends_there = True

    def __init__(self, paths: MachinePaths) -> None:
        super().__init__(paths, OURS)
        self.stopped: list[bool] = []
        self.stopping = asyncio.Event()
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.taking = asyncio.Event()
        self.may_take = asyncio.Event()
        self.may_take.set()
        self.no_take: CoveError | None = None

    async def _take(self, connection: Connection, report: Report) -> None:
        self.taking.set()
        await self.may_take.wait()
        if self.no_take is not None:
            raise self.no_take

    async def _drop(self) -> None:
        pass

    def open_engine(self) -> Stream:
        raise NotImplementedError

    async def _stop_engine(self, connection: Connection, report: Report, *, hurried: bool) -> None:
        self.stopping.set()
        await self.may_stop.wait()
        if not connection.is_active():
            raise RemoteError("the connection broke")
        self.stopped.append(hurried)

    def _shown(self) -> dict[str, Any]:
        return {}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 (of what has no event)
            await asyncio.sleep(0.01)


def lose(machine: Far) -> None:
    assert machine.connection is not None
    machine._lose(machine.connection, "it broke")


# -- coming back


def test_when_the_network_has_changed_all_tries_are_made_again(
    paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "TRIES_S", (0.0,) * 4)

    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        host.fails, host.tries = RemoteError("Network is unreachable"), 0
        lose(machine)
        await until(lambda: host.tries == 4)
        machine._network_changed()
        await until(lambda: host.tries == 8)
        await machine.close()

    asyncio.run(limited(run()))


def test_a_client_takes_no_try_away(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Machine(paths)
        pauses = [3600.0, 7200.0]
        machine.nudge()
        await machine._pause(pauses)
        assert pauses == [3600.0, 7200.0]
        await machine.close()

    asyncio.run(limited(run()))


def test_what_cannot_be_closed_keeps_nothing_from_coming_back(
    paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "TRIES_S", (0.0,) * 4)

    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        host.made.closing = OSError("bad file descriptor")
        lose(machine)
        await until(lambda: machine.connection is not None)
        await machine.close()

    asyncio.run(limited(run()))


def test_a_client_waits_for_no_try_that_does_not_end(
    paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "REACH_S", 0.2)

    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        host.silent = threading.Event()
        lose(machine)
        with pytest.raises(RemoteError, match="is lost since"):
            await machine.reach()
        host.silent.set()
        await machine.close()

    asyncio.run(limited(run()))


def test_a_try_has_its_limit(paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "CONNECTED_S", 0.2)
    monkeypatch.setattr(far, "TAKEN_S", 0.2)

    async def run() -> None:
        host.silent = threading.Event()
        with pytest.raises(RemoteError, match=r"build\.example did not answer within"):
            await Machine(paths).start(ignore)
        host.silent.set()
        host.silent = None
        machine = Machine(paths)
        machine.may_take.clear()
        with pytest.raises(RemoteError, match=r"the engine on ann@build\.example did not answer within"):
            await machine.start(ignore)
        assert not host.made.active

    asyncio.run(limited(run()))


def test_the_way_out_is_told_with_what_is_lost(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        host.fails = RemoteError("it shows another host key than before", "pin it: cove machine init ...")
        lose(machine)
        await until(lambda: host.tries == 2)
        with pytest.raises(RemoteError) as told:
            await machine.reach()
        assert "it shows another host key" in told.value.message
        assert told.value.hint.startswith("pin it: cove machine init ...\n")
        status = machine.status()
        assert (status["state"], status["lost_hint"]) == ("unreachable", "pin it: cove machine init ...")
        await machine.close()

    asyncio.run(limited(run()))


def test_changes_of_the_network_that_come_together_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_changes, "QUIET_S", 0.05)

    async def run() -> None:
        told: asyncio.Queue[None] = asyncio.Queue()
        changes = NetworkChanges(lambda: told.put_nowait(None))
        for _ in range(10):
            changes.note()
        await told.get()
        assert changes._waiting is None
        assert told.empty()
        changes.close()

    asyncio.run(limited(run()))


def test_a_network_that_is_never_quiet_is_told_of_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_changes, "QUIET_S", 3600.0)
    monkeypatch.setattr(network_changes, "AT_LAST_S", 0.05)

    async def run() -> None:
        told = asyncio.Event()
        changes = NetworkChanges(told.set)
        while not told.is_set():
            changes.note()
            await asyncio.sleep(0.01)
        changes.close()

    asyncio.run(limited(run()))


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink(7) is Linux's")
def test_a_route_that_comes_is_heard_of() -> None:
    async def run() -> None:
        changes = NetworkChanges(lambda: None)
        assert changes._socket is not None
        groups = changes._socket.getsockname()[1]
        for number in (0x40, 0x400):  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
            assert groups & number
        changes.close()

    asyncio.run(limited(run()))


# -- stopping


def test_an_engine_whose_streams_do_not_answer_is_stopped(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        machine.no_take = RemoteError("its system is not there any more")
        lose(machine)
        await until(lambda: host.tries == 2)
        await machine.stop(ignore)
        assert machine.stopped == [False]
        assert machine.has_ended
        assert not paths.remote_run.exists()
        await machine.close()

    asyncio.run(limited(run()))


def test_a_host_out_of_reach_is_not_stopped_and_comes_back(
    paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "TRIES_S", (0.0,) * 4)

    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        host.fails = RemoteError("build.example cannot be reached")
        lose(machine)
        with pytest.raises(RemoteError, match="cannot be reached"):
            await machine.stop(ignore, asyncio.Event())
        assert paths.remote_run.exists()
        assert "CancelledError" not in machine.status()["lost_because"]
        host.fails = None
        await until(lambda: machine.connection is not None)
        await machine.close()

    asyncio.run(limited(run()))


def test_a_host_out_of_reach_is_let_go_of_by_force(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        host.fails = RemoteError("build.example cannot be reached")
        lose(machine)
        forced = asyncio.Event()
        forced.set()
        said: list[str] = []
        await machine.stop(lambda event: said.append(event.text), forced)
        assert machine.has_ended
        assert paths.remote_run.exists(), "what runs there goes on, and the next start or stop has it"
        assert said == ["what runs there goes on: build.example cannot be reached"]
        await machine.close()

    asyncio.run(limited(run()))


def test_by_force_nothing_is_waited_for_long(paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "FORCED_S", 0.2)

    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        machine.may_stop.clear()
        forced = asyncio.Event()
        stop = asyncio.create_task(machine.stop(ignore, forced))
        await machine.stopping.wait()
        forced.set()
        await stop
        assert machine.has_ended
        await machine.close()

    asyncio.run(limited(run()))


def test_by_force_containers_have_little_time(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Machine(paths)
        await machine.start(ignore)
        forced = asyncio.Event()
        forced.set()
        await machine.stop(ignore, forced)
        assert machine.stopped == [True]
        await machine.close()

    asyncio.run(limited(run()))


# -- within the agent's service


def serve(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch, test: Callable[[Service, Machine], Awaitable[None]]
) -> None:
    """The service, with one machine for its first start; each further one is of the same kind."""
    monkeypatch.setattr(services, "TAKING_OVER_S", 3600.0)

    async def run() -> None:
        machines = [Machine(paths)]
        machine = machines[0]
        monkeypatch.setattr(far, "place", lambda _: machines.pop() if machines else Machine(paths))
        service = Service(paths, Listeners(paths))
        listening = asyncio.Event()
        running = asyncio.create_task(service.run(listening.set))
        await listening.wait()
        await test(service, machine)
        await running

    asyncio.run(limited(run()))


def test_a_start_is_given_up_at_once(paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(service: Service, machine: Machine) -> None:
        machine.may_take.clear()
        await machine.taking.wait()
        await asyncio.to_thread(ask, paths, "stop", LIMIT_S, in_order=True, forced=False)
        assert not host.made.active

    serve(paths, monkeypatch, test)


def test_a_stop_goes_on_when_the_agent_is_told_to_end(
    paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(service: Service, machine: Machine) -> None:
        await asyncio.to_thread(ask, paths, "ready", LIMIT_S)
        machine.may_stop.clear()
        stop = asyncio.create_task(asyncio.to_thread(ask, paths, "stop", LIMIT_S, in_order=True, forced=False))
        await machine.stopping.wait()
        under_way = service._stopping
        service.end()
        for _ in range(10):  # what it is told, it does in the event loop
            await asyncio.sleep(0)
        assert service._stopping is under_way
        assert not machine.has_ended
        machine.may_stop.set()
        await stop
        assert machine.stopped == [False]
        assert not paths.remote_run.exists()

    serve(paths, monkeypatch, test)


# -- Cove's own engine


class Engine:
    """Of Cove's own, on a host that has been installed anew since, as often as it is asked."""

    def __init__(self) -> None:
        self.installed = 0
        self.noted = False
        self.fails: CoveError | None = None
        self.found = self

    architecture = ""

    def check(self) -> None:
        pass

    def install(self, *_: Any) -> None:
        self.installed += 1


@pytest.fixture
def engine(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()

    def start(*_: Any) -> Running:
        made.noted = paths.remote_run.exists()
        if made.fails is not None:
            raise made.fails
        return Running("/run/cove-remote/x/streams.sock", "b" * 32, "d" * 64, True)

    made.start = start  # type: ignore[attr-defined]
    monkeypatch.setattr(Ours, "engine", lambda *_: made)
    monkeypatch.setattr(far_ours, "payload", lambda *_: None)
    return made


def test_the_engine_is_brought_to_a_host_that_was_installed_anew(
    paths: MachinePaths, host: Host, engine: Engine
) -> None:
    engine.fails = RemoteError("it does not start")

    async def run() -> None:
        machine = Ours(paths, OURS)
        for times in (1, 2):
            with pytest.raises(RemoteError, match="it does not start"):
                await machine._connect()
            assert engine.installed == times
        await machine.close()

    asyncio.run(limited(run()))


def test_what_a_start_that_failed_has_begun_is_known(paths: MachinePaths, host: Host, engine: Engine) -> None:
    engine.fails = RemoteError("it does not start")

    async def run() -> None:
        with pytest.raises(RemoteError, match="it does not start"):
            await Ours(paths, OURS).start(ignore)

    asyncio.run(limited(run()))
    assert engine.noted
    assert paths.remote_run.exists()


def test_an_sshd_that_forbids_streams_is_named(
    paths: MachinePaths, host: Host, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any) -> Made:
        host.made.no_stream = TransportError("streams.sock of build.example does not answer: Connect failed")
        return host.made

    monkeypatch.setattr(far.connections, "connect", connect)

    async def run() -> None:
        with pytest.raises(TransportError, match="Connect failed") as told:
            await Ours(paths, OURS).start(ignore)
        assert "its sshd forbids it: AllowStreamLocalForwarding yes" in told.value.hint

    asyncio.run(limited(run()))


# -- an engine of others


class Dockerd:
    """Answers one request for each connection, and ends its events at once."""

    def __init__(self, machine: Foreign) -> None:
        machine._joined = self.joined  # type: ignore[method-assign, assignment]
        self.ended = asyncio.Event()
        self.said = {"/version": b"{}", "/containers/json": b"[]", "/events": b""}
        self.before_list: Callable[[], None] = lambda: None

    def joined(self, connection: Connection) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(LIMIT_S)
        threading.Thread(target=self._answer, args=(theirs,), daemon=True).start()
        return ours

    def _answer(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(ConnectionError):  # it was not waited for
            path = sock.recv(1 << 16).split()[1].decode().partition("?")[0]
            if path == "/containers/json":
                self.before_list()
            if path in self.said:  # it hangs up otherwise
                sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + self.said[path])


def test_events_that_end_while_the_engine_is_looked_at_are_no_start(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Foreign(paths, THEIRS)
        engine, heard = Dockerd(machine), threading.Event()
        heard_last = machine._heard_last

        def hear(connection: Connection) -> None:
            heard_last(connection)
            heard.set()

        machine._heard_last = hear  # type: ignore[method-assign]
        engine.before_list = lambda: assert_set(heard)
        with pytest.raises(RemoteError, match="docker there has ended its events"):
            await machine.start(ignore)

    remotes.save(paths, THEIRS)
    asyncio.run(limited(run()))


def assert_set(event: threading.Event) -> None:
    assert event.wait(LIMIT_S)


def test_an_engine_that_refuses_its_events_is_told_of(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Foreign(paths, THEIRS)
        engine = Dockerd(machine)
        del engine.said["/events"]
        with pytest.raises(RemoteError, match=r"docker of ann@build\.example does not answer"):
            await machine.start(ignore)

    remotes.save(paths, THEIRS)
    asyncio.run(limited(run()))


def test_an_engine_that_dribbles_is_not_waited_for(
    paths: MachinePaths, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cove.agent.far_foreign.WHOLE_S", 0.2)

    async def run() -> None:
        machine = Foreign(paths, THEIRS)
        dockerd, ended = Dockerd(machine), threading.Event()
        dockerd.before_list = lambda: assert_set(ended)
        made = Made()
        with pytest.raises(RemoteError, match="has not said all within"):
            await asyncio.to_thread(machine._get, made, "/containers/json")
        ended.set()
        await machine.close()

    asyncio.run(limited(run()))


def test_ports_that_the_host_lets_nobody_come_to_are_told_as_lost(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Foreign(paths, THEIRS)
        machine._bind_address, machine._wanted = "127.0.0.1", [PortForward("tcp", 8080, "", 8080)]
        made: Any = Made()
        machine.connection = made
        made.no_stream = TransportError("port 8080 does not answer: Connection refused")
        with pytest.raises(TransportError):
            machine._open_port("tcp:8080")
        assert machine.lost_ports == {}
        made.no_stream = TransportError("port 8080 does not answer", "its sshd forbids it")
        with pytest.raises(TransportError):
            machine._open_port("tcp:8080")
        assert machine.lost_ports == {"127.0.0.1:8080/tcp": "its sshd forbids it"}
        machine.connection = None
        await machine.close()

    asyncio.run(limited(run()))


def test_the_hint_is_safe_to_paste(paths: MachinePaths, host: Host) -> None:
    async def run() -> None:
        machine = Foreign(paths, Remote(Address("h"), KEY, "docker", socket="/x'; touch /tmp/owned; '"))
        with pytest.raises(RemoteError) as told, machine._asked_for("/version"):
            raise OSError("no")
        words = shlex.split(told.value.hint.partition(": ")[2])
        assert words[:2] == ["ssh", "h"]
        assert shlex.split(words[2])[3] == "/x'; touch /tmp/owned; '"
        await machine.close()

    asyncio.run(limited(run()))
