"""The kill test's checker: holds an engine that nobody works on, and what the kernel and the disk hold of it, against the journal."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from coved.networks.nftables import Nftables
from coved.networks.rtnetlink import Netlink
from coved.runtime.cgroups import mount_point

from kill_load import Client, output
from kill_model import Box, Thing, World

T = TypeVar("T")

SETTLE_S = 10.0
"""For so long things may be under way: containers end by themselves, and policies start them again."""
_CLONE_NEWNET = 0x40000000


class Netns:
    """A thread that lives in the engine's network namespace."""

    def __init__(self, pid: int) -> None:
        self._thread = ThreadPoolExecutor(1, "netns")
        self._thread.submit(_enter, f"/proc/{pid}/ns/net").result()
        self._nft = self._thread.submit(Nftables).result()

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return self._thread.submit(function, *arguments).result(30)

    def links(self) -> set[str]:
        def read() -> set[str]:
            with contextlib.closing(Netlink()) as netlink:
                return {link.name for link in netlink.links()}

        return self.run(read)

    def table(self, name: str) -> str:
        return self.run(self._nft.run, f"list table ip {name}")

    def close(self) -> None:
        self._thread.submit(self._nft.close)
        self._thread.shutdown()


def _enter(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


def processes(folder: Path) -> Iterator[tuple[int, str]]:
    """Pids and names of shims and spawners of the engine in ``folder``: their command line is the spawner's."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                if f"{folder}/".encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                    name = Path(f"/proc/{entry}/comm").read_text().strip()
                    if name.startswith(("shim:", "cove-spawner")):
                        yield int(entry), name


class Checker:
    """``check`` gives what is wrong, as sentences; nothing when all is as it must be."""

    def __init__(self, engine: Any, namespace_pid: int) -> None:
        self._engine = engine
        self._client = Client(str(engine.socket))
        self._netns = Netns(namespace_pid)
        self._state = engine.folder / "run"
        self._table = f"cove-{hashlib.sha256(str(self._state.resolve()).encode()).hexdigest()[:8]}"
        self._ids: set[str] = set()
        self._records: dict[str, int] = {}
        self.checked = 0

    def close(self) -> None:
        self._netns.close()

    def check(self, world: World, *, everything: bool = False) -> list[str]:
        """Compares until all agrees; what still does not after ``SETTLE_S`` is wrong."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            try:
                wrong = self._compare(world, everything)
            except LookupError as error:  # it has just gone; it must not be on the list the next time
                wrong = [str(error)]
            if not wrong or time.monotonic() > deadline:
                return wrong
            time.sleep(0.05)

    def _get(self, target: str) -> Any:
        status, value = self._client.json("GET", target)
        if status == 404:
            raise LookupError(f"GET {target} answered {value}")
        assert status == 200, f"GET {target} answered {status} {value}"
        return value

    def _compare(self, world: World, everything: bool) -> list[str]:
        self.checked += 1
        listed = {one["Id"]: one for one in self._get("/containers/json?all=1")}
        self._ids |= {*listed}
        wrong = []
        claimed: set[str] = set()
        for name, box in world.boxes.items():
            if box.exists == {False} and not box.id:
                continue
            wrong += [f"container {name} ({box.id[:10]}): {one}" for one in self._box(box, listed, everything)]
            claimed.add(box.id)
        wrong += [f"container {one} is of nobody's making" for one in {*listed} - claimed]
        wrong += self._things("network", world.networks, {n["Name"]: n["Id"] for n in self._get("/networks")})
        wrong += self._things(
            "volume", world.volumes, {v["Name"]: v["Name"] for v in self._get("/volumes")["Volumes"] or ()}
        )
        images = self._get("/images/json?all=1")
        names = {tag.removesuffix(":latest"): image["Id"] for image in images for tag in image["RepoTags"] or ()}
        wrong += self._things("image", world.images, names)
        wrong += self._contents(world.images, names)
        return [*wrong, *self._kernel(listed), *self._disk(listed, images)]

    # -- what the journal says

    def _box(self, box: Box, listed: dict[str, Any], everything: bool) -> Iterator[str]:
        if not box.id:  # its creation had no answer
            found = [id for id, one in listed.items() if one["Names"][0].removeprefix("/") in box.names]
            if not found:
                box.exists = {False}
                return
            box.id = found[0]
        there = box.id in listed
        if there not in box.exists:
            yield "LOST" if not there else "has been removed, and is there again"
        if not there:
            box.exists = {False}
            return
        if not box.auto_remove:
            box.exists = {True}
        told = self._get(f"/containers/{box.id}/json")
        state, name = told["State"], told["Name"].removeprefix("/")
        if name not in box.names:
            yield f"is called {name}, and not {box.names}"
        box.names = {name}
        status = state["Status"]
        if status not in box.status:
            yield f"is {status} ({state['ExitCode']}), and not {box.status}; error {state['Error']!r}"
        if status == "exited":
            if state["ExitCode"] not in box.codes:
                yield f"has the exit status {state['ExitCode']}, and not {box.codes}"
            if box.auto_remove:
                yield "has ended, and is not removed"
            if not box.restarts and status in box.status and state["ExitCode"] in box.codes:
                box.status, box.codes = {"exited"}, {state["ExitCode"]}
        elif box.kind == "long" and status in box.status:
            box.status = {status}
        if state["Running"] and status != "restarting" and not Path(f"/proc/{state['Pid']}").exists():
            yield f"is {status}, and its process {state['Pid']} is not there"
        yield from self._networks_of(box, told)
        for mark in box.marks:
            path = self._engine.root / "containers" / box.id / "upper" / mark
            if not path.exists() or path.read_text() != f"{mark}\n":
                yield f"has lost its file {mark}"
        if box.port and status == "running":
            yield from self._port(box)
        if box.kind == "writer":
            yield from self._volume(box)
        if box.log_expected and (everything or box.id[0] in "01"):
            said = output(self._client.ask("GET", f"/containers/{box.id}/logs?stdout=1")[1])
            if box.code and "said-" not in said:
                yield f"has lost its log: {said!r}"

    def _networks_of(self, box: Box, told: dict[str, Any]) -> Iterator[str]:
        there = {*told["NetworkSettings"]["Networks"]} - {"bridge", "none"}
        for network, may in box.networks.items():
            if (network in there) not in may:
                yield f"is on {there}, and {network} must be {may}"
            box.networks[network] = {network in there}
        if more := there - {*box.networks}:
            yield f"is on {more}, which nobody asked for"

    def _port(self, box: Box) -> Iterator[str]:
        def get() -> str:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{box.port}/", timeout=3) as answer:
                return str(answer.read().decode())

        try:
            if (said := self._netns.run(get).strip()) not in box.names:
                yield f"port {box.port} answers {said!r}"
        except OSError as error:
            yield f"port {box.port} does not answer: {error}"

    def _volume(self, box: Box) -> Iterator[str]:
        """Every record whose number was printed is there, and what was read of the log earlier is still in it."""
        (name,) = box.names
        said = [int(word) for word in output(self._client.ask("GET", f"/containers/{box.id}/logs?stdout=1")[1]).split()]
        path = self._engine.root / "volumes" / f"v-{name}" / "_data" / "data"
        records = path.read_text() if path.exists() else ""
        count = records.count("\n")
        if records != "".join(f"{number}\n" for number in range(1, count + 1)):
            yield f"the records of its volume are damaged: {records[-100:]!r}"
        if said != sorted(set(said)):
            yield f"its log is damaged: {said[-50:]}"
        if said and said[-1] > count:
            yield f"its volume has {count} records, of {said[-1]} that were synced"
        if len(said) < self._records.get(box.id, 0):
            yield f"its log has {len(said)} lines, and had {self._records[box.id]}"
        self._records[box.id] = len(said)

    @staticmethod
    def _things(what: str, expected: dict[str, Thing], found: dict[str, str]) -> Iterator[str]:
        for name, thing in expected.items():
            there = name in found
            if there not in thing.exists:
                yield f"{what} {name}: " + ("has been removed, and is there again" if there else "LOST")
            elif there and thing.id and found[name] != thing.id:
                yield f"{what} {name} is {found[name]}, and was {thing.id}"
            thing.exists = {there}

    def _contents(self, images: dict[str, Thing], names: dict[str, str]) -> Iterator[str]:
        for name, image in images.items():
            if name in names:
                layer = self._get(f"/images/{name}/json")["RootFS"]["Layers"][-1].removeprefix("sha256:")
                path = self._engine.root / "layers" / layer / "diff" / image.content
                if not path.exists() or path.read_text() != f"{image.content}\n":
                    yield f"image {name} has lost its file {image.content}"

    # -- what must be true of every engine

    def _kernel(self, listed: dict[str, Any]) -> Iterator[str]:
        running = {id for id, one in listed.items() if one["State"] in ("running", "paused")}
        shims = sorted(name for _, name in processes(self._engine.folder) if name.startswith("shim:"))
        yield from _same("shims", {*shims}, {f"shim:{id[:10]}" for id in running})
        if len(shims) != len({*shims}):
            yield f"several shims of one container: {shims}"
        spawners = [pid for pid, name in processes(self._engine.folder) if name == "cove-spawner"]
        if len(spawners) != 1:
            yield f"there are {len(spawners)} spawners"
        yield from _same("folders of shims", _names(self._state / "shims"), running)
        cgroups = _names(Path(mount_point()) / "cove")
        yield from _same("cgroups", cgroups & self._ids, running)
        sandboxes = [json.loads(path.read_text()) for path in (self._state / "sandboxes").iterdir()]
        yield from _same("sandboxes", {one["container_id"] for one in sandboxes}, running)
        yield from _same("network namespaces", _names(self._state / "netns"), running)
        mounts = {
            fields[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if (fields := line.split())[4].startswith(f"{self._engine.folder}/")
        }  # fmt: skip
        yield from _same("mounts", mounts, {str(self._state / "netns" / id) for id in running})
        links = self._netns.links()
        veths = {endpoint["host_interface"] for one in sandboxes for endpoint in one["endpoints"]}
        bridges = {
            network["Options"].get("com.docker.network.bridge.name", f"br-{network['Id'][:12]}")
            for network in self._get("/networks") if network["Driver"] == "bridge"
        }  # fmt: skip
        yield from _same("veths", {link for link in links if link.startswith("veth")}, veths)
        yield from _same("bridges", links - {link for link in links if link.startswith("veth")} - {"lo"}, bridges)
        table = self._netns.table(self._table)
        yield from _same("bridges in nft", set(re.findall(r'"([^" ]+)" \. ', table)), bridges)
        ports = {str(port["host_port"]) for one in sandboxes for port in one["ports"]}
        yield from _same("ports in nft", set(re.findall(r"tcp \. 127\.0\.0\.1 \. (\d+) :", table)), ports)
        asked = {str(port["PublicPort"]) for id in running for port in listed[id]["Ports"] if port.get("PublicPort")}
        yield from _same("published ports", ports, asked)

    def _disk(self, listed: dict[str, Any], images: list[dict[str, Any]]) -> Iterator[str]:
        root = self._engine.root
        yield from _same("folders of containers", _names(root / "containers"), {*listed})
        volumes = {volume["Name"] for volume in self._get("/volumes")["Volumes"] or ()}
        yield from _same("folders of volumes", _names(root / "volumes"), volumes)
        layers = {
            layer.removeprefix("sha256:")
            for image in images for layer in self._get(f"/images/{image['Id']}/json")["RootFS"]["Layers"]
        }  # fmt: skip
        yield from _same("layers", _names(root / "layers"), layers)
        with contextlib.closing(sqlite3.connect(root / "metadata.db")) as database:
            recorded = {row[0] for row in database.execute("SELECT digest FROM layer_blobs")}
            recorded |= {row[0] for row in database.execute("SELECT digest FROM image_manifests")}
        blobs = {digest.removeprefix("sha256:") for digest in (*recorded, *(one["Id"] for one in images))}
        yield from _same("blobs", _names(root / "blobs" / "sha256"), blobs)
        for name in ("trash", "tmp"):
            yield from _same(f"files in {name}", _names(root / name), set())

    def nothing_left(self) -> list[str]:
        """After everything was removed, what its containers' ids still have anywhere."""
        left = self._get("/containers/json?all=1")
        cgroups = _names(Path(mount_point()) / "cove") & self._ids
        return [f"{len(left)} containers are left"] * bool(left) + [f"cgroups are left: {cgroups}"] * bool(cgroups)


def _names(folder: Path) -> set[str]:
    return {*os.listdir(folder)} if folder.exists() else set()


def _same(what: str, found: set[str], expected: set[str]) -> Iterator[str]:
    if found != expected:
        yield f"{what}: too many {sorted(found - expected)}, missing {sorted(expected - found)}"
