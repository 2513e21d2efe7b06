"""Killed at any moment of builds, the engine comes back, and has of each build its whole steps, its image, or nothing.

The long form: ``COVE_BUILD_KILLS=300 COVE_BUILD_KILL_SEED=7 pytest tests/engine/test_build_kill.py --native``. The same seed
gives the same schedule of builds and kills, though not the same interleaving.
"""

from __future__ import annotations

import io
import os
import random
import signal
import tarfile
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import docker
import pytest

import build_load
from image_archives import digest
from kill_look import Netns, processes

KILLS = int(os.environ.get("COVE_BUILD_KILLS", "30"))
SEED = int(os.environ.get("COVE_BUILD_KILL_SEED", "1"))

pytestmark = [pytest.mark.root, pytest.mark.timeout(120 + 15 * KILLS)]


def test_killed_builds_leave_nothing(engine_with: Callable[..., Any]) -> None:
    chance = random.Random(SEED)
    contexts = {kind: build_load.context(kind) for kind in build_load.DOCKERFILES}
    with engine_with() as engine:
        netns = Netns(engine.namespace_pid)
        load: build_load.Load | None = None
        wrong: list[str] = []
        try:
            build_load.build(engine, "plain", "before", contexts["plain"])
            for number in range(KILLS):
                if load is None:
                    load = build_load.Load(engine.url, chance, contexts)
                threading.Event().wait(chance.uniform(0.02, 0.7))  # any moment will do
                what = chance.choice(["engine", "engine", "spawner", "both"])
                if what != "engine":
                    _kill_spawner(engine)
                if what == "spawner":
                    continue  # and the next kill finds the load going on
                engine.kill()
                load.stop()
                wrong += load.wrong
                load = None
                engine.start()
                assert build_load.wrong_in(engine, netns) == {}, f"after kill {number}"
            # And once without a kill: builds whose clients go away.
            load = load or build_load.Load(engine.url, chance, contexts)
            threading.Event().wait(1)
            load.stop()
            wrong += load.wrong
            assert build_load.wrong_in(engine, netns) == {}
            _all_succeed(engine, netns, contexts)
        finally:
            if load is not None:
                load.stop()
            netns.close()
    assert wrong == []


def _kill_spawner(engine: Any) -> None:
    for pid, name in processes(engine.state):
        if name == "cove-spawner":
            engine.kill_process(pid)


def _all_succeed(engine: Any, netns: Any, contexts: dict[str, bytes]) -> None:
    with closing(docker.DockerClient(engine.url, timeout=60)) as client:
        for kind, (path, text) in build_load.SAID.items():
            for n in "0123":
                id = build_load.build(engine, kind, n, contexts[kind])
                said = client.containers.run(id, ["cat", path], remove=True, network_mode="none")
                assert said.decode() == text.format(*[n] * text.count("{}")), (kind, n)
        for image in client.images.list():
            _is_whole(image)
        assert build_load.wrong_in(engine, netns) == {}
        told = client.df()["BuildCache"]
        assert told
        assert not any(one["InUse"] for one in told)
        gone = client.api.prune_builds(all=True)
        assert {*gone["CachesDeleted"]} == {one["ID"] for one in told}
        assert client.df()["BuildCache"] == []
        assert build_load.wrong_in(engine, netns) == {}
        for folder in ("snapshots", "cache-mounts", "drafts"):
            assert os.listdir(engine.root / "build" / folder) == [], folder
        for image in client.images.list():
            if image.tags != ["busybox:latest"]:
                client.images.remove(image.id, force=True)
        (busybox,) = client.images.list(all=True)
        assert os.listdir(engine.root / "layers") == [one[7:] for one in busybox.attrs["RootFS"]["Layers"]]


def _is_whole(image: Any) -> None:
    """Its archive has every layer, each what its digest says."""
    with tempfile.TemporaryFile() as file:
        for piece in image.save():
            file.write(piece)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            for layer in image.attrs["RootFS"]["Layers"]:
                member = archive.extractfile(f"blobs/sha256/{layer[7:]}")
                assert member is not None
                assert digest(member.read()) == layer


def test_a_build_outlives_its_spawner(own_engine: Any) -> None:
    """The one whose command runs fails in words; the next is none the wiser."""
    context = build_load.context("long")
    client = docker.APIClient(own_engine.url, timeout=60)
    with closing(client):
        messages = client.build(fileobj=io.BytesIO(context), custom_context=True, decode=True, buildargs={"N": "1"})
        for message in messages:
            if message.get("stream", "").startswith(" ---> Running in"):
                break
        os.kill(next(pid for pid, name in processes(own_engine.state) if name == "cove-spawner"), signal.SIGKILL)
        messages.close()
    build_load.build(own_engine, "plain", "after", build_load.context("plain"))
