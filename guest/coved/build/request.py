"""What a build is asked for, whichever way the request came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coved.dockerfile.instructions import Location, Warning
from coved.dockerfile.outline import Outline, Targets


@dataclass(frozen=True)
class Output:
    """``kind``: "image" (named ``names``, canonical or not as the client wrote them), "local", "tar", "oci" or "docker" (an archive),
    or "none" (run the build, keep the cache)."""

    kind: str = "image"
    names: Sequence[str] = ()
    id: int = 0
    """The client's number for it, which says where files go."""


@dataclass(frozen=True)
class Limits:
    """``HostConfig`` fields of the API for what RUN starts (classic builds; BuildKit has but a few of them)."""

    shm_size: int = 0
    """Bytes; 0 is the default."""
    ulimits: Sequence[Mapping[str, Any]] = ()
    """[{"Name": "nofile", "Soft": 1, "Hard": 2}]"""
    cgroup_parent: str = ""
    host_config: Mapping[str, Any] = field(default_factory=dict)
    """Memory, MemorySwap, CpuShares, CpuPeriod, CpuQuota, CpusetCpus, CpusetMems, SecurityOpt, Isolation."""


@dataclass(frozen=True)
class Request:
    dockerfile: str = "Dockerfile"
    """Path within the tree of the Dockerfile."""
    context: str = ""
    """"" is the client's own tree; else the URL of a git repository, or of an archive or a Dockerfile."""
    dockerfile_in: str = "dockerfile"
    """Which of the client's trees has the Dockerfile: "dockerfile", or "context"."""
    contexts: Mapping[str, str] = field(default_factory=dict)
    """Named contexts (``--build-context``): "local:NAME" (a tree of the client), "docker-image://...", a URL, "target:NAME"."""
    target: str = ""
    platforms: Sequence[str] = ()
    """Empty is this machine's."""
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    """The engine's own, for commands' environments alone: no ARG, no history and no image may have their passwords."""
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    no_cache_stages: Sequence[str] = ()
    pull: bool = False
    squash: bool = False
    network: str = "default"
    """default, none, host, or (classic) a network or container:ID."""
    add_hosts: Sequence[tuple[str, str]] = ()
    limits: Limits = field(default_factory=Limits)
    entitlements: frozenset[str] = frozenset()
    """What RUN may ask for: "network.host", "security.insecure"."""
    cache_from: Sequence[Mapping[str, str]] = ()
    """[{"type": "registry", "ref": ...}]"""
    cache_to: Sequence[Mapping[str, str]] = ()
    outputs: Sequence[Output] = (Output(),)
    question: str = ""
    """Only look at the Dockerfile, and tell of it: "check" for warnings, "outline", or "targets" (``--call``)."""
    in_order: bool = False
    """One step after the other, as the classic builder's output needs it."""


@dataclass(frozen=True)
class Checked:
    """What the checks of a Dockerfile have found."""

    filename: str
    text: str
    warnings: Sequence[Warning]
    error: str = ""
    """Why it could not be built at all."""
    location: Location | None = None


@dataclass(frozen=True)
class Result:
    image_id: str = ""
    """"" when no image was asked for."""
    names: Sequence[str] = ()
    """Canonical ones that it has been given."""
    warnings: Sequence[Warning] = ()
    answer: Checked | Outline | Targets | None = None
