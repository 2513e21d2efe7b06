"""What a play will make: names, and bodies of requests to the engine. Nothing here asks an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from cove.kube.play.problems import Place, Problem

Body: TypeAlias = dict[str, Any]

PLAY = "io.cove.kube.play"
FILE = "io.cove.kube.file"
OBJECT = "io.cove.kube.object"
POD = "io.cove.kube.pod"
ROLE = "io.cove.kube.role"
CLAIM = "io.cove.kube.claim"
"""Labels by which all that a play has made is found again."""
RUN = "io.cove.kube.run"
"""Label of a play's network: which run has made it."""

POD_IP = "\0pod-ip\0"
"""Stands in a body for the pod's address, which is known when its network is there; no YAML has a NUL."""
VOLUMES = "volumes"
"""Where the pod's own container has all volumes of the pod."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or with `data` None a folder, in a volume; `path` is below the root.

    `of_new` names a volume: the entry is made only if this play makes that; with `missing`, only if nothing is there.
    """

    path: str
    mode: int
    gid: int = 0
    data: bytes | None = None
    of_new: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class HostPath:
    """A path of the computer whose kind is to be looked at."""

    path: str
    """Where the pod's own container has it."""
    kind: str
    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    labels: dict[str, str]
    options: dict[str, str] = field(default_factory=dict)
    claim: bool = False
    """It is kept, and may be there already."""

    @property
    def body(self) -> Body:
        driver = {"Driver": "local", "DriverOpts": self.options} if self.options else {}
        return {"Name": self.name, "Labels": self.labels, **driver}


@dataclass(frozen=True, slots=True)
class Check:
    """A command whose success says that a container has started."""

    command: list[str]
    in_pause: bool
    delay_s: int
    period_s: int
    tries: int
    timeout_s: int


@dataclass(slots=True)
class Container:
    name: str
    called: str
    """In the manifest."""
    body: Body
    pull: Literal["Always", "IfNotPresent", "Never"]
    place: Place
    sidecar: bool = False
    startup: Check | None = None
    non_root: bool = False

    @property
    def image(self) -> str:
        return str(self.body["Image"])


@dataclass(slots=True)
class Published:
    container: int
    protocol: str
    host: int
    """0: the engine chooses."""
    address: str
    service: str = ""


@dataclass(slots=True)
class Pod:
    """`name` is also that of its own container, which holds network, ipc and volumes."""

    name: str
    owner: str
    """Kind and name of the object that it is made of."""
    pause: Body
    place: Place
    restart: str
    inits: list[Container] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    host_paths: list[HostPath] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    needs_ip: bool = False

    @property
    def all(self) -> list[Container]:
        return [*self.inits, *self.containers]

    @property
    def names(self) -> list[str]:
        return [self.name, *(each.name for each in self.all)]


@dataclass(slots=True)
class Job:
    name: str
    pods: list[Pod]
    """One for each completion."""
    parallelism: int
    backoff_limit: int


@dataclass(slots=True)
class Plan:
    name: str
    file: str
    network: str
    pods: list[Pod]
    jobs: list[Job]
    claims: list[Volume]
    wanted_claims: dict[str, Place]
    """Volumes that must be there, for no claim of these manifests makes them."""
    notes: list[Problem]

    @property
    def labels(self) -> dict[str, str]:
        return {PLAY: self.name, FILE: self.file}

    @property
    def all_pods(self) -> list[Pod]:
        return [*self.pods, *(pod for job in self.jobs for pod in job.pods)]
