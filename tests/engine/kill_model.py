"""What must be true of an engine, by a journal of what it has acknowledged: for every container the states it may be in.

Containers have programs that are known: ``short`` ends by itself with a known status, ``long`` runs until it is ended,
``flapper`` fails again and again under a restart policy that gives up, ``lasting`` is restarted whatever happens to it,
``writer`` is a lasting one that writes records to a volume. What may only be seen on the way (restarting) is allowed as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kill_journal import Line

KILLED, UNKNOWN, NOT_STARTED = 137, 255, 128
DISTURBED_S = 5.0
"""A start may fail for so long after a spawner or a shim was killed."""
NOTICED_S = 1.0
"""So long may it take until the engine knows that a shim was killed."""
SETTLED_S = 1.5
"""The machine's death ends what runs without a restart policy in any case: that it was started is on the disk only so long
after the answer (coved.store.settling: 0.1 s and a sync, in a machine that is busy)."""
RUNS = {"running", "paused", "restarting"}


@dataclass
class Box:
    """A container. The sets hold what may be; ``kind`` says what it does when it is started."""

    kind: str
    code: int
    names: set[str]
    port: int = 0
    auto_remove: bool = False
    id: str = ""
    exists: set[bool] = field(default_factory=lambda: {True, False})
    status: set[str] = field(default_factory=lambda: {"created"})
    codes: set[int] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)
    networks: dict[str, set[bool]] = field(default_factory=dict)
    log_expected: bool = False
    """It has ended by itself, and its shim lived: what it said is in its log."""
    shim_killed_at: int = 0
    """Number of the line."""
    shim_killed_time: float = -1000.0
    in_flight: str = ""
    started_at: float = -1000.0
    before_start: tuple[set[str], set[int]] = field(default_factory=lambda: ({"created"}, set()))

    @property
    def restarts(self) -> bool:
        return self.kind in ("flapper", "lasting", "writer")

    def started(self, at: float) -> None:
        """A start has succeeded, and was answered then."""
        self.started_at, self.before_start = at, (self.status, self.codes)
        self.status = {
            "short": {"running", "exited"},
            "long": {"running"},
            "flapper": {"running", "restarting", "exited"},
        }.get(self.kind, {"running"})
        self.codes = {self.code}
        if self.auto_remove:
            self.exists.add(False)

    def machine_died(self, at: float, *, surely: bool) -> None:
        """The whole machine, and has booted again: only what is on the disk is left. ``surely``: while this ran, if it ran."""
        self.log_expected = False
        alive = bool(self.status & RUNS or self.in_flight)
        before = set() if surely and not self.in_flight else set(self.status)
        if alive and self.kind in ("lasting", "writer"):
            self.status = (self.status - {"paused"}) | before | {"running", "restarting"}
            if self.in_flight in ("stop", "kill", "remove"):  # which was noted, and is why it is not started again
                self.codes |= {UNKNOWN}
        elif alive and self.kind == "flapper":
            self.status |= {"running", "restarting", "exited"}
            self.codes |= {UNKNOWN}
        elif alive:
            self.status = (self.status - RUNS) | before | {"exited"}
            self.codes |= {UNKNOWN}
            if at - self.started_at < SETTLED_S:
                status, codes = self.before_start
                self.status, self.codes = self.status | status, self.codes | codes
        if self.auto_remove:
            self.exists.add(False)

    def shim_died(self) -> None:
        self.codes |= {KILLED, UNKNOWN}
        if self.kind in ("lasting", "writer"):
            if self.status & RUNS or self.in_flight:
                self.status = (self.status - {"paused"}) | {"running", "restarting"}
        elif self.status & RUNS or self.in_flight:
            self.status.add("exited")
            if not self.in_flight and not self.restarts:
                self.status -= RUNS
        if self.auto_remove:
            self.exists.add(False)


@dataclass
class Thing:
    """A network, a volume or an image."""

    exists: set[bool] = field(default_factory=lambda: {True, False})
    id: str = ""
    content: str = ""


class World:
    """Follows the journal; ``problems`` collects what an answer already proves wrong."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.networks: dict[str, Thing] = {}
        self.volumes: dict[str, Thing] = {}
        self.images: dict[str, Thing] = {}
        self.problems: list[str] = []
        self.last_disturbance = (0, -DISTURBED_S)
        self._asked: dict[int, Line] = {}
        self._engine_died_at = 0
        """Number of the line."""
        self._down = False
        self._back_at = 0
        """Number of the line after which the machine was there again."""

    def apply(self, line: Line) -> None:
        if line.phase == "kill":
            self._killed(line)
            return
        things = {"network": self.networks, "volume": self.volumes, "image": self.images}
        family, _, verb = line.operation.rpartition(".")
        if line.phase == "asked":
            self._asked[line.number] = line
            if line.operation == "create":
                self.boxes[line.subject] = Box(names={line.subject}, **line.arguments)
            elif verb == "create":
                things[family].setdefault(line.subject, Thing(content=line.arguments.get("content", "")))
            if line.subject in self.boxes:
                self.boxes[line.subject].in_flight = line.operation
            return
        asked = self._asked.pop(line.of)
        while_down = self._down or asked.number < self._back_at
        if family:
            self._about_thing(things[family][line.subject], verb, asked, line)
        else:
            box = self.boxes[line.subject]
            box.in_flight = ""
            if line.phase == "broken":
                _Broken.apply(box, line)
            else:
                self._answered(box, asked, line)
            if while_down:
                box.machine_died(line.at, surely=False)

    def _killed(self, line: Line) -> None:
        if line.operation in ("engine", "machine"):
            self._engine_died_at = line.number
        if line.operation == "machine":
            self._down = True
            for box in self.boxes.values():
                box.machine_died(line.at, surely=True)
        if line.operation == "machine is back":
            self._down, self._back_at = False, line.number
        if line.operation == "shim":
            for box in self.boxes.values():
                if box.id.startswith(line.subject) and box.id:
                    box.shim_killed_at, box.shim_killed_time = line.number, line.at
                    box.shim_died()
        if line.operation in ("shim", "spawner", "machine", "machine is back"):
            self.last_disturbance = (line.number, line.at)

    def _about_thing(self, thing: Thing, verb: str, asked: Line, line: Line) -> None:
        if line.phase == "broken":
            thing.exists |= {True, False}
        elif verb == "create" and line.status in (200, 201):
            thing.exists, thing.id = {True}, line.value or ""
        elif verb == "remove" and line.status in (200, 204):
            thing.exists = {False}
        elif self._disturbed(asked, line):
            thing.exists |= {True, False}
        elif line.status == 404:
            if False not in thing.exists:
                self._problem(line)
            thing.exists = {False} if verb == "remove" else thing.exists
        elif not (verb == "remove" and line.status in (403, 409)):  # in use
            self._problem(line)

    def _answered(self, box: Box, asked: Line, line: Line) -> None:
        if line.status == 404 and False in box.exists:
            return
        network = self.networks.get(line.arguments.get("network", ""))
        if line.status == 404 and network and False in network.exists and line.value.startswith("network "):
            return
        if line.operation == "exec" and line.status == 404 and self._engine_died_at > asked.number:
            return  # the next engine knows nothing of an exec that was made and not started
        shim_died = box.shim_killed_at > asked.number
        handler = getattr(_Answered, line.operation)
        if not handler(box, line, shim_died) and not self._disturbed(asked, line):
            self._problem(line, box)
        elif line.status >= 400 and line.operation == "start":
            box.status |= {"created", "exited"}
            box.codes |= {NOT_STARTED, 126, 127, KILLED}
            if box.auto_remove:
                box.exists.add(False)
        elif line.status >= 400 and self._disturbed(asked, line):
            _Broken.apply(box, line)
        if shim_died:
            box.shim_died()

    def _disturbed(self, asked: Line, line: Line) -> bool:
        number, at = self.last_disturbance
        return line.status in (400, 409, 500) and (number > asked.number or line.at - at < DISTURBED_S)

    def _problem(self, line: Line, box: Box | None = None) -> None:
        self.problems.append(
            f"line {line.number}: {line.operation} {line.subject} {line.arguments} answered {line.status} {line.value!r}; "
            f"expected of it: {box}"
        )


