"""What containers use, through the engine's socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import docker
import pytest

from life_support import ask, eventually

pytestmark = pytest.mark.root

MB = 1 << 20
ZERO_TIME = "0001-01-01T00:00:00Z"
BUSY = ["sh", "-c", "while :; do :; done"]


def quickest(look: Callable[[], Any]) -> tuple[Any, float]:
    """What is told, and the least of the seconds that it took: a busy computer does not stand still each time."""
    took = []
    for _ in range(5):
        began = time.monotonic()
        told = look()
        took.append(time.monotonic() - began)
    return told, min(took)


def test_a_sample_compares_with_the_one_before(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run("busybox", BUSY, name=name, detach=True)
    told = container.stats(stream=False)
    assert (told["name"], told["id"]) == (f"/{name}", container.id)
    assert told["read"] > told["preread"] > "2"
    after, before = told["cpu_stats"], told["precpu_stats"]
    assert after["online_cpus"] == before["online_cpus"] == int(engine.sh("nproc"))
    share = (after["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]) / (
        after["system_cpu_usage"] - before["system_cpu_usage"]
    )
    # One of the processors, and other programs may be on it too.
    assert 0.1 < share * after["online_cpus"] < 1.3
    assert told["storage_stats"] == {}
    assert told["num_procs"] == 0


def test_one_shot_has_nothing_to_compare_with_and_is_quick(docker_client: Any, name: str) -> None:
    container = docker_client.containers.run("busybox", BUSY, name=name, detach=True)
    told, took = quickest(lambda: docker_client.api.stats(container.id, stream=False, one_shot=True))
    assert took < 0.9
    assert told["preread"] == ZERO_TIME
    assert told["read"] > "2"
    assert "system_cpu_usage" not in told["precpu_stats"]
    assert told["id"] == container.id


def test_what_goes_over_the_network_is_counted_from_the_containers_side(docker_client: Any, name: str) -> None:
    serve = "head -c 100000 /dev/zero > /tmp/f; httpd -p 80 -h /tmp; exec sleep 600"
    server = docker_client.containers.run("busybox", ["sh", "-c", serve], name=name, detach=True)
    client = docker_client.containers.run("busybox", "sleep 600", name=f"{name}-b", detach=True)
    server.reload()
    address = server.attrs["NetworkSettings"]["IPAddress"]

    def traffic(container: Any) -> dict[str, int]:
        networks: dict[str, dict[str, int]] = docker_client.api.stats(container.id, stream=False, one_shot=True)[
            "networks"
        ]
        assert set(networks) == {"eth0"}
        return networks["eth0"]

    before = traffic(server), traffic(client)
    fetch = f"while ! wget -q -O /tmp/f http://{address}/f; do sleep 0.1; done; wc -c < /tmp/f"
    assert client.exec_run(["sh", "-c", fetch]).output == b"100000\n"
    after = traffic(server), traffic(client)
    assert set(after[0]) == {
        f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")
    }
    assert after[0]["tx_bytes"] - before[0]["tx_bytes"] > 100000
    assert after[1]["rx_bytes"] - before[1]["rx_bytes"] > 100000
    assert 0 < after[0]["rx_bytes"] - before[0]["rx_bytes"] < 100000
    assert 0 < after[0]["tx_packets"] - before[0]["tx_packets"] < 1000


def test_networks_are_told_by_interface_and_left_out_when_there_are_none(docker_client: Any, name: str) -> None:
    network = docker_client.networks.create(name)
    try:
        container = docker_client.containers.run("busybox", "sleep 600", name=name, detach=True)
        network.connect(container)
        assert set(container.stats(stream=False)["networks"]) == {"eth0", "eth1"}
        beside = docker_client.containers.run(
            "busybox", "sleep 600", name=f"{name}-b", detach=True, network_mode=f"container:{container.id}"
        )
        assert set(beside.stats(stream=False)["networks"]) == {"eth0", "eth1"}
        alone = docker_client.containers.run("busybox", "sleep 600", name=f"{name}-c", detach=True, network_mode="none")
        assert "networks" not in alone.stats(stream=False)
        container.remove(force=True)
    finally:
        for one in docker_client.containers.list(all=True, filters={"name": name}):
            one.remove(force=True)
        network.remove()


def test_what_all_carry_is_told_as_it_is_carried(docker_client: Any, name: str) -> None:
    serve = "head -c 100000 /dev/zero > /tmp/f; httpd -p 80 -h /tmp; exec sleep 600"
    server = docker_client.containers.run("busybox", ["sh", "-c", serve], name=name, detach=True)
    # Who shares its network counts once: what is sent and what is received would not be the same otherwise.
    docker_client.containers.run(
        "busybox", "sleep 600", name=f"{name}-c", detach=True, network_mode=f"container:{name}"
    )
    server.reload()
    address = server.attrs["NetworkSettings"]["IPAddress"]
    fetch = f"while :; do wget -q -O /dev/null http://{address}/f; done"
    with docker_client.api.get(docker_client.api._url("/cove/traffic"), stream=True, timeout=60) as answer:
        assert answer.status_code == 200
        told = map(json.loads, answer.iter_lines())
        docker_client.containers.run("busybox", ["sh", "-c", fetch], name=f"{name}-b", detach=True)
        found = next(each for each in told if min(each["received"], each["sent"]) > 20_000)
        assert set(found) == {"received", "sent"}
        found = next(each for each in told if min(each["received"], each["sent"]) > 20_000)
        assert 0.7 < found["received"] / found["sent"] < 1.4
        docker_client.api.kill(f"{name}-b")
        # The server still sends what has been asked for.
        assert next(each for each in told if each["received"] < 2000)


def test_a_stopped_container_answers_zeros_at_once(docker_client: Any, name: str) -> None:
    container = docker_client.containers.create("busybox", "true", name=name)
    told, took = quickest(lambda: container.stats(stream=False))
    assert took < 0.9
    nothing = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    unthrottled = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    assert told == {
        "name": f"/{name}",
        "id": container.id,
        "read": ZERO_TIME,
        "preread": ZERO_TIME,
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(told["blkio_stats"]),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": {"cpu_usage": nothing, "throttling_data": unthrottled},
        "precpu_stats": {"cpu_usage": nothing, "throttling_data": unthrottled},
        "memory_stats": {},
    }
    assert len(told["blkio_stats"]) == 8


def test_the_stream_goes_on_over_a_stop_and_ends_with_the_container(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run("busybox", "sleep 600", name=name, detach=True)
    frames = container.stats(stream=True, decode=True)
    first = next(frames)
    assert first["preread"] == ZERO_TIME
    second = next(frames)
    assert second["preread"] == first["read"]
    container.stop(timeout=0)
    stopped = next(frames)
    while stopped["read"] != ZERO_TIME:  # one may have been on its way
        stopped = next(frames)
    assert stopped["id"] == container.id
    container.start()
    again = next(frames)
    while again["read"] == ZERO_TIME:
        again = next(frames)
    assert again["cpu_stats"]["online_cpus"] == int(engine.sh("nproc"))
    container.remove(force=True)
    assert [frame["id"] for frame in frames] in ([], [container.id])


def test_a_hundred_followers_cost_one_sample_a_second(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run("busybox", "sleep 600", name=name, detach=True)
    clients = [docker.DockerClient(engine.url, timeout=60) for _ in range(100)]
    started = time.monotonic()
    try:
        streams = [client.api.stats(container.id, stream=True, decode=True) for client in clients]
        frames: list[list[dict[str, Any]]] = [[] for _ in streams]

        def follow(index: int) -> None:
            for frame in streams[index]:
                frames[index].append(frame)
                if len(frames[index]) == 4:
                    return

        threads = [threading.Thread(target=follow, args=(index,)) for index in range(len(streams))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert {len(taken) for taken in frames} == {4}
        # Apart from the first, all have the same frames.
        assert len({frame["read"] for taken in frames for frame in taken[1:]}) <= time.monotonic() - started + 2
        used = processor_s(engine)
        started = time.monotonic()
        following = subprocess.run(
            ["sh", "-c", f"curl -s -N --unix-socket {engine.socket} http://x/containers/{container.id}/stats | head -n 4"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert len(following.stdout.splitlines()) == 4
        cost = (processor_s(engine) - used) / (time.monotonic() - started)
        # The hundred have not closed their streams: their sockets take what comes.
        assert cost < 0.25, f"{cost:.0%} of a processor"
    finally:
        for client in clients:
            client.close()


def processor_s(engine: Any) -> float:
    fields = engine.read(f"/proc/{engine.pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- what the controllers of cgroup v2 count


def sample(client: Any, container: Any) -> dict[str, Any]:
    return dict(client.api.stats(container.id, stream=False, one_shot=True))


@pytest.mark.usefixtures("limiting")
def test_memory_is_what_the_container_holds(docker_client: Any, name: str) -> None:
    hold = "dd if=/dev/zero of=/dev/shm/f bs=1M count=32; touch /held; exec sleep 600"
    container = docker_client.containers.run(
        "busybox", ["sh", "-c", hold], name=name, detach=True, mem_limit="128m", shm_size="64m"
    )
    container.exec_run(["sh", "-c", "until [ -e /held ]; do sleep 0.1; done"])
    told = sample(docker_client, container)["memory_stats"]
    assert told["limit"] == 128 * MB
    assert 32 * MB <= told["usage"] < 64 * MB
    assert told["stats"]["shmem"] >= 32 * MB
    assert told["stats"]["inactive_file"] >= 0
    assert "max_usage" not in told


@pytest.mark.usefixtures("limiting")
def test_without_a_limit_the_machines_memory_is_it(docker_client: Any, name: str) -> None:
    container = docker_client.containers.run("busybox", "sleep 600", name=name, detach=True)
    told = sample(docker_client, container)
    assert told["memory_stats"]["limit"] == docker_client.info()["MemTotal"]
    assert told["pids_stats"] == {"current": 1, "limit": 2**64 - 1}


@pytest.mark.usefixtures("limiting")
def test_processes_are_counted_with_their_limit(docker_client: Any, name: str) -> None:
    script = "sleep 600 & sleep 600 & touch /begun; wait"
    container = docker_client.containers.run("busybox", ["sh", "-c", script], name=name, detach=True, pids_limit=40)
    container.exec_run(["sh", "-c", "until [ -e /begun ]; do sleep 0.1; done"])
    eventually(lambda: sample(docker_client, container)["pids_stats"] == {"current": 3, "limit": 40})


@pytest.mark.usefixtures("limiting")
def test_throttling_is_told(docker_client: Any, name: str) -> None:
    container = docker_client.containers.run("busybox", BUSY, name=name, detach=True, nano_cpus=100_000_000)
    eventually(lambda: sample(docker_client, container)["cpu_stats"]["throttling_data"]["throttled_periods"] > 0)
    told = sample(docker_client, container)["cpu_stats"]["throttling_data"]
    assert told["periods"] >= told["throttled_periods"] > 0
    assert told["throttled_time"] > 0


@pytest.mark.usefixtures("limiting")
def test_devices_are_told_with_what_was_written(docker_client: Any, name: str) -> None:
    write = "dd if=/dev/zero of=/f bs=1M count=8 conv=fsync; touch /written; exec sleep 600"
    container = docker_client.containers.run("busybox", ["sh", "-c", write], name=name, detach=True)
    container.exec_run(["sh", "-c", "until [ -e /written ]; do sleep 0.1; done"])
    told = sample(docker_client, container)["blkio_stats"]
    written = sum(entry["value"] for entry in told["io_service_bytes_recursive"] if entry["op"] == "write")
    assert written >= 8 * MB
    assert [told[field] for field in told if field != "io_service_bytes_recursive"] == [None] * 7


@pytest.mark.usefixtures("limiting")
def test_clients_show_memory_and_processes(engine: Any, docker_client: Any, name: str) -> None:
    docker_client.containers.run("busybox", "sleep 600", name=name, detach=True, mem_limit="64m")
    environment = {**os.environ, "DOCKER_HOST": engine.url, "COVE_HOST": engine.url}
    for program in (["docker"], [sys.executable, "-m", "cove"]):
        words = [*program, "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", name]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        shown = done.stdout.split()
        assert shown[0] == name
        assert shown[1] != "0B"
        assert shown[2:] == ["/", "64MiB", "1"]


# -- requests


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("stream=true&one-shot=true", 400, "cannot have stream=true and one-shot=true"),
        ("one-shot=1", 400, "cannot have stream=true and one-shot=true"),
    ],
)
def test_one_shot_and_stream_exclude_each_other(
    engine: Any, docker_client: Any, name: str, query: str, status: int, message: str
) -> None:
    docker_client.containers.create("busybox", "true", name=name)
    assert ask(engine, "GET", f"/containers/{name}/stats?{query}") == (status, {"message": message})


def test_there_must_be_such_a_container(docker_client: Any) -> None:
    with pytest.raises(docker.errors.NotFound, match="No such container: nosuch"):
        docker_client.api.stats("nosuch", stream=False)


def test_dockers_client_shows_them(engine: Any, docker_client: Any, name: str) -> None:
    docker_client.containers.run("busybox", BUSY, name=name, detach=True)
    shown = subprocess.run(
        ["docker", "stats", "--no-stream", "--format", "{{.Name}}|{{.CPUPerc}}|{{.NetIO}}", name],
        env={**os.environ, "DOCKER_HOST": engine.url}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    shown_name, share, traffic = shown.stdout.strip().split("|")
    assert shown_name == name
    assert float(share.removesuffix("%")) > 10
    assert traffic.endswith("B")
