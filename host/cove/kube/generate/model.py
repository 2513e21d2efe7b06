"""An application as its readers tell it and its writer needs it: no more of Docker, and not yet Kubernetes' objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Note(NamedTuple):
    """What a user must know of one workload; `lost`: what could not be carried to Kubernetes."""

    workload: str
    text: str
    lost: bool = True

    def __str__(self) -> str:
        return f"{self.workload}: {self.text}" if self.workload else self.text


class Port(NamedTuple):
    number: int
    protocol: str = "tcp"
    published: int | None = None
    """On localhost; 0: on a port that is free there."""
    here_alone: bool = False
    """Published on a loopback address, for this computer and nobody else."""

    @property
    def name(self) -> str:
        return f"{self.protocol}-{self.number}"

    @property
    def is_for_all(self) -> bool:
        """Whether whoever reaches the host is meant to reach it."""
        return self.published is not None and not self.here_alone


@dataclass(frozen=True)
class Health:
    command: tuple[str, ...]
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = 3
    start_period_s: float = 0.0
    start_interval_s: float = 5.0


@dataclass(frozen=True)
class Mount:
    """Something at `target`: a `volume`, files of a `source`, or else an empty folder."""

    target: str
    volume: str = ""
    source: str = ""
    key: str = ""
    """Of a source: the one file, which then is `target` itself."""
    sub_path: str = ""
    read_only: bool = False
    memory: bool = False
    size: int | None = None
    mode: int | None = None


@dataclass(frozen=True)
class File:
    content: bytes
    executable: bool = False


@dataclass(frozen=True)
class Source:
    """Files that become a ConfigMap or a Secret. `external`: the cluster has them already."""

    name: str
    files: Mapping[str, File]
    secret: bool = False
    external: bool = False


@dataclass(frozen=True)
class Volume:
    name: str
    external: bool = False


@dataclass
class Workload:
    name: str
    image: str
    built: bool = False
    """Made here, and in no registry."""
    command: list[str] | None = None
    args: list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    ports: list[Port] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    health: Health | None = None
    limits: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    replicas: int = 1
    attempts: int | None = None
    """How often one that ends is tried again, for what is to end; None for what is to run for good."""
    aliases: list[str] = field(default_factory=list)
    """Other names that it answers to."""
    annotations: dict[str, str] = field(default_factory=dict)
    container: dict[str, Any] = field(default_factory=dict)
    """Fields of Kubernetes' container besides these."""
    security: dict[str, Any] = field(default_factory=dict)
    pod: dict[str, Any] = field(default_factory=dict)
    """Fields of the pod's specification besides these."""
    pod_security: dict[str, Any] = field(default_factory=dict)


@dataclass
class Application:
    name: str
    workloads: list[Workload] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
