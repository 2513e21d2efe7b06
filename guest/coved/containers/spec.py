"""The OCI runtime spec of a container."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coved.containers import capabilities, config, seccomp_profile
from coved.containers.config_schema import Json
from coved.containers.mountpoints import MountPoint
from coved.errors import EngineError, InvalidParameter
from coved.runtime.spec import Mount, Namespace, NamespaceType, Process, Resources, Spec

_NAMESPACES: tuple[tuple[NamespaceType, str], ...] = (
    ("ipc", "IpcMode"),
    ("uts", "UTSMode"),
    ("pid", "PidMode"),
    ("cgroup", "CgroupnsMode"),
)
_INIT_PATHS = ("/usr/bin/docker-init", "/usr/bin/tini-static", "/usr/bin/tini")
_INIT_TARGET = "/sbin/docker-init"
_PERIOD_US = 100_000
RUNC_FAILED = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: {}: unknown"
"""How clients are told, by Docker, of what the runtime refuses."""
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


def build(container_id: str, image: Json, host: Json, layout: Layout, around: Surroundings, profile: Path) -> Spec:
    """The spec of a container. Raises InvalidParameter, EngineError."""
    caps = capabilities.effective(host["CapAdd"] or (), host["CapDrop"] or (), privileged=host["Privileged"])
    security = _SecurityOptions.parse(host["SecurityOpt"] or ())
    args = [*(image["Entrypoint"] or ()), *(image["Cmd"] or ())]
    mounts = [
        *_root(layout),
        *_system_mounts(host, around),
        *_own_files(around.files, read_only=host["ReadonlyRootfs"]),
        *map(_user_mount, around.mounts),
    ]
    if host["Init"]:
        args = [_INIT_TARGET, "--", *args]
        mounts.append(
            {"destination": _INIT_TARGET, "type": "bind", "source": _init_binary(), "options": ["bind", "ro"]}
        )
    spec: Spec = {
        "ociVersion": "1.2.0",
        "root": {"path": str(layout.directory / "root"), "readonly": host["ReadonlyRootfs"]},
        "process": process(image, host, args, caps, security.no_new_privileges),
        "mounts": mounts,
        "linux": {
            "namespaces": _namespaces(host, around),
            "cgroupsPath": posixpath.join(host["CgroupParent"] or "/cove", container_id),
            "resources": resources(host),
            "sysctl": host["Sysctls"] or {},
            "maskedPaths": host["MaskedPaths"],
            "readonlyPaths": host["ReadonlyPaths"],
        },
    }
    if host["UTSMode"] == "host" and image["Domainname"]:
        raise EngineError(RUNC_FAILED.format('sysctl "kernel.domainname" is not in a separate kernel namespace'))
    if host["UTSMode"] != "host":
        spec["hostname"] = around.hostname
        if image["Domainname"]:
            spec["domainname"] = image["Domainname"]
    if not host["Privileged"] and security.seccomp != "unconfined":
        linux: Any = spec["linux"]
        if security.seccomp:
            linux["seccomp"] = seccomp_profile.convert(seccomp_profile.parse(security.seccomp), caps)
        else:
            linux["seccomp"] = seccomp_profile.convert_default(profile, tuple(caps))
    if host["Devices"]:
        spec["linux"]["devices"] = [_device(entry) for entry in host["Devices"]]
    return spec


@dataclass(frozen=True)
class _SecurityOptions:
    seccomp: str = ""
    no_new_privileges: bool = False

    @classmethod
    def parse(cls, options: Sequence[str]) -> _SecurityOptions:
        seccomp, no_new_privileges = "", False
        for option in options:
            name, _, value = option.replace(":", "=", 1).partition("=") if "=" not in option else option.partition("=")
            if name == "no-new-privileges":
                no_new_privileges = value.lower() not in ("false", "0")
            elif name == "seccomp":
                seccomp = "" if value == "builtin" else value
            elif name not in ("label", "apparmor", "systempaths"):
                raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        return cls(seccomp, no_new_privileges)


def process(image: Json, host: Json, args: Sequence[str], caps: Sequence[str], no_new_privileges: bool) -> Process:
    """The OCI process of a container's command, or of an exec whose fields ``image`` has."""
    user = image["User"]
    # A user who is not root holds no capabilities but in the bounding set (capabilities(7)); the runtime drops them at setuid.
    held = list(caps)
    result: Process = {
        "terminal": image["Tty"],
        "user": {"username": user, "extraGroups": list(host["GroupAdd"] or ())},
        "args": list(args),
        "env": environment(image),
        "cwd": image["WorkingDir"] or "/",
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": no_new_privileges,
        "rlimits": [
            {"type": f"RLIMIT_{entry['Name'].upper()}", "soft": int(entry["Soft"]), "hard": int(entry["Hard"])}
            for entry in host["Ulimits"]
        ],
    }
    if host["OomScoreAdj"]:
        result["oomScoreAdj"] = host["OomScoreAdj"]
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


