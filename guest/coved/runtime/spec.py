"""The OCI runtime specification as types, and what the runtime needs beyond it (stdio, log, attachments).

Field names are those of https://github.com/opencontainers/runtime-spec (config.md, config-linux.md, version 1.2).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict


class User(TypedDict, total=False):
    """``username`` is an extension: docker's ``name|uid[:group|gid]``, looked up in the container's own
    ``/etc/passwd`` and ``/etc/group`` when the process is set up. It then overrides uid, gid and (when empty) the
    additional gids; ``additionalGids`` are added to those that the group file gives."""

    uid: int
    gid: int
    umask: int
    additionalGids: list[int]
    username: str
    extraGroups: list[str]  # extension: docker's --group-add, names or numbers, looked up like ``username``


class ConsoleSize(TypedDict):
    height: int
    width: int


class Capabilities(TypedDict, total=False):
    """Lists of names such as ``CAP_CHOWN``."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    type: str  # RLIMIT_NOFILE
    soft: int
    hard: int


class Process(TypedDict, total=False):
    terminal: bool
    consoleSize: ConsoleSize
    user: User
    args: list[str]
    env: list[str]
    cwd: str
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    oomScoreAdj: int
    apparmorProfile: str


class Root(TypedDict):
    path: str
    readonly: NotRequired[bool]


class IdMapping(TypedDict):
    containerID: int
    hostID: int
    size: int


class Content(TypedDict):
    """``data`` is in base64."""

    data: str
    mode: int
    uid: int
    gid: int


class Mount(TypedDict):
    destination: str
    type: NotRequired[str]
    source: NotRequired[str]
    options: NotRequired[list[str]]
    uidMappings: NotRequired[list[IdMapping]]
    gidMappings: NotRequired[list[IdMapping]]
    namespace: NotRequired[str]  # extension: path of the mount namespace that a bind's source is looked up in
    below: NotRequired[str]  # extension: what of a bind's source is mounted; no link leads out of it
    # Extensions: only what is at this path of an overlay or tmpfs gets to the destination. ``place`` is an empty folder outside.
    within: NotRequired[str]
    place: NotRequired[str]
    content: NotRequired["Content"]  # extension: of a tmpfs, makes the file ``within`` it


NamespaceType = Literal["mount", "pid", "network", "ipc", "uts", "cgroup", "user", "time"]


class Namespace(TypedDict):
    """Without a path a new namespace is made; with one, that namespace is joined."""

    type: NamespaceType
    path: NotRequired[str]


class Device(TypedDict):
    type: str  # c, b, u or p
    path: str
    major: NotRequired[int]
    minor: NotRequired[int]
    fileMode: NotRequired[int]
    uid: NotRequired[int]
    gid: NotRequired[int]
    source: NotRequired[str]  # extension: where it is outside, for containers that may make no nodes


class DeviceRule(TypedDict):
    """Rules are read in order, the last one that matches decides; a missing number matches every number."""

    allow: bool
    type: NotRequired[str]  # a, b or c
    major: NotRequired[int]
    minor: NotRequired[int]
    access: NotRequired[str]  # of r, w, m


class MemoryResources(TypedDict, total=False):
    """Bytes; -1 is unlimited. ``swap`` is memory plus swap, as in cgroup v1 and docker."""

    limit: int
    reservation: int
    swap: int
    disableOOMKiller: bool
    checkBeforeUpdate: bool


class CpuResources(TypedDict, total=False):
    shares: int
    quota: int  # microseconds
    period: int  # microseconds
    burst: int
    cpus: str
    mems: str
    idle: int


class PidsResources(TypedDict):
    limit: int


class WeightDevice(TypedDict, total=False):
    major: int
    minor: int
    weight: int


class ThrottleDevice(TypedDict):
    major: int
    minor: int
    rate: int


class BlockIoResources(TypedDict, total=False):
    weight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    pageSize: str
    limit: int


class Resources(TypedDict, total=False):
    devices: list[DeviceRule]
    memory: MemoryResources
    cpu: CpuResources
    pids: PidsResources
    blockIO: BlockIoResources
    hugepageLimits: list[HugepageLimit]
    unified: dict[str, str]


class SeccompArg(TypedDict):
    index: int
    value: int
    valueTwo: NotRequired[int]
    op: str  # SCMP_CMP_EQ and so on


class SeccompSyscall(TypedDict):
    names: list[str]
    action: str
    errnoRet: NotRequired[int]
    args: NotRequired[list[SeccompArg]]


class Seccomp(TypedDict):
    defaultAction: str
    defaultErrnoRet: NotRequired[int]
    architectures: NotRequired[list[str]]
    flags: NotRequired[list[str]]
    syscalls: NotRequired[list[SeccompSyscall]]


class Linux(TypedDict, total=False):
    """``cgroupsPath`` is absolute below the cgroup v2 mount, for instance ``/cove/<id>``."""

    namespaces: list[Namespace]
    uidMappings: list[IdMapping]
    gidMappings: list[IdMapping]
    devices: list[Device]
    cgroupsPath: str
    resources: Resources
    sysctl: dict[str, str]
    seccomp: Seccomp
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]


class Spec(TypedDict, total=False):
    ociVersion: str
    root: Root
    process: Process
    hostname: str
    domainname: str
    mounts: list[Mount]
    linux: Linux
    annotations: dict[str, str]
    reportMade: bool  # extension: the engine is to be told what was made in the root to mount something on


@dataclass(slots=True)
class Stdio:
    """How a process is talked to. For an exec, ``stdin_once`` is always meant: its stdin ends with its client's."""

    terminal: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    height: int = 0
    width: int = 0


@dataclass(slots=True)
class LogTarget:
    """Where output is kept. ``driver``: json-file or local. ``max_size`` in bytes (None: never rotated), ``max_files``
    counts the current one, ``compress``: the others. ``attrs``: a JSON object that is put into every line of json-file."""

    path: Path
    driver: str = "json-file"
    max_size: int | None = None
    max_files: int = 1
    compress: bool = False
    attrs: str = ""


@dataclass(slots=True)
class Attachment:
    """A client's own connection, handed to the shim, which closes it at the end.

    ``fd`` stays the caller's to close as soon as the call that took the attachment has returned (the shim has a
    duplicate). ``raw``: a terminal's bytes without docker's frames. ``pending``: stdin bytes already read from it.
    """

    fd: int
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    raw: bool = False
    detach_keys: bytes = b""
    pending: bytes = b""


@dataclass(slots=True, frozen=True)
class Exit:
    """How a process ended. ``code`` is docker's: 128 + n after signal n."""

    code: int
    oom_killed: bool
    exited_at_ns: int