class _Broken:
    """The effect of a request that may or may not have been done."""

    @staticmethod
    def apply(box: Box, line: Line) -> None:
        operation, arguments = line.operation, line.arguments
        if operation == "start":
            before, codes = box.status, box.codes
            box.started(line.at)
            box.status, box.codes = box.status | before, box.codes | codes
        elif operation in ("stop", "kill"):
            box.codes |= {KILLED}
            box.status = box.status | {"exited"} | ({"running"} if "paused" in box.status else set())
        elif operation == "remove":
            box.exists.add(False)
            if box.status & RUNS:
                box.status = box.status | {"exited"} | ({"running"} if "paused" in box.status else set())
                box.codes |= {KILLED}
        elif operation == "rename":
            box.names.add(arguments["to"])
        elif operation == "pause":
            box.status.add("paused")
        elif operation == "unpause":
            box.status.add("running")
        elif operation in ("connect", "disconnect"):
            box.networks.setdefault(arguments["network"], set()).update({True, False})


class _Answered:
    """One method an operation; False when the answer cannot be right."""

    @staticmethod
    def create(box: Box, line: Line, shim_died: bool) -> bool:
        if line.status != 201:
            return False
        box.exists, box.id = {True}, line.value
        return True

    @staticmethod
    def start(box: Box, line: Line, shim_died: bool) -> bool:
        if line.status == 204:
            box.started(line.at)
            return True
        if line.status == 409:
            return "paused" in box.status
        return line.status == 304 and (bool(box.status & RUNS) or line.at - box.shim_killed_time < NOTICED_S)

    @staticmethod
    def stop(box: Box, line: Line, shim_died: bool) -> bool:
        if line.status == 204:
            box.status = {"exited"}
            box.codes |= {KILLED}
            return True
        if line.status not in (304, 409):
            return False
        box.status -= RUNS
        return bool(box.status) or shim_died

    kill = stop

    @staticmethod
    def pause(box: Box, line: Line, shim_died: bool) -> bool:
        if line.status == 204:
            box.status = {"paused"}
            return True
        return line.status == 409 and box.status != {"running"}

    @staticmethod
    def unpause(box: Box, line: Line, shim_died: bool) -> bool:
        if line.status == 204:
            if "paused" in box.status:  # else its shim was killed just now
                box.status = {"running"}
            return True
        return line.status == 500 and box.status != {"paused"}

    @staticmethod
    def remove(box: Box, line: Line, shim_died: bool) -> bool:
        if line.status == 204:
            box.exists = {False}
            return True
        return line.status == 409 and box.auto_remove  # it is just being removed

    @staticmethod
    def wait(box: Box, line: Line, shim_died: bool) -> bool:
        if (line.status, line.value) == (
            200,
            0,
        ) and "created" in box.status:  # the machine's death has undone its start
            box.status = {"created"}
            return True
        if line.status != 200 or line.value not in box.codes:
            return False
        box.status, box.codes = {"exited"}, {line.value}
        box.log_expected = line.value == box.code and not box.shim_killed_at
        if line.arguments.get("condition") == "removed":
            box.exists = {False}
        return True

    @staticmethod
    def rename(box: Box, line: Line, shim_died: bool) -> bool:
        if line.status != 204:
            return False
        box.names = {line.arguments["to"]}
        return True

    @staticmethod
    def exec(box: Box, line: Line, shim_died: bool) -> bool:
        if line.status == 200 and line.value == 0:
            box.marks.add(line.arguments["mark"])
            return True
        return shim_died or (line.status == 409 and box.status != {"running"})

    @staticmethod
    def connect(box: Box, line: Line, shim_died: bool) -> bool:
        network = line.arguments["network"]
        if line.status == 200:
            box.networks[network] = {True}
            return True
        if line.status == 403:
            return True in box.networks.get(network, set())
        return False

    @staticmethod
    def disconnect(box: Box, line: Line, shim_died: bool) -> bool:
        network = line.arguments["network"]
        if line.status == 200:
            box.networks[network] = {False}
            return True
        off = line.status == 500 and "is not connected to" in str(line.value)  # dockerd's answer, from 28 on
        return off and False in box.networks.get(network, {False})


def told(world: World) -> dict[str, Any]:
    """How much of each there is."""
    return {
        "containers": sum(True in box.exists for box in world.boxes.values()),
        "networks": sum(True in thing.exists for thing in world.networks.values()),
        "volumes": sum(True in thing.exists for thing in world.volumes.values()),
        "images": sum(True in thing.exists for thing in world.images.values()),
    }
