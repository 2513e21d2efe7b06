"""Start, stop, signals, pause, rename, wait, prune and execs: states, events, statuses and dockerd's words."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

import pytest

from isolation_support import shim_of
from life_support import Waiting, ask, events_of, eventually, restart

pytestmark = pytest.mark.root
STUBBORN = ["sh", "-c", "trap 'echo asked' TERM USR1; touch /ready; while :; do sleep 0.05; done"]


def run(client: Any, name: str, command: Any = ("sleep", "300"), **more: Any) -> Any:
    return client.containers.run("busybox", list(command), name=name, detach=True, **more)


def state(container: Any) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs["State"])


def ready(container: Any) -> Any:
    eventually(lambda: container.exec_run(["test", "-e", "/ready"]).exit_code == 0)
    return container


# -- wait


def test_wait_answers_with_its_head_at_once(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create("busybox", ["sh", "-c", "exit 7"], name=name)
    assert Waiting(engine, name, "not-running").result() == {"StatusCode": 0}  # it does not run
    following, removed = Waiting(engine, name, "next-exit"), Waiting(engine, name, "removed")
    container.start()
    assert following.result() == {"StatusCode": 7}
    assert Waiting(engine, name, "not-running").result() == {"StatusCode": 7}
    container.remove()
    assert removed.result() == {"StatusCode": 7}


def test_a_removal_ends_every_wait(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create("busybox", "true", name=name)
    following = Waiting(engine, name, "next-exit")
    container.remove()
    assert following.result() == {"StatusCode": 0}


def test_a_start_that_failed_is_told_to_who_asked_for_it_alone(engine: Any, docker_client: Any, name: str) -> None:
    """Who waits for the next exit is `docker run`, which would print the same error twice; what is removed has an end."""
    container = docker_client.containers.create("busybox", ["nosuch"], name=name)
    following = Waiting(engine, name, "next-exit")
    status, answer = ask(engine, "POST", f"/containers/{name}/start")
    assert status == 400
    seen = state(container)
    assert (seen["Status"], seen["ExitCode"], seen["Error"]) == ("created", 127, answer["message"])
    assert Waiting(engine, name, "not-running").result()["StatusCode"] == 127
    container.remove()
    assert following.result() == {"StatusCode": 127}


def test_wait_on_what_is_not_there(engine: Any, docker_client: Any, name: str) -> None:
    assert ask(engine, "POST", "/containers/nosuch/wait")[0] == 404
    docker_client.containers.create("busybox", "true", name=name)
    told = ask(engine, "POST", f"/containers/{name}/wait?condition=foo")
    assert told == (400, {"message": 'invalid condition: "foo"'})


def test_wait_while_it_restarts_means_the_next_end(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create("busybox", ["false"], name=name, restart_policy={"Name": "always"})
    with events_of(engine, container) as events:
        container.start()
        events.until("die", 4)
        waiting = Waiting(engine, name, "not-running")
        container.stop()
        assert waiting.result() == {"StatusCode": 1}


# -- stop and signals


def test_stop_kills_after_its_time_and_takes_another_signal(engine: Any, docker_client: Any, name: str) -> None:
    container = ready(run(docker_client, name, STUBBORN))
    with events_of(engine, container) as events:
        assert ask(engine, "POST", f"/containers/{name}/stop?t=1&signal=USR1")[0] == 204
        events.until("stop")
        kills = [event["Actor"]["Attributes"]["signal"] for event in events.seen if event["Action"] == "kill"]
        assert kills == ["10", "9"]
        assert [one for one in events.actions if one in ("kill", "die", "stop")] == ["kill", "kill", "die", "stop"]
    assert state(container)["ExitCode"] == 137
    assert b"asked" in container.logs()
    assert ask(engine, "POST", f"/containers/{name}/stop")[0] == 304


@pytest.mark.parametrize("given", ["t=-1", "configured"])
def test_a_negative_time_waits_for_ever(engine: Any, docker_client: Any, name: str, given: str) -> None:
    body: dict[str, Any] = {"Image": "busybox", "Cmd": STUBBORN}
    if given == "configured":
        body["StopTimeout"] = -1
    ask(engine, "POST", f"/containers/create?name={name}", body)
    container = docker_client.containers.get(name)
    container.start()
    ready(container)
    query = "" if given == "configured" else "?t=-1"
    answers: list[Any] = []
    stopping = threading.Thread(target=lambda: answers.append(ask(engine, "POST", f"/containers/{name}/stop{query}")))
    with events_of(engine, container) as events:
        stopping.start()
        events.until("kill")
        stopping.join(1.5)
        assert stopping.is_alive()
        assert state(container)["Running"]
        container.kill()
        stopping.join(20)
    assert answers == [(204, None)]


def test_the_stop_signal_and_time_of_the_configuration(docker_client: Any, name: str) -> None:
    script = "trap 'exit 5' USR2; touch /ready; while :; do sleep 0.05; done"
    container = ready(run(docker_client, name, ["sh", "-c", script], stop_signal="SIGUSR2"))
    container.stop()
    assert state(container)["ExitCode"] == 5


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("signal=FOO", 400, "invalid signal: FOO"),
        ("signal=0", 400, "invalid signal: 0"),
        ("signal=99", 400, "the linux daemon does not support signal 99"),
    ],
)
def test_signals_that_are_none(engine: Any, docker_client: Any, name: str, query: str, status: int, words: str) -> None:
    run(docker_client, name)
    message = {"message": f"cannot kill container: {name}: {words}"}
    assert ask(engine, "POST", f"/containers/{name}/kill?{query}") == (status, message)
    # The signal is looked at first.
    assert ask(engine, "POST", f"/containers/nosuch/kill?{query}")[0] == status


def test_kill_of_what_does_not_run(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create("busybox", "true", name=name)
    words = f"cannot kill container: {name}: container {container.id} is not running"
    assert ask(engine, "POST", f"/containers/{name}/kill") == (409, {"message": words})
    words = "cannot kill container: nosuch: No such container: nosuch"
    assert ask(engine, "POST", "/containers/nosuch/kill") == (404, {"message": words})


def test_a_stop_that_cannot_be(engine: Any, docker_client: Any, name: str) -> None:
    run(docker_client, name)
    told = ask(engine, "POST", f"/containers/{name}/stop?signal=FOO")
    assert told == (500, {"message": f"cannot stop container: {name}: invalid signal: FOO"})


def test_restart(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, auto_remove=True)
    first = state(container)
    with events_of(engine, container) as events:
        container.restart(timeout=0)
        events.until("restart")
        assert events.actions == ["kill", "kill", "die", "stop", "start", "restart"]
    assert state(container)["Pid"] != first["Pid"]  # and it was not removed in between
    with events_of(engine, container) as events:
        container.stop(timeout=0)
        events.until("destroy")


def test_a_restart_that_cannot_be(engine: Any, docker_client: Any, name: str) -> None:
    docker_client.containers.create("busybox", ["nosuch"], name=name)
    status, answer = ask(engine, "POST", f"/containers/{name}/restart")
    assert status == 500
    assert answer["message"].startswith(f"Cannot restart container {name}: failed to create task for container: ")


# -- pause


def test_paused(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name)
    one = ask(engine, "POST", f"/containers/{name}/exec", {"Cmd": ["true"]})[1]["Id"]
    container.pause()
    seen = state(container)
    assert (seen["Status"], seen["Running"], seen["Paused"]) == ("paused", True, True)
    path, id = f"/containers/{name}", container.id
    refusals = [
        ("POST", f"{path}/pause", 409, f"Container {id} is already paused"),
        ("POST", f"{path}/start", 409, "cannot start a paused container, try unpause instead"),
        ("POST", f"/exec/{one}/start", 409, f"Container {id} is paused, unpause the container before exec"),
        ("DELETE", path, 409, f'cannot remove container "{name}": container is paused and must be unpaused first'),
    ]
    for method, target, status, words in refusals:
        body = {"Detach": True} if "exec" in target else None
        assert ask(engine, method, target, body) == (status, {"message": words})
    told = ask(engine, "POST", f"{path}/exec", {"Cmd": ["true"]})
    assert told == (409, {"message": f"Container {name} is paused, unpause the container before exec"})
    container.unpause()
    assert ask(engine, "POST", f"{path}/unpause") == (500, {"message": f"Container {id} is not paused"})
    assert state(container)["Status"] == "running"


def test_pause_of_what_does_not_run(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create("busybox", "true", name=name)
    words = {"message": f"container {container.id} is not running"}
    assert ask(engine, "POST", f"/containers/{name}/pause") == (409, words)


@pytest.mark.parametrize("verb", ["stop", "restart", "kill", "remove", "term"])
def test_a_paused_container_can_be_ended(engine: Any, docker_client: Any, name: str, verb: str) -> None:
    script = "trap 'exit 0' TERM; touch /ready; while :; do sleep 0.05; done"
    container = ready(run(docker_client, name, ["sh", "-c", script]))
    container.pause()
    if verb == "remove":
        container.remove(force=True)
    elif verb == "term":
        container.kill("TERM")
        assert container.wait(timeout=20)["StatusCode"] == 0
    elif verb == "kill":
        container.kill()
        assert state(container)["ExitCode"] == 137
    else:
        getattr(container, verb)(timeout=20)
        assert state(container)["Status"] == ("running" if verb == "restart" else "exited")
        assert state(container)["ExitCode"] == 0


def test_a_paused_container_is_still_paused_for_a_new_engine(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name)
    container.pause()
    restart(engine)
    assert state(container)["Status"] == "paused"
    container.unpause()
    assert container.exec_run("echo on").output == b"on\n"


# -- rename


def test_rename_of_a_running_container(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name)
    with events_of(engine, container) as events:
        container.rename(f"{name}-new")
        told = events.until("rename")["Actor"]["Attributes"]
    assert (told["name"], told["oldName"]) == (f"{name}-new", f"/{name}")
    docker_client.containers.create("busybox", "true", name=name)  # the name is free at once
    assert docker_client.containers.get(f"{name}-new").id == container.id
    members = ask(engine, "GET", "/networks/bridge")[1]["Containers"]
    assert members[container.id]["Name"] == f"{name}-new"
    restart(engine)
    assert docker_client.containers.get(f"{name}-new").id == container.id


def test_renames_that_cannot_be(engine: Any, docker_client: Any, name: str) -> None:
    docker_client.containers.create("busybox", "true", name=name)
    other = docker_client.containers.create("busybox", "true", name=f"{name}-2")
    invalid = (
        "Error when allocating new name: Invalid container name (/a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )
    taken = (
        f'Error when allocating new name: Conflict. The container name "/{name}-2" is already in use by container '
        f'"{other.id}". You have to remove (or rename) that container to be able to reuse that name.'
    )
    for query, status, words in (
        ("", 400, "Neither old nor new names may be empty"),
        (f"?name={name}", 400, "Renaming a container with the same name as its current name"),
        (f"?name=/{name}", 400, "Renaming a container with the same name as its current name"),
        ("?name=a%20b", 400, invalid),
        (f"?name={name}-2", 409, taken),
    ):
        assert ask(engine, "POST", f"/containers/{name}/rename{query}") == (status, {"message": words})


# -- prune


def test_prune_by_label_leaves_the_others(docker_client: Any, name: str) -> None:
    label = {"prune": name}
    gone = docker_client.containers.create("busybox", "true", name=name, labels=label)
    running = run(docker_client, f"{name}-2", labels=label)
    kept = docker_client.containers.create("busybox", "true", name=f"{name}-3", labels={**label, "keep": "1"})
    answer = docker_client.containers.prune({"label": [f"prune={name}"], "label!": ["keep"]})
    assert answer["ContainersDeleted"] == [gone.id]
    assert {state(one)["Status"] for one in (running, kept)} == {"running", "created"}
    assert docker_client.containers.prune({"label": [f"prune={name}"], "until": "1h"})["ContainersDeleted"] is None


def test_prune_filters_that_cannot_be(engine: Any) -> None:
    for filters, words in (
        ("%7B%22foo%22%3A%5B%22x%22%5D%7D", "invalid filter 'foo'"),
        ("%7B%22until%22%3A%5B%221h%22%2C%222h%22%5D%7D", "more than one until filter specified"),
    ):
        assert ask(engine, "POST", f"/containers/prune?filters={filters}") == (400, {"message": words})


# -- exec


def test_an_exec_has_what_it_was_asked_for(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name, environment={"A": "container", "B": "container"}, working_dir="/tmp")
    script = 'echo "$A $B $(pwd) $(id -u):$(id -g)"; grep CapEff /proc/self/status'
    body = {"Cmd": ["sh", "-c", script], "Env": ["A=exec"], "User": "1:2", "AttachStdout": True}
    plain = docker_client.api.exec_start(ask(engine, "POST", f"/containers/{name}/exec", body)[1]["Id"])
    assert plain.splitlines()[0] == b"exec container /tmp 1:2"
    body |= {"Privileged": True, "User": "", "WorkingDir": "/etc"}
    privileged = docker_client.api.exec_start(ask(engine, "POST", f"/containers/{name}/exec", body)[1]["Id"])
    assert privileged.splitlines()[0] == b"exec container /etc 0:0"
    assert int(privileged.split()[-1], 16).bit_count() >= 38
    assert int(container.exec_run("grep CapEff /proc/self/status").output.split()[-1], 16).bit_count() == 14


def test_a_terminals_size(engine: Any, docker_client: Any, name: str) -> None:
    run(docker_client, name)
    body = {"Cmd": ["stty", "size"], "Tty": True, "AttachStdout": True, "ConsoleSize": [33, 77]}
    made = ask(engine, "POST", f"/containers/{name}/exec", body)[1]["Id"]
    assert docker_client.api.exec_start(made, tty=True) == b"33 77\r\n"


def test_what_an_inspect_of_an_exec_says(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name)
    body = {"Cmd": ["sh", "-c", "exit 3"], "DetachKeys": "ctrl-p,a", "User": "1", "Tty": True, "AttachStderr": True}
    made = ask(engine, "POST", f"/containers/{name}/exec", body)[1]["Id"]
    process = {"tty": True, "entrypoint": "sh", "arguments": ["-c", "exit 3"], "privileged": False, "user": "1"}
    wanted = {
        "ID": made, "Running": False, "ExitCode": None, "ProcessConfig": process, "OpenStdin": False,
        "OpenStderr": True, "OpenStdout": False, "CanRemove": False, "ContainerID": container.id,
        "DetachKeys": base64.b64encode(b"\x10a").decode(), "Pid": 0,
    }  # fmt: skip
    assert ask(engine, "GET", f"/exec/{made}/json") == (200, wanted)
    container.reload()
    assert container.attrs["ExecIDs"] == [made]
    with events_of(engine, container) as events:
        assert ask(engine, "POST", f"/exec/{made}/start", {"Detach": True})[0] == 200
        assert events.until("exec_die")["Actor"]["Attributes"]["exitCode"] == "3"
        assert "exec_start: sh -c exit 3" in events.actions
    seen = ask(engine, "GET", f"/exec/{made}/json")[1]
    assert (seen["Running"], seen["ExitCode"], seen["Pid"] > 0) == (False, 3, True)
    told = ask(engine, "POST", f"/exec/{made}/start", {"Detach": True})
    assert told == (409, {"message": f"exec command {made} has already run"})
    container.stop(timeout=0)
    assert ask(engine, "GET", f"/exec/{made}/json")[0] == 200
    container.remove()
    assert ask(engine, "GET", f"/exec/{made}/json")[0] == 404


def test_execs_end_with_their_container(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name)
    unused = ask(engine, "POST", f"/containers/{name}/exec", {"Cmd": ["true"]})[1]["Id"]
    running = ask(engine, "POST", f"/containers/{name}/exec", {"Cmd": ["sleep", "300"]})[1]["Id"]
    ask(engine, "POST", f"/exec/{running}/start", {"Detach": True})
    told = ask(engine, "POST", f"/exec/{running}/start", {"Detach": True})
    assert told == (409, {"message": f"exec command {running} is already running"})
    with events_of(engine, container) as events:
        began = time.monotonic()
        container.stop(timeout=0)
        assert time.monotonic() - began < 60
        events.until("stop")
        assert [one for one in events.actions if "die" in one] == ["exec_die", "die"]
    words = {"message": f"No such exec instance: {unused}"}
    assert ask(engine, "POST", f"/exec/{unused}/start", {"Detach": True}) == (404, words)
    words = {"message": f"container {container.id} is not running"}
    assert ask(engine, "POST", f"/containers/{name}/exec", {"Cmd": ["true"]}) == (409, words)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "No exec command specified"),
        ({"Cmd": []}, 400, "No exec command specified"),
        ({"Cmd": "true"}, 400, "invalid JSON: "),
        ({"Cmd": ["true"], "Env": "x"}, 400, "invalid JSON: "),
        ({"Cmd": ["true"], "Tty": 1}, 400, "invalid JSON: "),
        ({"Cmd": ["true"], "ConsoleSize": [1]}, 400, "invalid JSON: "),
        ({"Cmd": ["true"], "DetachKeys": "foo"}, 500, "Invalid escape keys (foo) provided"),
    ],
)
def test_execs_that_cannot_be(engine: Any, docker_client: Any, name: str, body: Any, status: int, words: str) -> None:
    run(docker_client, name)
    told = ask(engine, "POST", f"/containers/{name}/exec", body)
    assert (told[0], told[1]["message"][: len(words)]) == (status, words)


# The words and numbers are those that dockerd 26.1 with runc 1.1 gave.
PERHAPS_A_MOUNT = (
    "Are you trying to mount a directory onto a file (or vice-versa)?"
    " Check if the specified host path exists and is the expected type"
)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH: unknown'),
        ("/nosuch", 127, 'exec: "/nosuch": stat /nosuch: no such file or directory: unknown'),
        ("/etc", 126, 'exec: "/etc": permission denied: unknown'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied: unknown'),
        ("/etc/passwd/x", 126, f"stat /etc/passwd/x: not a directory: unknown: {PERHAPS_A_MOUNT}"),
    ],
)
def test_commands_that_cannot_be_run(
    engine: Any, docker_client: Any, name: str, command: str, code: int, words: str
) -> None:
    container = docker_client.containers.create("busybox", [command], name=name)
    status, answer = ask(engine, "POST", f"/containers/{name}/start")
    assert status == 400
    assert answer["message"].endswith(words)
    seen = state(container)
    assert (seen["ExitCode"], seen["Error"]) == (code, answer["message"])


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"Cmd": ["nosuch"]}, 126, 'exec: "nosuch": executable file not found in $PATH: unknown'),
        ({"Cmd": ["/nosuch"]}, 126, 'exec: "/nosuch": stat /nosuch: no such file or directory: unknown'),
        ({"Cmd": ["/etc"]}, 126, 'exec: "/etc": permission denied: unknown'),
        ({"Cmd": ["/etc/passwd"]}, 126, 'exec: "/etc/passwd": permission denied: unknown'),
        ({"Cmd": ["/etc/passwd/x"]}, 126, f"stat /etc/passwd/x: not a directory: unknown: {PERHAPS_A_MOUNT}"),
        ({"Cmd": ["true"], "WorkingDir": "tmp"}, 126, "exec failed: Cwd must be an absolute path: unknown"),
        ({"Cmd": ["true"], "User": "nosuch"}, 126, "unable to find user nosuch: no matching entries in passwd file"),
    ],
)
def test_execs_that_cannot_be_started(
    engine: Any, docker_client: Any, name: str, body: Any, code: int, words: str
) -> None:
    run(docker_client, name)
    made = ask(engine, "POST", f"/containers/{name}/exec", body)[1]["Id"]
    status, answer = ask(engine, "POST", f"/exec/{made}/start", {"Detach": True})
    assert status in (400, 500)
    assert words in answer["message"]
    seen = ask(engine, "GET", f"/exec/{made}/json")[1]
    assert (seen["Running"], seen["ExitCode"]) == (False, code)


def test_many_execs_do_not_pile_up(engine: Any, docker_client: Any, name: str) -> None:
    container = run(docker_client, name)
    shim = shim_of(engine, container)

    def held() -> int:
        return engine.descriptors() + len(engine.names(f"/proc/{shim}/fd"))

    assert container.exec_run(["sh", "-c", "exit 7"]).exit_code == 7
    before = held()
    for number in range(40):
        assert container.exec_run(["sh", "-c", f"exit {number % 7}"]).exit_code == number % 7
    eventually(lambda: held() <= before + 15)  # the client keeps up to ten connections
    container.stop(timeout=0)
    assert state(container)["ExitCode"] == 137