def resources(host: Json) -> Resources:
    """Limits and device rules (config-linux.md of the runtime spec)."""
    result: Resources = {}
    if not host["Privileged"]:
        rules: Any = [{"allow": False, "access": "rwm"}]
        rules += [{"allow": True, **_device_rule(entry)} for entry in host["Devices"]]
        rules += [_cgroup_rule(text) for text in host["DeviceCgroupRules"] or ()]
        result["devices"] = rules
    memory = {
        "limit": host["Memory"],
        "reservation": host["MemoryReservation"],
        "swap": host["MemorySwap"] or (2 * host["Memory"]),
    }
    if any(memory.values()):
        result["memory"] = {name: value for name, value in memory.items() if value}  # type: ignore[typeddict-item]
    cpu: Any = {"shares": host["CpuShares"], "quota": host["CpuQuota"], "period": host["CpuPeriod"]}
    if host["NanoCpus"]:
        cpu.update(quota=host["NanoCpus"] * _PERIOD_US // 1_000_000_000, period=_PERIOD_US)
    cpu.update(cpus=host["CpusetCpus"], mems=host["CpusetMems"])
    if any(cpu.values()):
        result["cpu"] = {name: value for name, value in cpu.items() if value}  # type: ignore[typeddict-item]
    if host["PidsLimit"] and host["PidsLimit"] > 0:
        result["pids"] = {"limit": host["PidsLimit"]}
    if host["BlkioWeight"]:
        result["blockIO"] = {"weight": host["BlkioWeight"]}
    return result


def _root(layout: Layout) -> list[Mount]:
    lower = [f"lowerdir={path}" for path in (":".join(map(str, layout.lower)),)]
    return [
        {
            "destination": "/",
            "type": "overlay",
            "source": "overlay",
            "options": [*lower, f"upperdir={layout.upper}", f"workdir={layout.work}"],
        }
    ]


def _system_mounts(host: Json, around: Surroundings) -> list[Mount]:
    protect = ["nosuid", "noexec", "nodev"]
    read_only = [] if host["Privileged"] else ["ro"]
    mounts: list[Mount] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": protect},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": _DEVPTS},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*protect, *read_only]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*protect, *read_only]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": protect},
    ]  # fmt: skip
    own_shm = not any(mount.destination == "/dev/shm" for mount, _ in around.mounts)
    if own_shm and host["IpcMode"] != "none":
        mounts.append(_shm(host, around, protect))
    return mounts


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
        options = ["noexec", "nosuid", "nodev", *(word for word in mount.options.split(",") if word)]
        for allowed in ("exec", "suid", "dev"):
            if allowed in options:
                options.remove(f"no{allowed}")
        return {"destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": options}
    options = ["rbind", mount.propagation or "rprivate"] + ([] if mount.writable else ["ro"])
    return {"destination": mount.destination, "type": "bind", "source": source, "options": options}


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


def _device(entry: Json) -> Any:
    source, target = str(entry.get("PathOnHost", "")), str(entry.get("PathInContainer") or entry.get("PathOnHost", ""))
    try:
        status = os.stat(source)  # noqa: PTH116 - on the path of a start
    except OSError as error:
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{source}": {error.strerror}'
        ) from None
    kind = _device_kind(source, status.st_mode)
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return {
        "type": kind,
        "path": target,
        "major": major,
        "minor": minor,
        "fileMode": status.st_mode & 0o777,
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _device_kind(source: str, mode: int) -> str:
    import stat

    if stat.S_ISCHR(mode):
        return "c"
    if stat.S_ISBLK(mode):
        return "b"
    raise InvalidParameter(
        f'error gathering device information while adding custom device "{source}": not a device node'
    )


def _device_rule(entry: Json) -> dict[str, Any]:
    device = _device(entry)
    return {
        "type": device["type"],
        "major": device["major"],
        "minor": device["minor"],
        "access": entry.get("CgroupPermissions") or "rwm",
    }


def _cgroup_rule(text: str) -> dict[str, Any]:
    try:
        kind, numbers, access = text.split()
        major, minor = numbers.split(":")
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        rule.update({name: int(value) for name, value in (("major", major), ("minor", minor)) if value != "*"})
    except ValueError:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'") from None
    return rule


def _init_binary() -> str:
    for path in _INIT_PATHS:
        if os.path.exists(path):  # noqa: PTH110 - on the path of a start
            return path
    raise InvalidParameter("--init needs the package tini on the machine that the engine runs on")
