"""The kill test's checker: holds an engine that nobody works on, and what the kernel and the disk hold of it, against the journal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from kill_load import PATIENCE_S, Client, output
from kill_model import Box, Thing, World

SETTLE_S = 10.0
"""For so long things may be under way: containers end by themselves, and policies start them again."""


class Checker:
    """``check`` gives what is wrong, as sentences; nothing when all is as it must be."""

    def __init__(self, engine: Any, look: Any) -> None:
        """``look``: a kill_look.Netns or VmLook."""
        self._engine = engine
        self._client = Client(str(engine.socket), patience_s=PATIENCE_S * engine.slowness)
        self._look = look
        self._said: dict[str, str] = {}
        """What writers have printed."""
        self._seen: dict[str, Any] = {}
        self._wanted: tuple[set[str], set[int]] = set(), set()
        """Files and processes that the last comparison wanted to know of; those that were not looked for are the next time."""
        self._ids: set[str] = set()
        self._records: dict[str, int] = {}
        self.synced: dict[str, int] = {}
        """By container, the number that it had printed when the machine died, as a client has read it."""
        self.checked = 0

    def machine_died(self, synced: dict[str, int]) -> None:
        """Logs need not be on the disk."""
        self._records.clear()
        self.synced = synced

    def check(self, world: World, *, everything: bool = False) -> list[str]:
        """Compares until all agrees; what still does not after ``SETTLE_S`` is wrong."""
        return self._settled(lambda: self._compare(world, everything))

    def agree(self) -> list[str]:
        """The same of what the kernel and the disk hold and what the engine tells, whoever made it."""
        return self._settled(self._agree)

    def _settled(self, compare: Callable[[], list[str]]) -> list[str]:
        deadline = time.monotonic() + SETTLE_S * self._engine.slowness
        while True:
            try:
                wrong = compare()
            except LookupError as error:  # it has just gone; it must not be on the list the next time
                wrong = [str(error)]
            if not wrong or time.monotonic() > deadline:
                return wrong
            time.sleep(self._engine.pause_s)

    def _agree(self) -> list[str]:
        listed = {one["Id"]: one for one in self._get("/containers/json?all=1")}
        self._ids |= {*listed}
        self._seen = self._look.look(str(self._engine.root), str(self._engine.state), self._engine.table, [], [])
        return [*self._kernel(listed), *self._disk(listed, self._get("/images/json?all=1"))]

    def _get(self, target: str) -> Any:
        status, value = self._client.json("GET", target)
        if status == 404:
            raise LookupError(f"GET {target} answered {value}")
        assert status == 200, f"GET {target} answered {status} {value}"
        return value

    def _compare(self, world: World, everything: bool) -> list[str]:
        """Twice when something is wanted of the machine that was not looked for."""
        self.checked += 1
        # Before the records: those of a number that comes later may not be there yet.
        self._said = {box.id: self._log(box.id) for box in world.boxes.values() if box.kind == "writer" and box.id}
        for _ in range(2):
            files, pids = self._wanted
            self._wanted = set(), set()
            self._seen = self._look.look(
                str(self._engine.root), str(self._engine.state), self._engine.table, sorted(files), sorted(pids)
            )
            wrong = self._all(world, everything)
            if self._wanted[0] <= files and self._wanted[1] <= pids:
                break
        return wrong

    def _log(self, id: str) -> str:
        return output(self._client.ask("GET", f"/containers/{id}/logs?stdout=1")[1])

    def _text(self, path: str) -> str | None:
        """Of a file of the engine's."""
        self._wanted[0].add(path)
        text: str | None = self._seen["files"].get(path)
        return text

    def _alive(self, pid: int) -> bool:
        self._wanted[1].add(pid)
        return pid in self._seen["alive"]

    def _all(self, world: World, everything: bool) -> list[str]:
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
        if state["Running"] and status != "restarting" and not self._alive(state["Pid"]):
            yield f"is {status}, and its process {state['Pid']} is not there"
        yield from self._networks_of(box, told)
        for mark in box.marks:
            if self._text(f"containers/{box.id}/upper/{mark}") != f"{mark}\n":
                yield f"has lost its file {mark}"
        if box.port and status == "running":
            yield from self._port(box)
        if box.kind == "writer":
            yield from self._volume(box)
        if box.log_expected and (everything or box.id[0] in "01"):
            said = self._log(box.id)
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
        try:
            if (said := self._look.fetch(f"http://127.0.0.1:{box.port}/").strip()) not in box.names:
                yield f"port {box.port} answers {said!r}"
        except OSError as error:
            yield f"port {box.port} does not answer: {error}"

    def _volume(self, box: Box) -> Iterator[str]:
        """Every record whose number was printed is there, and what was read of the log earlier is still in it."""
        (name,) = box.names
        said = [int(word) for word in self._said.get(box.id, "").split()]
        records = self._text(f"volumes/v-{name}/_data/data") or ""
        count = records.count("\n")
        if records != "".join(f"{number}\n" for number in range(1, count + 1)):
            yield f"the records of its volume are damaged: {records[-100:]!r}"
        if said != sorted(set(said)):
            yield f"its log is damaged: {said[-50:]}"
        if said and said[-1] > count:
            yield f"its volume has {count} records, of {said[-1]} that were synced"
        if count < self.synced.get(box.id, 0):
            yield f"its volume has {count} records, of {self.synced[box.id]} that a client has been told of"
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
                if self._text(f"layers/{layer}/diff/{image.content}") != f"{image.content}\n":
                    yield f"image {name} has lost its file {image.content}"

    # -- what must be true of every engine

    def _kernel(self, listed: dict[str, Any]) -> Iterator[str]:
        running = {id for id, one in listed.items() if one["State"] in ("running", "paused")}
        seen = self._seen
        shims = sorted(name for _, name in seen["processes"] if name.startswith("shim:"))
        yield from _same("shims", {*shims}, {f"shim:{id[:10]}" for id in running})
        if len(shims) != len({*shims}):
            yield f"several shims of one container: {shims}"
        spawners = [pid for pid, name in seen["processes"] if name == "cove-spawner"]
        if len(spawners) != 1:
            yield f"there are {len(spawners)} spawners"
        yield from _same("folders of shims", {*seen["shims"]}, running)
        yield from _same("cgroups", {*seen["cgroups"]} & self._ids, running)
        sandboxes = [one for one in seen["sandboxes"] if one is not None]
        yield from _same("sandboxes", {one["container_id"] for one in sandboxes}, running)
        yield from _same("network namespaces", {*seen["netns"]}, running)
        yield from _same("mounts", {*seen["mounts"]}, {str(self._engine.state / "netns" / id) for id in running})
        links = {*seen["links"]}
        veths = {endpoint["host_interface"] for one in sandboxes for endpoint in one["endpoints"]}
        bridges = {
            network["Options"].get("com.docker.network.bridge.name", f"br-{network['Id'][:12]}")
            for network in self._get("/networks") if network["Driver"] == "bridge"
        }  # fmt: skip
        yield from _same("veths", {link for link in links if link.startswith("veth")}, veths)
        yield from _same("bridges", {link for link in links if not link.startswith("veth")}, bridges)
        yield from _same("bridges in nft", set(re.findall(r'"([^" ]+)" \. ', seen["rules"])), bridges)
        ports = {
            (str(port["host_port"]), str(port.get("guest_port") or "")) for one in sandboxes for port in one["ports"]
        }
        yield from _same("ports in nft", *self._engine.nft_ports(seen["rules"], ports))
        asked = {str(port["PublicPort"]) for id in running for port in listed[id]["Ports"] if port.get("PublicPort")}
        yield from _same("published ports", {host for host, _ in ports}, asked)

    def _disk(self, listed: dict[str, Any], images: list[dict[str, Any]]) -> Iterator[str]:
        folders = {name: {*names} for name, names in self._seen["folders"].items()}
        yield from _same("folders of containers", folders["containers"], {*listed})
        volumes = {volume["Name"] for volume in self._get("/volumes")["Volumes"] or ()}
        yield from _same("folders of volumes", folders["volumes"], volumes)
        layers = {
            layer.removeprefix("sha256:")
            for image in images for layer in self._get(f"/images/{image['Id']}/json")["RootFS"]["Layers"]
        }  # fmt: skip
        yield from _same("layers", folders["layers"], layers)
        blobs = {digest.removeprefix("sha256:") for digest in (*self._seen["blobs"], *(one["Id"] for one in images))}
        yield from _same("blobs", folders["blobs/sha256"], blobs)
        for name in ("trash", "tmp"):
            yield from _same(f"files in {name}", folders[name], set())

    def nothing_left(self) -> list[str]:
        """After everything was removed, what its containers' ids still have anywhere."""
        left = self._get("/containers/json?all=1")
        self._compare(World(), False)
        cgroups = {*self._seen["cgroups"]} & self._ids
        return [f"{len(left)} containers are left"] * bool(left) + [f"cgroups are left: {cgroups}"] * bool(cgroups)


def _same(what: str, found: set[str], expected: set[str]) -> Iterator[str]:
    if found != expected:
        yield f"{what}: too many {sorted(found - expected)}, missing {sorted(expected - found)}"
