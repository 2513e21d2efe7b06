"""The OCI runtime spec of a container."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coved.containers import capabilities, config, devices, seccomp_profile, security, userns
from coved.containers.config_schema import Json
from coved.containers.mountpoints import MountPoint
from coved.containers.resources import resources
from coved.errors import EngineError
from coved.runtime.errors import CREATE_REFUSED
from coved.runtime.ids import Remap
from coved.runtime.mounts import join_lower
from coved.runtime.spec import Mount, Namespace, NamespaceType, Process, Spec

_NAMESPACES: tuple[tuple[NamespaceType, str], ...] = (
    ("ipc", "IpcMode"),
    ("uts", "UTSMode"),
    ("pid", "PidMode"),
    ("cgroup", "CgroupnsMode"),
)
INIT = "docker-init"
"""The program of ``--init``, by dockerd's name for it."""
_INIT_TARGET = f"/sbin/{INIT}"
_WRITABLE = ("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")  # even where the root is not
_DEVPTS = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]


@dataclass(frozen=True)
class Layout:
    """Where a container's files are."""

    directory: Path
    lower: Sequence[Path]

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        return self.directory / "work"

    def prepare(self) -> None:
        for path in (self.directory, self.upper, self.work):
            if not os.path.isdir(path):  # noqa: PTH112 - as at all starts but the first
                path.mkdir(mode=0o755, exist_ok=True)


@dataclass(frozen=True)
class Surroundings:
    """What the rest of the engine decided: the network namespace, joined namespaces, mounts with their real sources."""

    network: Path | None
    joined: dict[str, str]
    """Path of the namespace to join, by type."""
    mounts: Sequence[tuple[MountPoint, str]]
    """Each mount with the path that it comes from."""
    hostname: str
    files: Path
    """The folder of /etc/hosts and its like: the container's own, or that of the container whose network it joins."""
    remap: Remap | None = None
    """The container has a user namespace."""
    more: Sequence[Mount] = ()
    """Mounts that are ready to be made, of images."""


def build(container_id: str, image: Json, host: Json, layout: Layout, around: Surroundings, profile: Path) -> Spec:
    """The spec of a container. Raises InvalidParameter, EngineError."""
    caps = capabilities.effective(host["CapAdd"] or (), host["CapDrop"] or (), privileged=host["Privileged"])
    options = security.parse(host["SecurityOpt"] or ())
    args = [*(image["Entrypoint"] or ()), *(image["Cmd"] or ())]
    mounts = [
        *root_mount(layout),
        *_system_mounts(host, around, options),
        *later_mounts(around.files, around.mounts, around.more, read_only=host["ReadonlyRootfs"]),
    ]
    if host["Init"] and host["PidMode"] in ("", "private"):  # it reaps orphans of its own pid namespace only
        args = [_INIT_TARGET, "--", *args]
        mounts.append(
            {"destination": _INIT_TARGET, "type": "bind", "source": _init_binary(), "options": ["bind", "ro"]}
        )
    spec: Spec = {
        "ociVersion": "1.2.0",
        "root": {"path": str(layout.directory / "root"), "readonly": host["ReadonlyRootfs"]},
        "process": process(image, host, args, caps),
        "mounts": mounts,
        "linux": {
            "namespaces": _namespaces(host, around),
            "cgroupsPath": posixpath.normpath(
                "/" + posixpath.join(host["CgroupParent"] or "cove", container_id).lstrip("/")
            ),
            "resources": resources(host),
            "sysctl": host["Sysctls"] or {},
            "maskedPaths": [] if host["Privileged"] else host["MaskedPaths"],
            "readonlyPaths": [] if host["Privileged"] else host["ReadonlyPaths"],
        },
    }
    if host["UTSMode"] == "host" and image["Domainname"]:
        raise EngineError(CREATE_REFUSED.format('sysctl "kernel.domainname" is not in a separate kernel namespace'))
    if host["UTSMode"] != "host":
        spec["hostname"] = around.hostname
        if image["Domainname"]:
            spec["domainname"] = image["Domainname"]
    if not host["Privileged"] and options.seccomp != security.UNCONFINED:
        _add_seccomp(spec, options.seccomp, caps, profile)
    if nodes := devices.nodes(host):
        spec["linux"]["devices"] = nodes
    if around.remap is not None:
        _remap(spec, around, around.remap)
    return spec


