"""Removing a container by force while it is being started: both are answered, and it is gone."""

from __future__ import annotations

import threading
from typing import Any

import docker
import pytest

from life_support import ask

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.mark.parametrize(
    ("command", "host"),
    [
        (["true"], {"AutoRemove": True}),
        (["sleep", "60"], {"AutoRemove": True}),
        (["false"], {"RestartPolicy": {"Name": "always"}}),
        (["true"], {}),
    ],
)
def test_a_forced_removal_meets_the_start(
    engine: Any, docker_client: Any, command: list[str], host: dict[str, Any]
) -> None:
    for _ in range(8):
        status, made = ask(
            engine, "POST", "/containers/create", {"Image": "busybox", "Cmd": command, "HostConfig": host}
        )
        assert status == 201, made
        path = f"/containers/{made['Id']}"
        starting = threading.Thread(target=ask, args=(engine, "POST", f"{path}/start"))
        starting.start()
        status, answer = ask(engine, "DELETE", f"{path}?force=1")
        assert status in (204, 404) or "already in progress" in answer["message"], answer
        starting.join(30)
        assert not starting.is_alive(), "the start was never answered"
        # Whoever came first: now it can be removed, or is gone.
        status, answer = ask(engine, "DELETE", f"{path}?force=1")
        assert status in (204, 404) or "already in progress" in answer["message"], answer
        with pytest.raises(docker.errors.NotFound):
            docker_client.api.wait(made["Id"], condition="removed", timeout=30)
            docker_client.api.inspect_container(made["Id"])
