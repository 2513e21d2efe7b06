"""Changes of a container's networks that meet its end: what has ended stays ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from life_support import ask

pytestmark = pytest.mark.native

ROUNDS = 25


@pytest.fixture
def network(docker_client: Any, name: str) -> Iterator[Any]:
    made = docker_client.networks.create(name, driver="bridge")
    yield made
    made.remove()  # refused while anything is on it


def _at_once(*works: Callable[[], tuple[int, Any]]) -> list[tuple[int, Any]]:
    """What they were answered."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], tuple[int, Any]]) -> tuple[int, Any]:
        barrier.wait(10)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return [one.result(60) for one in [threads.submit(run, work) for work in works]]


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
            assert ask(engine, "POST", f"{path}/connect", body)[0] == 200
        container.start()
        changed, killed = _at_once(
            lambda: ask(engine, "POST", f"{path}/{action}", body),
            lambda: ask(engine, "POST", f"/containers/{container.id}/kill"),
        )
        assert changed[0] == 200, (
            changed
        )  # whichever was first: the network is one that it is to have from then on, or is not
        assert killed[0] == 204, killed
        assert container.wait()["StatusCode"] == 137
        assert _closed(engine, container.id)
        network.reload()
        assert network.attrs["Containers"] == {}
        if action == "connect":
            assert ask(engine, "POST", f"{path}/disconnect", body)[0] == 200
