"""What the tests of containers' isolation share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Make = Callable[..., Any]
"""The fixture ``make``: options of the SDK's ``containers.create``, the command's words first."""


def output(container: Any) -> str:
    assert container.wait(timeout=30)["StatusCode"] == 0, container.logs().decode()
    return str(container.logs().decode())


def refusal(docker_client: Any, host: dict[str, Any], **config: Any) -> tuple[int, str]:
    response = docker_client.api._post_json(
        docker_client.api._url("/containers/create"),
        {"Image": "busybox", "Cmd": ["true"], **config, "HostConfig": host},
    )
    assert response.status_code != 201, response.json()
    return response.status_code, response.json()["message"]