def _remap(spec: Spec, around: Surroundings, remap: Remap) -> None:
    linux = spec["linux"]
    if around.network is None:
        linux["namespaces"].append({"type": "network"})  # which the user namespace then owns
        linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0", **linux["sysctl"]}
    volumes = {mount.destination for mount, _ in around.mounts if mount.kind == "volume"}
    volumes |= {mount["destination"] for mount in around.more if mount.get("type") == "bind"}
    userns.apply(remap, spec, {"/", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", *volumes})


def _add_seccomp(spec: Spec, own: str, caps: Sequence[str], default: Path) -> None:
    if not own:
        spec["linux"]["seccomp"] = seccomp_profile.convert_default(default, tuple(caps))  # type: ignore[typeddict-item]
        return
    profile = seccomp_profile.convert(seccomp_profile.parse(own), caps)
    if profile["defaultAction"] or profile["syscalls"]:  # a profile that says nothing is none
        spec["linux"]["seccomp"] = profile  # type: ignore[typeddict-item]


def process(image: Json, host: Json, args: Sequence[str], caps: Sequence[str]) -> Process:
    """The OCI process of a container's command, or of an exec whose fields ``image`` has."""
    user = image["User"]
    # A user who is not root holds no capabilities but in the bounding set (capabilities(7)); the runtime drops them at setuid.
    held = list(caps)
    options = security.parse(host["SecurityOpt"] or ())
    result: Process = {
        "terminal": image["Tty"],
        "user": {"username": user, "extraGroups": list(host["GroupAdd"] or ())},
        "args": list(args),
        "env": environment(image),
        "cwd": image["WorkingDir"] or "/",
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": options.no_new_privileges,
        "oomScoreAdj": host["OomScoreAdj"],
        "rlimits": [
            {"type": f"RLIMIT_{entry['Name'].upper()}", "soft": int(entry["Soft"]), "hard": int(entry["Hard"])}
            for entry in host["Ulimits"]
        ],
    }
    if options.apparmor and options.apparmor != security.UNCONFINED and security.apparmor_enabled():
        result["apparmorProfile"] = options.apparmor
    height, width = host["ConsoleSize"]
    if image["Tty"] and height and width:
        result["consoleSize"] = {"height": height, "width": width}
    return result


def environment(image: Json) -> list[str]:
    """Docker's variables, then the container's own; a bare NAME takes a variable away."""
    own = {entry.partition("=")[0]: entry for entry in image["Env"]}
    result = {"PATH": config.DEFAULT_PATH}
    if image.get("Hostname"):
        result["HOSTNAME"] = f"HOSTNAME={image['Hostname']}"
    if image["Tty"]:
        result["TERM"] = "TERM=xterm"
    result.update(own)
    return [entry for entry in result.values() if "=" in entry]


def root_mount(layout: Layout) -> list[Mount]:
    return [
        {
            "destination": "/",
            "type": "overlay",
            "source": "overlay",
            "options": [f"lowerdir={join_lower(layout.lower)}", f"upperdir={layout.upper}", f"workdir={layout.work}"],
        }
    ]


def _system_mounts(host: Json, around: Surroundings, security_options: security.SecurityOptions) -> list[Mount]:
    protect = ["nosuid", "noexec", "nodev"]
    read_only = [] if host["Privileged"] else ["ro"]
    cgroup_read_only = [] if security_options.writable_cgroups else read_only
    mounts: list[Mount] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": protect},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": _DEVPTS},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*protect, *read_only]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*protect, *cgroup_read_only]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": protect},
    ]  # fmt: skip
    if host["IpcMode"] != "none":
        mounts.append(_shm(host, around, protect))
    own = {mount.destination for mount, _ in around.mounts} | {mount["destination"] for mount in around.more}
    hidden = "/dev/" if "/dev" in own else "\0"  # what is mounted on /dev brings all that is in it
    mounts = [one for one in mounts if one["destination"] not in own and not one["destination"].startswith(hidden)]
    for mount in mounts:
        if host["ReadonlyRootfs"] and mount["destination"] not in _WRITABLE and "ro" not in mount["options"]:
            mount["options"] = [*mount["options"], "ro"]
    return mounts


def later_mounts(
    files: Path, mounts: Sequence[tuple[MountPoint, str]], more: Sequence[Mount] = (), *, read_only: bool
) -> list[Mount]:
    """Files of the engine's in the folder ``files`` and mounts of the user's, each with the path that it comes from.

    One on top of another's directory comes after it.
    """
    taken = {mount.destination for mount, _ in mounts}
    own = (one for one in _own_files(files, read_only=read_only) if one["destination"] not in taken)
    return sorted([*map(_user_mount, mounts), *more, *own], key=lambda mount: mount["destination"].count("/"))


def _shm(host: Json, around: Surroundings, protect: list[str]) -> Mount:
    mount: Mount = {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate"]}
    if "ipc" in around.joined:
        mount["namespace"] = around.joined["shm"]
    elif host["IpcMode"] != "host":
        options = [*protect, "mode=1777", f"size={host['ShmSize']}"]
        return {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options}
    return mount


def _own_files(folder: Path, *, read_only: bool) -> list[Mount]:
    return [
        {
            "destination": f"/etc/{name}",
            "type": "bind",
            "source": str(folder / name),
            "options": ["rbind", "rprivate", *(["ro"] if read_only else [])],
        }
        for name in ("resolv.conf", "hostname", "hosts")
        if (folder / name).exists()
    ]


def _user_mount(pair: tuple[MountPoint, str]) -> Mount:
    mount, source = pair
    if mount.kind == "tmpfs":
        from coved.containers import tmpfs

        return {
            "destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": tmpfs.options(mount.options),
        }  # fmt: skip
    options = ["rbind" if mount.recursive else "bind", mount.propagation or "rprivate"]
    if not mount.writable:
        options.append("rro" if mount.read_only_below else "ro")
    made: Mount = {"destination": mount.destination, "type": "bind", "source": source, "options": options}
    if mount.subpath:
        made["below"] = mount.subpath
    return made


def _namespaces(host: Json, around: Surroundings) -> list[Namespace]:
    result: list[Namespace] = [{"type": "mount"}]
    if around.network is not None:
        result.append({"type": "network", "path": str(around.network)})
    for kind, field in _NAMESPACES:
        if kind in around.joined:
            result.append({"type": kind, "path": around.joined[kind]})
        elif host[field] != "host":
            result.append({"type": kind})
    return result


def _init_binary() -> str:
    """tini as Debian packages it, the static one: it has to run in any image."""
    import shutil

    for name in (INIT, "tini-static"):
        if path := shutil.which(name):
            return os.path.realpath(path)
    raise EngineError('exec: "docker-init": executable file not found in $PATH')
