"""The starter image, which the VM has put by and no registry has."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coved.errors import EngineError
from faulty import Faulty, Image, digest_of, layer
from test_pull import Engine

FILES = layer("www/index.html", b"it works")


def archive(path: Path) -> Path:
    """As the VM's image has it: two images of one layer."""
    members, saved = {"layer.tar": FILES}, []
    for name in ("busybox:latest", "cove/starter:latest"):
        config = json.loads(Image(FILES).config) | {"config": {"Labels": {"name": name}}}
        members[f"{name[:4]}.json"] = json.dumps(config).encode()
        saved.append({"Config": f"{name[:4]}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
    members["manifest.json"] = json.dumps(saved).encode()
    with tarfile.open(path, "w") as output:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            output.addfile(member, io.BytesIO(data))
    return path


def run(root: Path, work: Callable[[Engine], Any]) -> Engine:
    async def main() -> Engine:
        engine = Engine(root)
        await engine.images.start(archive(root / "starter.tar"))
        try:
            async with asyncio.timeout(60):
                await engine.images.ready()
                await work(engine)
        finally:
            await engine.registries.close()
            await engine.images.close()
            engine.database.close()
        return engine

    return asyncio.run(main())


def tags(engine: Engine) -> list[str]:
    return sorted(tag for image in engine.images.list() for tag in image.tags)


def test_the_starter_can_be_had_again(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        for name in ("busybox", "cove/starter"):
            await engine.images.remove(name, force=True)
        assert tags(engine) == []
        await engine.pull("cove/starter:latest")
        assert tags(engine) == ["busybox:latest", "cove/starter:latest"]
        await engine.pull("cove/starter:latest", platform="linux/amd64")

    engine = run(tmp_path, work)
    assert engine.statuses == [
        "Pulling from cove/starter", "Pull complete", "Status: Downloaded newer image for cove/starter:latest",
        "Pulling from cove/starter", "Status: Image is up to date for cove/starter:latest",
    ]  # fmt: skip
    assert engine.messages[0]["id"] == "latest"
    assert engine.messages[1]["id"] == digest_of(FILES).removeprefix("sha256:")[:12]


def test_somebody_elses_busybox_stays(tmp_path: Path, server: Faulty) -> None:
    other = Image(layer("other", b"x"))
    other.serve(server, "other")

    async def work(engine: Engine) -> None:
        await engine.pull(f"{server.host}/other:latest")
        await engine.images.remove("cove/starter", force=True)
        await engine.images.remove("busybox", force=True)
        engine.images.tag(f"{server.host}/other", "busybox")
        await engine.pull("cove/starter:latest")
        assert engine.images.get("busybox").id == digest_of(other.config)
        assert engine.images.get("cove/starter").labels == {"name": "cove/starter:latest"}

    run(tmp_path, work)


def test_an_archive_that_is_lost_is_told_of(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        (tmp_path / "starter.tar").unlink()
        with pytest.raises(EngineError, match=r"starter\.tar cannot be read: No such file or directory"):
            await engine.pull("cove/starter:latest")

    run(tmp_path, work)
