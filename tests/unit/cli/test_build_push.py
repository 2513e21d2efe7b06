"""An image goes to its registry after a build, and the progress tells of it as buildx's does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cove.build.solve import BuildFailed
from cove.build.status import Status
from cove.cli.build_push import push
from cove.cli.docker_config import DockerConfig
from told_engine import engine_at, stream

DIGEST = "sha256:" + "a" * 64
PATH = "/images/registry:5000/a/push"


def pushed(folder: Path, messages: list[dict[str, object]]) -> tuple[str, list[Status], str]:
    """(digest, what was told, the authority that was sent); raises `BuildFailed`."""
    auths = {"auths": {"registry:5000": {"auth": "am9lOnNlY3JldA=="}}}
    (folder / "config.json").write_text(json.dumps(auths))
    config = DockerConfig(folder / "config.json", auths)
    told: list[Status] = []
    with engine_at(folder / "engine.sock") as engine:
        engine.answers[("POST", PATH)] = (200, stream(messages))
        digest = asyncio.run(push(engine.path, config, "registry:5000/a:1", told.append))
        (request,) = engine.requests
    assert request.query == {"tag": "1"}
    assert request.auth is not None
    return digest, told, request.auth["username"]


def test_layers_are_parts_of_a_step(tmp_path: Path) -> None:
    messages: list[dict[str, object]] = [
        {"status": "The push refers to repository [registry:5000/a]"},
        {"status": "Preparing", "progressDetail": {}, "id": "one"},
        {"status": "Pushing", "progressDetail": {"current": 512, "total": 1000}, "id": "one"},
        {"status": "Pushed", "progressDetail": {}, "id": "one"},
        {"status": "Layer already exists", "progressDetail": {}, "id": "two"},
        {"status": "Pushing", "progressDetail": {"current": 1, "total": 2}, "id": "three"},
        {"progressDetail": {}, "aux": {"Tag": "1", "Digest": DIGEST, "Size": 7}},
    ]
    digest, told, user = pushed(tmp_path, messages)
    assert (digest, user) == (DIGEST, "joe")
    begun, *parts, done = told
    assert [vertex.name for vertex in begun.vertexes] == ["pushing registry:5000/a:1 with docker"]
    assert begun.vertexes[0].started
    assert not begun.vertexes[0].completed
    every = [part for status in parts for part in status.parts]
    assert [(part.id, part.current, part.total, bool(part.completed)) for part in every] == [
        ("pushing layer one", 512, 1000, False),
        ("pushing layer one", 1000, 1000, True),
        ("pushing layer three", 1, 2, False),
        ("pushing layer three", 1, 2, True),
    ]
    assert done.vertexes[0].completed
    assert not done.vertexes[0].error


def test_a_registry_that_refuses_fails_the_build(tmp_path: Path) -> None:
    told: list[Status] = []
    with engine_at(tmp_path / "engine.sock") as engine:
        refusal = {"errorDetail": {"message": "denied"}, "error": "denied"}
        engine.answers[("POST", PATH)] = (200, stream([{"status": "x"}, refusal]))
        with pytest.raises(BuildFailed) as failed:
            asyncio.run(push(engine.path, DockerConfig(tmp_path / "none", {}), "registry:5000/a:1", told.append))
    assert (str(failed.value), [*failed.value.excerpts]) == ("denied", [])
    assert told[-1].vertexes[0].error == "denied"
