"""Health checks of real containers: status, log, events, timeouts, pauses, and engines that are killed."""

from __future__ import annotations

import time
from typing import Any

import docker
import pytest

from image_archives import docker_archive, tar
from life_support import ask, events_of, eventually, restart

pytestmark = pytest.mark.root
MS = 1_000_000
SECOND = 1000 * MS


def run(client: Any, name: str, test: Any, *, command: Any = ("sleep", "300"), **check: int) -> Any:
    return client.containers.run(
        "busybox", list(command), name=name, detach=True, healthcheck={"test": test, "interval": 100 * MS, **check}
    )


def health(container: Any) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs["State"]["Health"])


def status(client: Any, container: Any) -> str:
    return str(client.api.containers(all=True, filters={"id": container.id})[0]["Status"])


def test_starting_healthy_unhealthy_and_back(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create(
        "busybox", ["sleep", "300"], name=name,
        healthcheck={"test": ["CMD-SHELL", "echo looked; test ! -e /sick"], "interval": 300 * MS, "retries": 2},
    )  # fmt: skip
    container.reload()
    assert "Health" not in container.attrs["State"]
    with events_of(engine, container) as events:
        container.start()
        assert health(container)["Status"] == "starting"
        assert status(docker_client, container).endswith("(health: starting)")
        told = events.until("health_status: healthy")
        assert told["Actor"]["Attributes"]["name"] == name
        assert status(docker_client, container).endswith("(healthy)")
        container.exec_run(["touch", "/sick"])
        events.until("health_status: unhealthy")
        assert status(docker_client, container).endswith("(unhealthy)")
        seen = health(container)
        assert seen["FailingStreak"] >= 2
        assert seen["Log"][-1] | {"Start": "", "End": ""} == {
            "Start": "",
            "End": "",
            "ExitCode": 1,
            "Output": "looked\n",
        }
        container.exec_run(["rm", "/sick"])
        events.until("health_status: healthy", 2)
        assert health(container)["FailingStreak"] == 0
        # The exec_… events are those of the two execs above: probes have none.
        assert sum(action.startswith("exec_create") for action in events.actions) == 2
        assert sum(action == "exec_die" for action in events.actions) == 2
        assert container.attrs["ExecIDs"] is None


def test_the_log_keeps_five_and_output_is_cut(docker_client: Any, name: str) -> None:
    container = run(docker_client, name, ["CMD-SHELL", "yes | head -c 5000; echo x >&2"], interval=20 * MS)
    eventually(lambda: len(health(container)["Log"]) == 5)
    first = health(container)["Log"][0]
    assert first["Output"] == "y\n" * 2048 + "..."
    eventually(lambda: health(container)["Log"][0] != first)
    assert len(health(container)["Log"]) == 5


def test_a_probe_that_takes_too_long_is_killed(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, ["CMD-SHELL", "echo begun; exec sleep 77"], timeout=300 * MS, retries=1)
    with events_of(engine, container) as events:
        events.until("health_status: unhealthy")
    entry = health(container)["Log"][0]
    assert (entry["ExitCode"], entry["Output"]) == (-1, "Health check exceeded timeout (300ms): begun\n")
    # At most the next one is running.
    assert container.exec_run(["sh", "-c", "ps | grep -c '[s]leep 77'"]).output.strip() in (b"0", b"1")


def test_a_probe_that_cannot_be_run(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, ["CMD", "nosuch"], retries=1)
    with events_of(engine, container) as events:
        events.until("health_status: unhealthy")
    entry = health(container)["Log"][0]
    assert entry["ExitCode"] == -1
    assert 'exec: "nosuch": executable file not found in $PATH' in entry["Output"]


def test_the_start_period_forgives(engine: Any, docker_client: Any, name: str) -> None:
    check = {"Test": ["CMD", "false"], "Interval": 50 * MS, "Retries": 1}
    check |= {"StartPeriod": 3000 * MS, "StartInterval": 100 * MS}  # the SDK does not know all of these
    body = {"Image": "busybox", "Cmd": ["sleep", "300"], "Healthcheck": check}
    assert ask(engine, "POST", f"/containers/create?name={name}", body)[0] == 201
    container = docker_client.containers.get(name)
    with events_of(engine, container) as events:
        began = time.monotonic()
        container.start()
        events.until("health_status: unhealthy")
        assert time.monotonic() - began > 3.0
    assert len(health(container)["Log"]) > 1  # those before were forgiven, of which the last four are told


def test_probes_rest_while_it_is_paused_and_after_its_end(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, ["CMD-SHELL", "echo $$"], interval=50 * MS)
    with events_of(engine, container) as events:
        events.until("health_status: healthy")
        container.pause()
        paused = health(container)
        assert paused["Status"] == "unhealthy"  # as in dockerd, nobody can say that it is healthy
        assert status(docker_client, container).endswith("(Paused)")
        time.sleep(0.3)
        assert health(container)["Log"] == paused["Log"]
        container.unpause()
        events.until("health_status: healthy", 2)
        container.stop(timeout=0)
        stopped = health(container)
        assert stopped["Status"] == "unhealthy"
        time.sleep(0.3)
        assert health(container)["Log"] == stopped["Log"]
        container.start()
        assert health(container)["Status"] == "starting"
        events.until("health_status: healthy", 3)


def test_a_pause_does_not_wait_for_a_probe(docker_client: Any, name: str) -> None:
    container = run(docker_client, name, ["CMD-SHELL", "touch /probing; exec sleep 60"], timeout=50 * SECOND)
    eventually(lambda: container.exec_run(["test", "-e", "/probing"]).exit_code == 0)
    began = time.monotonic()
    container.pause()
    container.unpause()
    container.stop(timeout=0)
    assert time.monotonic() - began < 40


def test_an_engine_that_is_killed_goes_on_probing(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, ["CMD-SHELL", "exec sleep 88"], timeout=60 * SECOND, retries=1)
    eventually(lambda: b"sleep 88" in container.exec_run("ps").output)
    restart(engine)
    # The probe of the dead engine is gone, and the check runs again.
    eventually(lambda: container.exec_run("ps").output.count(b"sleep 88") == 1)
    assert health(container)["Status"] == "starting"
    other = run(docker_client, f"{name}-2", ["CMD", "true"])
    eventually(lambda: health(other)["Status"] == "healthy")
    restart(engine)
    eventually(lambda: health(other)["Status"] == "healthy")


def test_images_give_what_the_request_leaves_open(docker_client: Any, name: str) -> None:
    check = {"Test": ["CMD", "true"], "Interval": 3 * SECOND, "Retries": 7}
    layer = tar([("file", b"x")])
    archive = docker_archive([layer], [f"{name}:1"], config={"Cmd": ["/file"], "Healthcheck": check})
    (image,) = docker_client.images.load(archive)
    try:
        own = docker_client.containers.create(image.id, name=f"{name}-own", healthcheck={"retries": 2})
        own.reload()
        assert own.attrs["Config"]["Healthcheck"] == {**check, "Retries": 2}
        none = docker_client.containers.create(image.id, name=f"{name}-none", healthcheck={"test": ["NONE"]})
        none.reload()
        assert none.attrs["Config"]["Healthcheck"] == {**check, "Test": ["NONE"]}
        own.remove()
        none.remove()
    finally:
        docker_client.images.remove(f"{name}:1")


def test_no_health_check(docker_client: Any, name: str) -> None:
    container = run(docker_client, name, ["NONE"])
    container.reload()
    assert "Health" not in container.attrs["State"]
    assert "(" not in status(docker_client, container)


def test_the_filter(engine: Any, docker_client: Any, name: str) -> None:
    ill = run(docker_client, name, ["CMD", "false"], retries=1)
    plain = docker_client.containers.run("busybox", "sleep 300", name=f"{name}-plain", detach=True)
    eventually(lambda: docker_client.api.inspect_container(ill.id)["State"]["Health"]["Status"] == "unhealthy")

    def found(value: str) -> set[str]:
        return {one.id for one in docker_client.containers.list(filters={"health": value, "name": name})}

    assert (found("unhealthy"), found("none"), found("healthy")) == ({ill.id}, {plain.id}, set())
    with pytest.raises(
        docker.errors.APIError, match=r"invalid value for health \(foo\): must be one of none, starting"
    ):
        found("foo")


def test_dockers_words_for_times_too_short(docker_client: Any, name: str) -> None:
    with pytest.raises(docker.errors.APIError, match="Interval in Healthcheck cannot be less than 1ms") as error:
        run(docker_client, name, ["CMD", "true"], interval=5)
    assert error.value.status_code == 400
