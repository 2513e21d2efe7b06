"""Changes of a container's networks that meet its end: what has ended stays ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from life_support import ask

ROUNDS = 25


@pytest.fixture
def network(docker_client: Any, name: str) -> Iterator[Any]:
    made = docker_client.networks.create(name, driver="bridge")
    yield made
    made.remove()  # refused while anything is on it


def _at_once(*works: Callable[[], object]) -> None:
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        barrier.wait(10)
        work()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def _closed(engine: Any, container_id: str) -> bool:
    settings = ask(engine, "GET", f"/containers/{container_id}/json")[1]["NetworkSettings"]
    return not settings["SandboxKey"] and not any(one["EndpointID"] for one in settings["Networks"].values())


@pytest.mark.parametrize("action", ["connect", "disconnect"])
def test_a_network_change_that_meets_the_end_revives_no_sandbox(
    engine: Any, docker_client: Any, make: Any, network: Any, action: str
) -> None:
    container = make("sleep", "300", start=False)
    path, body = f"/networks/{network.id}", {"Container": container.id, "Force": True}
    for _ in range(ROUNDS):
        if action == "disconnect":
            ask(engine, "POST", f"{path}/connect", body)
        container.start()
        _at_once(
            lambda: ask(engine, "POST", f"{path}/{action}", body),
            lambda: ask(engine, "POST", f"/containers/{container.id}/kill"),
        )
        assert container.wait()["StatusCode"] == 137
        assert _closed(engine, container.id)
        network.reload()
        assert network.attrs["Containers"] == {}
        if action == "connect":
            ask(engine, "POST", f"{path}/disconnect", body)
