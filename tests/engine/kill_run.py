"""One run of the kill test: load, kills at chosen moments, a check after each, and the tally."""

from __future__ import annotations

import random
import statistics
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_check import Checker
from kill_journal import Journal
from kill_load import PATIENCE_S, PORTS, Broken, Client, Gate, Worker
from kill_model import World, told

WORKERS = 5
ANEW = "the list of containers, supervisor or machine killed"
BACK_S = 1.0
"""The engine answers again within this time after its kill."""
BOOT_S = 60.0
IDLE_S = 90.0
"""All requests have their answers by then, or some never will."""


@dataclass
class Tally:
    kills: Counter[str] = field(default_factory=Counter)
    to_ping: list[float] = field(default_factory=list)
    to_list: list[float] = field(default_factory=list)
    all_anew: list[float] = field(default_factory=list)
    """The same after a kill of the supervisor, or of the whole machine."""
    wrong: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    checks: int = 0
    synced: int = 0
    """Volumes whose writers a client has followed when the machine died."""
    memory_kib: int = 0
    peak: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        rows = [(f"kills of {what}", str(count)) for what, count in sorted(self.kills.items())]
        rows.append(("kills", str(sum(self.kills.values()))))
        rows += [(f"requests {phase}", str(count)) for phase, count in sorted(self.lines.items()) if phase != "kill"]
        rows += [(f"most {what} at a check", str(count)) for what, count in self.peak.items()]
        for what, times in (("/_ping", self.to_ping), ("the list of containers", self.to_list), (ANEW, self.all_anew)):
            if times:
                late = sum(one > BACK_S for one in times)
                shown = f"{statistics.median(times):.2f} median, {max(times):.2f} worst, {late} of {len(times)} over {BACK_S:g}"
                rows.append((f"s from kill to {what}", shown))
        if self.synced:
            rows.append(("volumes being written to, at a kill of the machine", str(self.synced)))
        rows.append(("engine's memory at the end, MiB", f"{self.memory_kib / 1024:.0f}"))
        rows.append(("wrong", str(len(self.wrong))))
        return "\n".join([*(f"| {name} | {value} |" for name, value in rows), *self.wrong])


class Aim:
    """Lets the killer strike just after a request has been sent."""

    def __init__(self) -> None:
        self._sent = threading.Event()
        self._wanted: str | None = None

    def sent(self, operation: str) -> None:
        if self._wanted is not None and operation and self._wanted in ("", operation):
            self._sent.set()

    def wait(self, operation: str, timeout_s: float) -> bool:
        self._sent.clear()
        self._wanted = operation
        try:
            return self._sent.wait(timeout_s)
        finally:
            self._wanted = None


