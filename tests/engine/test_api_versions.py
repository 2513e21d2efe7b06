"""Clients of old versions of the API against the running engine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from raw_client import Answer, ask, ask_json

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def path(engine: Any) -> str:
    return str(engine.socket)


@pytest.fixture
def made(path: str) -> Iterator[str]:
    """A running container that a client of 1.24 has made, on a network of its own."""
    name = f"v-{uuid.uuid4().hex[:12]}"
    ask_json(path, "POST", "/networks/create", {"Name": name})
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "600"],
        "StopSignal": "KILL",
        "HostConfig": {"NetworkMode": name, "ConsoleSize": [3, 4], "Annotations": {"a": "b"}},
    }
    answer = ask_json(path, "POST", f"/v1.24/containers/create?name={name}", body)
    assert answer.status == 201, answer
    assert ask(path, "POST", f"/v1.24/containers/{name}/start").status == 204
    yield name
    ask(path, "DELETE", f"/containers/{name}?force=1")
    ask(path, "DELETE", f"/networks/{name}")


def get(path: str, target: str) -> Any:
    answer = ask(path, "GET", target)
    assert answer.status == 200, (target, answer)
    return answer.json()


def test_what_a_client_of_1_24_makes(path: str, made: str) -> None:
    shown = get(path, f"/containers/{made}/json")
    host = shown["HostConfig"]
    assert (host["IpcMode"], host["CgroupnsMode"], host["ConsoleSize"]) == ("shareable", "host", [0, 0])
    assert "Annotations" not in host and "KernelMemory" not in host
    older = get(path, f"/v1.24/containers/{made}/json")
    assert older["HostConfig"]["KernelMemory"] == 0
    assert shown["Id"][:12] in older["NetworkSettings"]["Networks"][made]["Aliases"]


def test_lists_of_networks_told_of_containers_before_1_28(path: str, made: str) -> None:
    def containers(version: str) -> list[str]:
        (network,) = (one for one in get(path, f"/v{version}/networks") if one["Name"] == made)
        return [one["Name"] for one in network["Containers"].values()]

    assert containers("1.27") == [made]
    assert containers("1.28") == []


def test_images(path: str, made: str) -> None:
    def listed(version: str, query: str = "") -> Any:
        (image,) = (one for one in get(path, f"/v{version}/images/json{query}") if "busybox:latest" in one["RepoTags"])
        return image

    assert listed("1.43")["VirtualSize"] == listed("1.43")["Size"] and "VirtualSize" not in listed("1.44")
    assert listed("1.50")["Containers"] == -1 and listed("1.51")["Containers"] >= 1
    assert listed("1.41", "?shared-size=1")["SharedSize"] == -1 and listed("1.42", "?shared-size=1")["SharedSize"] >= 0
    assert get(path, "/v1.40/images/json?filter=none-such") == []
    assert get(path, "/v1.41/images/json?filter=none-such") != []
    assert get(path, "/v1.49/images/busybox/json")["Config"]["Hostname"] == ""
    assert "Hostname" not in get(path, "/v1.50/images/busybox/json")["Config"]
    assert "ContainerConfig" in get(path, "/v1.44/images/busybox/json")


def test_disk_usage(path: str) -> None:
    older, newer = get(path, "/v1.41/system/df?type=volume"), get(path, "/v1.42/system/df?type=volume")
    assert older["Images"] is not None and older["BuilderSize"] == sum(one["Size"] for one in older["BuildCache"] or ())
    assert newer["Images"] is None and "BuilderSize" not in newer


def test_waiting(path: str, made: str) -> None:
    assert ask(path, "POST", f"/v1.30/containers/{made}/wait?condition=x").status == 400
    assert ask(path, "POST", f"/v1.24/containers/{made}/stop?signal=none-such").status == 204
    assert ask(path, "POST", f"/v1.29/containers/{made}/wait?condition=x").json()["StatusCode"] == 137


def test_a_platform(path: str) -> None:
    def create(version: str, platform: str) -> Answer:
        target = f"/v{version}/containers/create?platform={platform}"
        answer = ask_json(path, "POST", target, {"Image": "busybox"})
        if answer.status == 201:
            ask(path, "DELETE", f"/containers/{answer.json()['Id']}")
        return answer

    assert create("1.40", "linux/none").status == create("1.51", "linux").status == 201
    refused = create("1.41", "linux/none")
    assert refused.status == 404
    assert refused.message.startswith(
        "image with reference busybox was found but does not match the specified platform"
    )
    assert create("1.51", "/").status == 400


@pytest.mark.parametrize("version", ["1.25", "1.30", "1.39", "1.41", "1.43", "1.44", "1.49", "1.51"])
def test_the_sdk_at_old_versions(engine: Any, version: str) -> None:
    client = docker.DockerClient(engine.url, version=version)
    try:
        assert client.containers.run("busybox", ["echo", version], remove=True) == f"{version}\n".encode()
        assert client.info()["OSType"] == "linux" and client.df()["LayersSize"] > 0
        assert any("busybox:latest" in image.tags for image in client.images.list("busybox"))
    finally:
        client.close()


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", "/none", 404, "page not found"),
        ("GET", "/v1.40/none", 404, "page not found"),
        ("POST", "/info", 404, "page not found"),
        ("PATCH", "/containers/json", 404, "page not found"),
        ("GET", "/v1.51/containers/x/y/json", 404, "No such container: x/y"),
        ("GET", '/containers/json?filters={"x":["1"]}', 400, "invalid filter 'x'"),
        ("GET", '/images/json?filters={"x":["1"]}', 400, "invalid filter 'x'"),
        ("GET", '/volumes?filters={"x":["1"]}', 400, "invalid filter 'x'"),
        ("GET", '/networks?filters={"x":["1"]}', 400, "invalid filter 'x'"),
        ("GET", "/containers/json?filters=x", 400, "invalid filter"),
        ("GET", '/containers/json?filters={"label":{"a":"x"}}', 400, "invalid filter"),
        ("GET", '/containers/json?filters={"exited":["x"]}', 400,
         "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ("GET", '/networks?filters={"type":["x"]}', 400, "invalid filter: 'type'='x'"),
        ("GET", '/images/json?filters={"until":["x"]}', 400, 'failed to parse value as time or duration: "x"'),
        ("GET", "/containers/json?limit=x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("GET", "/networks/bridge?scope=swarm", 404, "network bridge not found"),
        ("GET", "/networks/bridge?verbose=x", 400,
         'invalid value for verbose: x: strconv.ParseBool: parsing "x": invalid syntax'),
        ("POST", "/images/busybox/tag?repo=x&tag=!!", 400, "invalid tag format"),
        ("POST", "/images/busybox/tag?repo=sha256:abc", 400,
         "refusing to create an ambiguous tag using digest algorithm as name"),
    ],
)  # fmt: skip
def test_what_cannot_be_right(path: str, method: str, target: str, status: int, message: str) -> None:
    answer = ask(path, method, target)
    assert (answer.status, answer.message) == (status, message)


def test_anything_may_be_asked_for_its_options(path: str) -> None:
    answer = ask(path, "OPTIONS", "/none")
    assert (answer.status, answer.body) == (200, b"")


def test_a_start_has_no_body(path: str, made: str) -> None:
    refused = ask_json(path, "POST", f"/containers/{made}/start", {"HostConfig": {}})
    assert refused.status == 400 and "removed in v1.24" in refused.message
