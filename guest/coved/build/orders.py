"""What the steps of a build order of the parts that carry them out: ``execution`` runs commands, ``copying`` copies files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coved.build.request import Limits

HOSTNAME = "buildkitsandbox"
"""Of commands, unless the build wants another one."""
Refs = tuple[str, ...]
"""A file system, by its layers from the lowest: "sha256:<hex>" is the images' store's, by its diff id, and anything else a
snapshot's (``snapshots``). Empty is a file system without files (FROM scratch)."""


@dataclass(frozen=True)
class Files:
    """Where files are copied or mounted from: a directory on the engine's disk, or a file system of layers."""

    directory: Path | None = None
    refs: Refs = ()
    key: str = ""
    """Of a directory: the ``Tree``'s."""


@dataclass(frozen=True)
class BindMount:
    files: Files
    source: str
    """Path within ``files``."""
    target: str
    read_only: bool = True
    """One that can be written to loses what was written when the command ends."""


@dataclass(frozen=True)
class CacheMount:
    id: str
    target: str
    sharing: str = "shared"
    """shared, private (another command gets another folder meanwhile) or locked (another command waits)."""
    seed: Files | None = None
    source: str = "/"
    read_only: bool = False
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    seed_key: str = ""
    """The same for the same files to begin with."""


@dataclass(frozen=True)
class TmpfsMount:
    target: str
    size: int = 0


@dataclass(frozen=True)
class SecretMount:
    """A file in memory, never in the layer."""

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class SocketMount:
    """An SSH agent's socket."""

    target: str
    socket: Path
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


AnyMount = BindMount | CacheMount | TmpfsMount | SecretMount | SocketMount


@dataclass(frozen=True)
class RunOrder:
    """One command (RUN). What it changes becomes a snapshot."""

    lower: Refs
    args: Sequence[str]
    env: Sequence[str]
    """["PATH=..."]"""
    cwd: str = "/"
    user: str = ""
    mounts: Sequence[AnyMount] = ()
    network: str = "default"
    insecure: bool = False
    """With all privileges (RUN --security=insecure)."""
    add_hosts: Sequence[tuple[str, str]] = ()
    limits: Limits = field(default_factory=Limits)
    hostname: str = HOSTNAME
    container: str = ""
    """The id of the container that the classic builder says it runs in: the command finds everything as in one, and what goes
    wrong before it runs is told in the engine's own words. "" is as with BuildKit."""


@dataclass(frozen=True)
class CopyOrder:
    """Files that come into a file system (COPY, ADD, WORKDIR's folder). What changes becomes a snapshot."""

    lower: Refs
    destination: str
    """Absolute; with a / at its end it is a folder."""
    files: Files = field(default_factory=Files)
    sources: Sequence[str] = ()
    """Paths and wildcards (Go's filepath.Match, and ** as in .dockerignore) within ``files``."""
    contents: Mapping[str, bytes] = field(default_factory=dict)
    """Files by their names, which come from nowhere else (heredocs)."""
    downloads: Sequence[tuple[str, Path]] = ()
    """Names, and files or (git) directories that were fetched."""
    chown: str = ""
    """``user[:group]``, names by the passwd and group files of the file system, or numbers; "" is root."""
    chmod: str = ""
    """Octal or symbolic; "" keeps modes."""
    link: bool = False
    """Onto an empty file system, whatever ``lower`` has at the destination."""
    parents: bool = False
    excludes: Sequence[str] = ()
    unpack: bool = False
    """Archives are unpacked instead of copied (ADD)."""
    unpack_downloads: bool = False
    """So are those that were downloaded (ADD --unpack)."""
    classic: str = ""
    """Set (the instruction's keyword, for errors), it goes by the rules of the builder of before BuildKit: what is in the way is
    replaced whatever it is, who owns must be known, set-id bits do not outlive a change of owners, and several sources need a
    folder."""
    make_directory: bool = False
    """WORKDIR: only the folder ``destination``, and those above it."""
