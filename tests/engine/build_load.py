"""Builds for the tests that end engines in the middle of them, and what must be true of an engine's builds at any time."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import sqlite3
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from coved.runtime.cgroups import mount_point

from kill_look import processes

DOCKERFILES = {
    "plain": """\
FROM busybox
ARG N
COPY dir/ /dir/
RUN echo $N > /n; i=0; while [ $i -lt 300 ]; do echo $i > /dir/made-$i; i=$((i+1)); done
WORKDIR /deep/er
ADD inner.tar ./
RUN cat /n inner > both; rm /dir/made-7
""",
    "stages": """\
FROM busybox AS one
ARG N
RUN echo one-$N > /one; sleep 0.1
FROM busybox AS two
ARG N
RUN --mount=type=cache,target=/cache echo two-$N > /two; echo $N >> /cache/all; sleep 0.1
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
RUN cat /one /two > /three
""",
    "failing": """\
FROM busybox
ARG N
COPY dir/ /dir/
RUN echo $N > /n; (sleep 60 &) ; sleep 0.05
RUN cat /n; exit 3
""",
    "long": """\
FROM busybox
ARG N
COPY dir/ /dir/
RUN echo $N; while :; do cat /dir/* > /all; done
""",
}
SETTLE_S = 10.0
GONE = (requests.RequestException, urllib3.exceptions.HTTPError, docker.errors.DockerException, OSError)
SAID = {"plain": ("/deep/er/both", "{}\ninner\n"), "stages": ("/three", "one-{}\ntwo-{}\n")}
"""By Dockerfile, a file of its image, and what is in it."""


def context(kind: str) -> bytes:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        _add(archive, "inner", b"inner\n")
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        _add(archive, "Dockerfile", DOCKERFILES[kind].encode())
        _add(archive, "inner.tar", inner.getvalue())
        for number in range(20):
            _add(archive, f"dir/{number}", bytes([number]) * 50_000)
    return output.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


class Load:
    """Clients that build, one after the other, until they are told to stop or have nobody to talk to."""

    def __init__(self, url: str, chance: random.Random, contexts: dict[str, bytes]) -> None:
        self._url, self._contexts = url, contexts
        self._over = threading.Event()
        self.wrong: list[str] = []
        seeds = [chance.random() for _ in range(3)]
        self._threads = [threading.Thread(target=self._work, args=(random.Random(seed),)) for seed in seeds]
        for thread in self._threads:
            thread.start()

    def _work(self, chance: random.Random) -> None:
        # The engine is killed: anything may happen to a client then.
        with contextlib.suppress(*GONE), closing(docker.APIClient(self._url, timeout=60)) as client:
            while not self._over.is_set():
                kind = chance.choice([*DOCKERFILES])
                n = str(chance.randrange(4))
                patience = (
                    chance.randrange(1, 9 if kind == "long" else 12)
                    if kind == "long" or chance.random() < 0.3
                    else 1000
                )
                self._build(client, kind, n, patience)

    def _build(self, client: Any, kind: str, n: str, patience: int) -> None:
        """``patience``: messages after which the client goes away."""
        messages = client.build(
            fileobj=io.BytesIO(self._contexts[kind]), custom_context=True, decode=True, tag=f"load/{kind}:{n}",
            buildargs={"N": n},
        )  # fmt: skip
        last: dict[str, Any] = {}
        for number, last in enumerate(messages):  # noqa: B007
            if number >= patience or self._over.is_set():
                messages.close()
                return
        succeeded = str(last.get("stream", "")).startswith("Successfully tagged ")
        if not ("error" in last or (succeeded and kind != "failing")):
            self.wrong.append(f"{kind} ended with {last}")

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def build(engine: Any, kind: str, n: str, context: bytes) -> str:
    """The id of the image."""
    client = docker.APIClient(engine.url, timeout=60)
    with closing(client):
        messages = [
            *client.build(
                fileobj=io.BytesIO(context),
                custom_context=True,
                decode=True,
                tag=f"load/{kind}:{n}",
                buildargs={"N": n},
            )
        ]
    assert "error" not in messages[-1], messages[-1]
    return next(str(one["aux"]["ID"]) for one in messages if "aux" in one)


def left(engine: Any, netns: Any) -> dict[str, Any]:
    """What an engine that builds nothing and has no container still has of builds, by what it is; all must be empty.
    ``netns``: a kill_look.Netns. Cgroups may be those of other engines of this computer, which are about to go."""
    root, state = Path(engine.root), Path(engine.state)
    seen = netns.look(str(root), str(state), engine.table, [], [])
    with closing(sqlite3.connect(f"file:{root}/metadata.db?mode=ro", uri=True)) as database:
        snapshots = {*database.execute("SELECT id, diff_id FROM build_snapshots")}
        steps = {row[0] for row in database.execute("SELECT ref FROM build_steps WHERE ref != ''")}
    files = {id for id, diff_id in snapshots if not diff_id}
    # A link stands for what has turned out to be a layer that was there already.
    there = {path.name for path in (root / "build/snapshots").iterdir() if not path.is_symlink()}
    with closing(docker.DockerClient(engine.url, timeout=60)) as client:
        images = client.images.list(all=True)
    layers = {layer[7:] for image in images for layer in image.attrs["RootFS"]["Layers"]}
    layers |= {diff_id[7:] for _, diff_id in snapshots if diff_id}
    return {
        "drafts": os.listdir(root / "build/drafts"),
        "mounts": seen["mounts"],
        "cgroups": [name for name in seen["cgroups"] if name.startswith("build-") and _is_empty(name)],
        "network namespaces": seen["netns"],
        "sandboxes": seen["sandboxes"],
        "shims": seen["shims"],
        "processes": [*_inside(root)] + [one for one in processes(state) if one[1] != "cove-spawner"],
        "veths": [link for link in seen["links"] if link.startswith("veth")],
        "rules": re.findall(r"build-\w+|veth\w+", seen["rules"]),
        "files of no snapshot": [*there - files],
        "snapshots without files": [*files - there],
        "snapshots of no step": [*{id for id, _ in snapshots} - steps],
        "steps without snapshots": [*steps - {id for id, _ in snapshots}],
        "layers of nobody": [*{*seen["folders"]["layers"]} - layers],
        "layers without files": [*layers - {*seen["folders"]["layers"]}],
        "temporary files": seen["folders"]["tmp"] + seen["folders"]["trash"],
    }


def _is_empty(cgroup: str) -> bool:
    with contextlib.suppress(OSError):
        return "populated 0" in Path(f"{mount_point()}/cove/{cgroup}/cgroup.events").read_text()
    return False


def _inside(root: Path) -> Iterator[tuple[int, str]]:
    """Processes that have something of the engine's disk mounted."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{root}/".encode() in (path / "mountinfo").read_bytes():
                yield int(path.name), (path / "comm").read_text().strip()


def wrong_in(engine: Any, netns: Any) -> dict[str, Any]:
    """What is left still after what is under way has had its time."""
    stuck: set[str] | None = None
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = left(engine, netns)
        stuck = {*found["cgroups"]} if stuck is None else stuck & {*found["cgroups"]}
        found["cgroups"] = sorted(stuck)
        wrong = {what: one for what, one in found.items() if one}
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(0.05)
