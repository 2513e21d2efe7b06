"""Killed at any moment of a load, a removal or a save, the engine has each image whole or not at all, and nothing beside it."""

import os
import random
import sqlite3
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest

from image_archives import digest, docker_archive, special, tar

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

KILLS = int(os.environ.get("COVE_IMAGE_KILLS", "12"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Three images of several layers, of which the lowest is everyone's."""
    folder = tmp_path_factory.mktemp("archives")
    shared = tar([("shared", special(tarfile.DIRTYPE)), ("shared/file", os.urandom(2 << 20))])
    paths = []
    for number in range(3):
        layers = [shared, *(tar([(f"own{part}", os.urandom(1 << 20))]) for part in range(3))]
        path = folder / f"{number}.tar"
        path.write_bytes(docker_archive(layers, [f"killed/{number}:latest"]))
        paths.append(path)
    yield paths


def check(engine: Any) -> None:
    """Rows and files agree, and all that an image needs is there."""
    root = engine.root
    client = docker.DockerClient(engine.url, timeout=60)
    try:
        images = client.images.list(all=True)
    finally:
        client.close()
    with closing(sqlite3.connect(root / "metadata.db")) as database:
        blobs = {row[0][7:] for row in database.execute("SELECT digest FROM layer_blobs")}
        blobs |= {row[0][7:] for row in database.execute("SELECT digest FROM image_manifests")}
    assert {*os.listdir(root / "blobs/sha256")} == blobs | {image.id[7:] for image in images}
    layers = {layer[7:] for image in images for layer in image.attrs["RootFS"]["Layers"]}
    assert {*os.listdir(root / "layers")} == layers
    assert not os.path.exists(root / "tmp") or os.listdir(root / "tmp") == []
    for name in layers:
        assert digest((root / "blobs/sha256" / name).read_bytes())[7:] == name  # they came plain
        for folder, _, files in os.walk(root / "layers" / name / "diff"):
            assert all(os.path.getsize(f"{folder}/{file}") for file in files)


def test_a_kill_leaves_images_whole_or_not_at_all(engine_with: Any, archives: list[Path]) -> None:
    chance = random.Random(7)
    with engine_with() as engine:
        environment = {**os.environ, "DOCKER_HOST": engine.url}
        for _ in range(KILLS):
            number = chance.randrange(3)
            commands = chance.sample(
                [
                    ["load", "-i", str(archives[number])],
                    ["load", "-i", str(archives[(number + 1) % 3])],
                    ["rmi", "-f", f"killed/{number}"],
                    ["save", "-o", os.devnull, f"killed/{(number + 1) % 3}"],
                    ["image", "prune", "-af"],
                ],
                3,
            )
            clients = [
                subprocess.Popen(
                    ["docker", *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                for words in commands
            ]
            threading.Event().wait(chance.uniform(0.02, 0.6))  # any moment will do
            engine.kill()
            for client in clients:
                client.kill()
                client.wait()
            engine.start()
            check(engine)
        for number, archive in enumerate(archives):
            subprocess.run(["docker", "load", "-qi", archive], env=environment, check=True, timeout=60)
            saved = subprocess.run(
                ["docker", "save", f"killed/{number}"], env=environment, check=True, capture_output=True, timeout=60
            )
            assert len(saved.stdout) > 5 << 20
        check(engine)
