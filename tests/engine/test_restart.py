"""Restart policies: back-off, counts, what a stop by hand means, and engines that are killed in between."""

from __future__ import annotations

import contextlib
import http.client
import threading
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from isolation_support import making, shim_of
from life_support import ask, events_of, eventually, restart

pytestmark = pytest.mark.root


def run(client: Any, name: str, policy: str, script: str, retries: int = 0) -> Any:
    return client.containers.run(
        "busybox", ["sh", "-c", script], name=name, detach=True,
        restart_policy={"Name": policy, "MaximumRetryCount": retries},
    )  # fmt: skip


def attributes(container: Any) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs)


def status(container: Any) -> str:
    return str(attributes(container)["State"]["Status"])


def test_the_pause_doubles(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create(
        "busybox", ["false"], name=name, restart_policy={"Name": "on-failure", "MaximumRetryCount": 4}
    )
    with events_of(engine, container) as events:
        container.start()
        deaths = [events.until("die", number)["timeNano"] for number in range(1, 6)]
        starts = [events.until("start", number)["timeNano"] for number in range(1, 6)]
    pauses = [(start - death) / 1e9 for death, start in zip(deaths, starts[1:], strict=False)]
    for pause, wanted in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert wanted <= pause < wanted + 1.5  # the start itself takes its time, too
    eventually(lambda: status(container) == "exited")
    assert attributes(container)["RestartCount"] == 4


def test_success_ends_on_failure(docker_client: Any, name: str) -> None:
    container = run(docker_client, name, "on-failure", "[ -e /x ] && exit 0; touch /x; exit 5")
    eventually(lambda: status(container) == "exited")
    assert attributes(container)["RestartCount"] == 1
    assert attributes(container)["State"]["ExitCode"] == 0


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_a_stop_by_hand_holds(engine: Any, docker_client: Any, name: str, policy: str) -> None:
    container = run(docker_client, name, policy, "exec sleep 300")
    with events_of(engine, container) as events:
        container.exec_run("kill -9 1")  # of no effect on an init
        container.stop(timeout=0)
        events.until("stop")
        assert status(container) == "exited"
        assert events.actions.count("start") == 0
        # After the engine's restart only "always" comes back.
        restart(engine)
    if policy == "always":
        eventually(lambda: status(container) == "running")
    else:
        other = run(docker_client, f"{name}-2", "no", "true")
        other.wait()
        assert status(container) == "exited"


def test_kill_is_a_stop_by_hand(docker_client: Any, name: str) -> None:
    container = run(docker_client, name, "always", "exec sleep 300")
    container.kill()
    assert status(container) == "exited"
    assert attributes(container)["RestartCount"] == 0


def test_an_end_of_its_own_starts_it_again(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, "unless-stopped", "while [ ! -e /end ]; do sleep 0.05; done; rm /end; exit 0")
    with events_of(engine, container) as events:
        container.exec_run("touch /end")
        events.until("start")
        assert events.actions.index("die") < events.actions.index("start")
    assert attributes(container)["RestartCount"] == 1
    container.stop(timeout=0)
    container.start()
    assert attributes(container)["RestartCount"] == 0  # a start by hand begins anew


def waiting_long(engine: Any, client: Any, name: str) -> Any:
    """A container that waits for its next start for at least 1.6 s."""
    container = client.containers.create(
        "busybox", ["sh", "-c", "exit 4"], name=name, restart_policy={"Name": "always"}
    )
    with events_of(engine, container) as events:
        container.start()
        events.until("die", 5)
    assert status(container) == "restarting"
    return container


def test_while_it_waits_for_its_restart(engine: Any, docker_client: Any, name: str) -> None:
    container = waiting_long(engine, docker_client, name)
    seen = attributes(container)
    assert (seen["State"]["Running"], seen["State"]["Restarting"], seen["State"]["Pid"]) == (True, True, 0)
    assert seen["RestartCount"] == 5
    listed = docker_client.api.containers(filters={"id": container.id})[0]
    assert listed["Status"].startswith("Restarting (4) ")
    path = f"/containers/{name}"
    assert ask(engine, "POST", f"{path}/start")[0] == 304
    restarting = f"Container {container.id} is restarting, wait until the container is running"
    assert ask(engine, "POST", f"{path}/pause") == (409, {"message": restarting})
    assert ask(engine, "POST", f"{path}/exec", {"Cmd": ["true"]}) == (409, {"message": restarting})
    advice = "stop the container before removing or force remove"
    message = f'cannot remove container "{name}": container is restarting: {advice}'
    assert ask(engine, "DELETE", path) == (409, {"message": message})
    with events_of(engine, container) as events:
        assert ask(engine, "POST", f"{path}/stop")[0] == 204
        assert status(container) == "exited"
        events.until("stop")
        assert "kill" not in events.actions
    assert attributes(container)["State"]["ExitCode"] == 4


@pytest.mark.parametrize("verb", ["kill", "restart", "remove"])
def test_other_ends_of_the_wait(engine: Any, docker_client: Any, name: str, verb: str) -> None:
    container = waiting_long(engine, docker_client, name)
    with events_of(engine, container) as events:
        if verb == "kill":
            container.kill()
            assert status(container) == "exited"
        elif verb == "restart":
            container.restart(timeout=0)
            events.until("restart")
            assert attributes(container)["RestartCount"] <= 1
        else:
            container.remove(force=True)
            assert docker_client.containers.list(all=True, filters={"name": name}) == []


def test_the_back_off_survives_a_killed_engine(engine: Any, docker_client: Any, name: str) -> None:
    container = waiting_long(engine, docker_client, name)
    count = attributes(container)["RestartCount"]
    restart(engine)
    assert status(container) == "restarting"
    assert attributes(container)["RestartCount"] == count
    with events_of(engine, container) as events:
        death = events.until("die")["timeNano"]
        again = events.until("start", events.actions.count("start") + 1)["timeNano"]
    assert again - death > 1.5e9  # it goes on doubling, and does not begin anew
    assert attributes(container)["RestartCount"] > count


def test_a_stop_under_way_holds_for_the_next_engine(engine: Any, docker_client: Any, name: str) -> None:
    slow = "trap 'while [ ! -e /end ]; do sleep 0.05; done; exit 0' TERM; touch /ready; while :; do sleep 0.05; done"
    container = run(docker_client, name, "always", slow)
    eventually(lambda: container.exec_run(["test", "-e", "/ready"]).exit_code == 0)
    with events_of(engine, container) as events:
        stopping = threading.Thread(target=ask_to_stop, args=(engine, container))
        stopping.start()
        events.until("kill")
        restart(engine)
    stopping.join(30)
    assert status(container) == "running"
    with events_of(engine, container) as events:
        container.exec_run(["touch", "/end"])
        events.until("die")
    eventually(lambda: status(container) == "exited")
    assert attributes(container)["RestartCount"] == 0


def ask_to_stop(engine: Any, container: Any) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):  # nobody answers
        ask(engine, "POST", f"/containers/{container.id}/stop?t=60")


