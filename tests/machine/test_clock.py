"""The guest's clock jumps, as it does when a laptop has slept or its clock was wrong: what waits, waits as long as it was told.

And a computer stands still, as far as a test can have it: then the clock is right afterwards, and connections go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

HOUR, DAY = 3600, 86400
STOOD_STILL_S = float(os.environ.get("COVE_STOOD_STILL_S", "8"))
SLOW_S = 60.0
"""On a busy computer whose VM is emulated."""

Jump = Callable[[int], None]


@pytest.fixture
def client(machine: Any) -> Iterator[Any]:
    made = docker.DockerClient(machine.docker_host, timeout=120)
    yield made
    made.close()


@pytest.fixture
def name(client: Any) -> Iterator[str]:
    yield "clocked"
    for container in client.containers.list(all=True, filters={"name": "clocked"}):
        container.remove(force=True)


@pytest.fixture
def jump(machine: Any) -> Iterator[Jump]:
    """Moves the guest's clock by so many seconds; afterwards it is right again."""
    moved = 0
    read = "import time; print(time.time_ns() - time.monotonic_ns())"
    right = int(machine.cove("machine", "ssh", f"python3 -c '{read}'").stdout)

    def by(seconds: int) -> None:
        nonlocal moved
        moved += seconds
        # From the clock that nobody sets: else each jump would leave this one behind by what it takes to set it.
        now = f"time.monotonic_ns() + {right + moved * 10**9}"
        machine.cove("machine", "ssh", f"python3 -c 'import time; time.clock_settime_ns(time.CLOCK_REALTIME, {now})'")

    yield by
    if moved:
        by(-moved)


def now(client: Any) -> float:
    from datetime import datetime

    told = client.info()["SystemTime"]
    return datetime.fromisoformat(told[:26] + "+00:00").timestamp()


def until(holds: Callable[[], bool], timeout_s: float = SLOW_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


def restarts(container: Any) -> int:
    container.reload()
    return int(container.attrs["RestartCount"])


@pytest.mark.parametrize("seconds", [-DAY, DAY])
def test_restarts_neither_hang_nor_storm(client: Any, name: str, jump: Jump, seconds: int) -> None:
    container = client.containers.run(
        "busybox", ["sh", "-c", "exit 3"], name=name, detach=True, restart_policy={"Name": "always"}
    )
    until(lambda: restarts(container) >= 4)  # the next pause is of 1.6 s, and doubles
    jump(seconds)
    begun, first = time.monotonic(), restarts(container)
    until(lambda: restarts(container) >= first + 2)
    assert time.monotonic() - begun > 1.0
    since, more = time.monotonic(), restarts(container)
    time.sleep(3)
    told = restarts(container)
    assert told - more <= 1 + (time.monotonic() - since) // 6.4  # which is the pause after the sixth
    container.stop(timeout=1)
    container.reload()
    assert container.status == "exited"


@pytest.mark.parametrize("seconds", [-DAY, DAY])
def test_a_stop_waits_as_long_as_it_is_told(client: Any, name: str, jump: Jump, seconds: int) -> None:
    script = "trap '' TERM; while :; do sleep 0.2; done"
    container = client.containers.run("busybox", ["sh", "-c", script], name=name, detach=True)
    from threading import Thread

    begun = time.monotonic()
    stopping = Thread(target=lambda: container.stop(timeout=8))
    stopping.start()
    jump(seconds)
    stopping.join(SLOW_S)
    assert not stopping.is_alive()
    assert time.monotonic() - begun >= 8
    assert container.wait()["StatusCode"] == 137


@pytest.mark.parametrize("seconds", [-DAY, DAY])
def test_health_checks_go_on(client: Any, name: str, jump: Jump, seconds: int) -> None:
    second = 10**9
    health = {"test": ["CMD-SHELL", "[ ! -e /sick ]"], "interval": second, "timeout": 30 * second, "retries": 2}
    container = client.containers.run(
        "busybox", ["sleep", "1000"], name=name, detach=True, healthcheck={**health, "start_period": 3600 * second}
    )

    def status() -> str:
        container.reload()
        return str(container.attrs["State"]["Health"]["Status"])

    def results() -> list[str]:
        container.reload()
        return [one["Start"] for one in container.attrs["State"]["Health"]["Log"]]

    container.exec_run("touch /sick")
    until(lambda: len(results()) >= 1)
    jump(seconds)
    seen = results()
    until(lambda: len(set(results()) - set(seen)) >= 3)
    assert status() in ("starting", "healthy")  # an hour of the start period has not passed, whatever the clock says
    container.exec_run("rm /sick")
    until(lambda: status() == "healthy")
    container.exec_run("touch /sick")
    until(lambda: status() == "unhealthy")


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_events_and_logs_say_what_comes_after_the_jump(client: Any, name: str, jump: Jump, seconds: int) -> None:
    container = client.containers.run(
        "busybox", ["sh", "-c", "echo before; while [ ! -e /go ]; do sleep 0.1; done; echo after; exec sleep 1000"],
        name=name, detach=True,
    )  # fmt: skip
    events = client.events(decode=True, filters={"container": name})
    until(lambda: b"before" in container.logs())
    followed = container.logs(stream=True, follow=True)
    assert next(followed) == b"before\n"
    jump(seconds)
    moved = now(client)
    container.exec_run("touch /go")
    assert next(followed) == b"after\n"
    assert b"after" in container.logs(since=int(moved) - 5)
    assert (b"before" in container.logs(since=int(moved) - 5)) == (seconds < 0)  # its time is then yet to come
    assert b"after" in container.logs(until=int(moved) + SLOW_S) or seconds < 0
    container.kill()
    died = next(event for event in events if event["Action"] == "die")
    assert abs(died["time"] - moved) < SLOW_S
    assert int(died["Actor"]["Attributes"]["execDuration"]) < SLOW_S
    events.close()
    told = client.events(decode=True, since=int(moved) - 5, until=int(now(client)) + 2, filters={"container": name})
    assert "die" in [event["Action"] for event in told]


def skew(client: Any) -> float:
    """By how many seconds the guest's clock is certainly off: an answer takes its time."""
    asked = time.time()
    told = now(client)
    return max(0.0, asked - told, told - time.time())


def test_who_has_stood_still_has_the_right_time_and_its_connections(machine: Any, client: Any, name: str) -> None:
    import json
    import signal

    container = client.containers.run(
        "busybox", ["sh", "-c", "while :; do date; sleep 0.2; done"], name=name, detach=True
    )
    followed = container.logs(stream=True, follow=True, tail=0)
    next(followed)
    status = json.loads(machine.cove("machine", "status", "--json").stdout)
    stopped = [status["agent_pid"], status["pid"]]
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(STOOD_STILL_S)
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
    assert min(skew(client) for _ in range(3)) <= 0.1
    begun = time.time()
    assert any(_date(line) > begun - 1 for line in followed)


def _date(line: bytes) -> float:
    """Of a line of date(1) in UTC, or of several that came at once."""
    import calendar

    return calendar.timegm(time.strptime(line.decode().split("\n")[0], "%a %b %d %H:%M:%S UTC %Y"))