class Run:
    """``engine``: an engines.AnyEngine, started; all that is in it goes. ``look``: a kill_look.Netns or VmLook."""

    def __init__(self, engine: Any, look: Any, seed: int, journal: Path, *, first_port: int = 20000) -> None:
        self._engine = engine
        self._seed = seed
        self._random = random.Random(seed)
        self._world = World()
        self._journal = Journal(journal, self._world.apply)
        self._client = Client(str(engine.socket), patience_s=PATIENCE_S * engine.slowness)
        self._gate, self._aim = Gate(), Aim()
        self._look = look
        self._checker = Checker(engine, look)
        self._first_port = first_port
        self._begun = 0.0
        self._died = 0
        self._told: set[str] = set()
        """What is wrong stays so: it is told once."""
        self.tally = Tally(lines=self._journal.counts)

    def run(self, kills: int) -> Tally:
        """Returns when everything is removed again; ``wrong`` of the tally says what was lost or left."""
        before = self._descriptors()
        client = Client(str(self._engine.socket), self._aim.sent, PATIENCE_S * self._engine.slowness)
        workers = [
            Worker(number, self._seed, client, self._journal, self._gate, self._first_port + number * PORTS)
            for number in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        try:
            time.sleep(1.0)
            for number in range(1, kills + 1):
                time.sleep(self._random.uniform(0, 0.4))
                what = self._kill()
                self._settle(workers, number, what)
        finally:
            self._gate.open(ended=True)
            for worker in workers:
                worker.join(IDLE_S)
        self._check("at the end", everything=True)
        self._remove_everything()
        self._check("after everything was removed", everything=True)
        self._all_dies()
        self._check("after everything was removed and one more start", everything=True)
        self._descriptors_left(before)
        self.tally.wrong += self._checker.nothing_left()
        self.tally.memory_kib = self._engine.memory_kib()
        self.tally.checks = self._checker.checked
        return self.tally

    def close(self) -> None:
        self._look.close()
        self._journal.close()

    # -- kills

    def _kill(self) -> str:
        kinds = ("engine", "supervisor", "spawner", "shim", "shim and engine")
        (what,) = self._random.choices(kinds, (46, 6, 12, 27, 9))
        if self._random.random() < 0.5:
            wanted = ["", "start", "start", "create", "stop", "kill", "remove", "exec", "connect", "pause", "rename"]
            wanted += ["image.create", "image.create", "network.create", "network.remove", "image.remove"]
            operation = self._random.choice(wanted)
            if self._aim.wait(operation, 3.0):
                time.sleep(self._random.choice((0, 0.002, 0.01, 0.05)) * self._random.random())
                how = f"{what} within {operation or 'a request'}"
            else:
                how = what
        else:
            how = what
        if what.startswith("shim"):
            shims = [one for one in self._processes() if one[1].startswith("shim:")]
            if shims:
                pid, name = self._random.choice(shims)
                self._end("shim", pid, name.removeprefix("shim:"))
            elif what == "shim":
                what = how = "engine"
        if what == "spawner":
            for pid, name in self._processes():
                if name == "cove-spawner":
                    self._end("spawner", pid, "")
        if what.endswith("engine"):
            self._gate.close()
            self._engine_dies()
            if self._random.random() < 0.15:
                time.sleep(self._random.uniform(0, 0.6))
                self._engine_dies()
                self.tally.kills["engine while it starts"] += 1
            self._back(self.tally.to_ping, self.tally.to_list)
        elif what == "supervisor":
            self._gate.close()
            self._all_dies()
        self.tally.kills[what] += 1
        return how

    def _processes(self) -> list[tuple[int, str]]:
        seen = self._look.look(str(self._engine.root), str(self._engine.state), self._engine.table, [], [])
        return [(pid, name) for pid, name in seen["processes"]]

    def _end(self, what: str, pid: int, subject: str) -> None:
        self._journal.killed(what, subject)
        self._engine.kill_process(pid)

    def _engine_dies(self) -> None:
        """Nothing but the product starts the next one."""
        pid = self._engine.next_pid(self._died)
        self._journal.killed("engine", "")
        self._begun = time.monotonic()
        self._engine.kill_process(pid)
        self._died = pid

    def _all_dies(self) -> None:
        """The supervisor, and the engine with it."""
        self._journal.killed("engine", "")
        self._begun = time.monotonic()
        self._died = self._engine.kill_supervisor()
        self._back([], self.tally.all_anew)

    def _back(self, to_ping: list[float], to_list: list[float]) -> None:
        self._until(self._begun, "/_ping", to_ping)
        self._until(self._begun, "/containers/json?all=1", to_list)

    def _until(self, begun: float, target: str, times: list[float]) -> None:
        while True:
            try:
                status, _ = self._client.ask("GET", target)
                assert status == 200, f"{target} answered {status}"
                times.append(time.monotonic() - begun)
                return
            except Broken:
                assert not self._engine.ended(), f"the engine has ended: {self._engine.log()[-2000:]}"
                assert time.monotonic() - begun < BOOT_S * self._engine.slowness, f"no answer on {target}"
                time.sleep(0.005)

    # -- checks

    def _settle(self, workers: list[Worker], number: int, what: str) -> None:
        if self._gate.is_open:
            time.sleep(self._random.uniform(0, 0.2))
            self._gate.close()
        if not self._gate.empty(IDLE_S * self._engine.slowness):
            self.tally.wrong.append(f"kill {number} ({what}): no answer to {[*self._journal.open.values()]}")
        for worker in workers:
            if worker.failure is not None:
                raise AssertionError(f"kill {number} ({what}): a worker failed") from worker.failure
        self._check(f"kill {number} ({what})")
        self._gate.open()

    def _check(self, when: str, *, everything: bool = False) -> None:
        wrong = [*self._world.problems, *self._checker.check(self._world, everything=everything)]
        self._world.problems.clear()
        for what, count in told(self._world).items():
            self.tally.peak[what] = max(self.tally.peak[what], count)
        self.tally.wrong += [f"{when}: {one}" for one in wrong if one not in self._told]
        self._told |= {*wrong}
        assert len(self.tally.wrong) < 40, "\n".join(self.tally.wrong)

    def _descriptors(self) -> Counter[str]:
        """What supervisor, engine and spawner have open."""
        while len(spawners := [pid for pid, name in self._processes() if name == "cove-spawner"]) != 1:
            time.sleep(0.05)  # it is being started, or has forked one that has no name of its own yet
        pids = (self._engine.supervisor, self._engine.pid, *spawners)
        listing = self._engine.sh("; ".join(f"readlink /proc/{pid}/fd/* || true" for pid in pids))
        return Counter(line.partition(":")[0] for line in listing.splitlines())

    def _descriptors_left(self, before: Counter[str]) -> None:
        deadline = time.monotonic() + 10
        while (now := self._descriptors()).total() > before.total():
            if time.monotonic() > deadline:
                self.tally.wrong.append(f"descriptors are left open: {now - before}")
                return
            time.sleep(0.05)

    # -- the end

    def _remove_everything(self) -> None:
        ask = self._ask_once
        for one in ask("GET", "/containers/json?all=1"):
            name = next((n for n, box in self._world.boxes.items() if box.id == one["Id"]), None)
            if name is None:
                ask("DELETE", f"/containers/{one['Id']}?force=1&v=1")
                continue
            asked = self._journal.asked("remove", name)
            status, value = self._client.json("DELETE", f"/containers/{one['Id']}?force=1&v=1")
            self._journal.answered(asked, status, value)
        for network in ask("GET", "/networks"):
            if network["Name"] not in ("bridge", "host", "none"):
                ask("DELETE", f"/networks/{network['Id']}")
                self._gone(self._world.networks, network["Name"])
        for volume in ask("GET", "/volumes")["Volumes"] or ():
            ask("DELETE", f"/volumes/{volume['Name']}")
            self._gone(self._world.volumes, volume["Name"])
        for image in ask("GET", "/images/json?all=1"):
            ask("DELETE", f"/images/{image['Id']}?force=1")
            for tag in image["RepoTags"] or ():
                self._gone(self._world.images, tag.removesuffix(":latest"))

    @staticmethod
    def _gone(things: dict[str, Any], name: str) -> None:
        if name in things:
            things[name].exists = {False}

    def _ask_once(self, method: str, target: str) -> Any:
        status, value = self._client.json(method, target)
        if status >= 400:
            self.tally.wrong.append(f"{method} {target} answered {status} {value}")
        return value


def machine_load() -> str:
    """For the tally: times mean little on a machine that does other things as well."""
    return subprocess.run(["cat", "/proc/loadavg"], capture_output=True, text=True, check=True).stdout.strip()