def test_what_ended_while_no_engine_was_there_starts_again(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, "on-failure", "exec sleep 300")
    record = engine.root / "containers" / container.id / "exit.json"
    engine.kill(f"kill -9 {attributes(container)['State']['Pid']}; until [ -e {record} ]; do :; done")
    engine.start()
    # Whoever asks first is told of the end already: it must not seem to be running since before.
    assert attributes(container)["RestartCount"] == 1
    eventually(lambda: status(container) == "running")


def test_an_attached_exec_outlives_its_engine_and_tells_how_it_ended(native_engine: Any) -> None:
    """On this computer: the VM's engine is there again before one can see how clients fare without one."""
    engine = native_engine
    with contextlib.closing(docker.DockerClient(engine.url, timeout=60)) as client, making(client) as make:
        _attached_execs_outlive(engine, client.api, make("sleep", "300"))


def _attached_execs_outlive(engine: Any, api: Any, container: Any) -> None:
    script = "echo one; while [ ! -e /end ]; do sleep 0.05; done; echo two; exit $0"
    execs = [api.exec_create(container.id, ["sh", "-c", script, str(code)])["Id"] for code in (0, 7)]
    streams = [api.exec_start(id, stream=True) for id in execs]
    assert [next(stream) for stream in streams] == [b"one\n", b"one\n"]
    container.reload()
    init = container.attrs["State"]["Pid"]
    engine.kill()
    try:
        Path(f"/proc/{init}/root/end").touch()
        assert [b"".join(stream) for stream in streams] == [b"two\n", b"two\n"]
        with pytest.raises(requests.exceptions.ConnectionError):  # neither success nor failure is made up
            api.exec_inspect(execs[0])
    finally:
        engine.start()
    seen = [api.exec_inspect(id) for id in execs]
    assert [(one["Running"], one["ExitCode"]) for one in seen] == [(False, 0), (False, 7)]


def test_a_policy_changed_by_update_counts_at_once(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, "no", "while [ ! -e /end ]; do sleep 0.05; done; rm /end")
    container.update(restart_policy={"Name": "always"})
    with events_of(engine, container) as events:
        container.exec_run("touch /end")
        events.until("start")
        container.update(restart_policy={"Name": "no"})
        container.exec_run("touch /end")
        events.until("die", 2)
    eventually(lambda: status(container) == "exited")


def test_a_restart_that_fails_is_the_last(engine: Any, docker_client: Any, name: str, scratch: Path) -> None:
    source = scratch / "there"
    engine.sh(f"mkdir {source}")
    container = docker_client.containers.create(
        "busybox", ["sh", "-c", "while [ ! -e /end ]; do sleep 0.05; done; exit 3"], name=name,
        restart_policy={"Name": "always"}, mounts=[{"Type": "bind", "Source": str(source), "Target": "/x"}],
    )  # fmt: skip
    container.start()
    engine.sh(f"rmdir {source}")
    container.exec_run("touch /end")
    eventually(lambda: status(container) == "exited")
    state = attributes(container)["State"]
    assert state["ExitCode"] == 3
    assert "bind source path does not exist" in state["Error"]


@pytest.mark.parametrize(("policy", "comes_back"), [("no", False), ("always", True), ("unless-stopped", True)])
def test_after_a_machine_that_died(engine: Any, docker_client: Any, name: str, policy: str, comes_back: bool) -> None:
    container = run(docker_client, name, policy, "exec sleep 300")
    # As a power cut: nobody writes down how the container ended.
    engine.kill(f"kill -9 {shim_of(engine, container)}; kill -9 {attributes(container)['State']['Pid']}")
    engine.start()
    if comes_back:
        eventually(lambda: status(container) == "running")
        assert attributes(container)["RestartCount"] == 0
    else:
        state = attributes(container)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 255)
        listed = docker_client.api.containers(all=True, filters={"id": container.id})[0]
        assert listed["Status"].startswith("Exited (255) ")
