"""Devices of a container: nodes to make, and rules of what may be opened. Words and order are dockerd's.

Rules are those of the OCI runtime spec (config-linux.md, "Allowed Device list").
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from coved.containers.config_schema import Json
from coved.errors import EngineError
from coved.runtime.spec import Device, DeviceRule

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")
_MAX_NUMBER = 2**32 - 1
# Not devices of the machine but of one devpts, one IPC namespace, one terminal.
_SKIPPED_FOLDERS = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
_SKIPPED_FILES = {"console"}


def nodes(host: Json) -> list[Device]:
    """The nodes to make besides the runtime's own (null, zero, tty ...). Raises EngineError."""
    _refuse_requests(host)
    found = _all_nodes("/dev") if host["Privileged"] else []
    for entry in host["Devices"]:
        source, target = _paths(entry)
        if not (host["Privileged"] and source == target):  # that one is there already
            found += _nodes_of(source, target)
    return found


def rules(host: Json) -> list[DeviceRule] | None:
    """What may be opened and made; None is everything. Raises EngineError."""
    if host["Privileged"]:
        return None
    result: list[DeviceRule] = [{"allow": False, "access": "rwm"}]
    for entry in host["Devices"]:
        for node in _nodes_of(*_paths(entry)):
            access = str(entry.get("CgroupPermissions") or "rwm")
            if not set(access) <= set("rwm"):
                raise EngineError(f"invalid device access '{access}': only r, w and m are known")
            numbers = {"major": node["major"], "minor": node["minor"]}
            result.append({"allow": True, "type": node["type"], "access": access, **numbers})  # type: ignore[typeddict-item]
    result += [_rule(text) for text in host["DeviceCgroupRules"] or ()]
    return result


def _paths(entry: Json) -> tuple[str, str]:
    source = str(entry.get("PathOnHost") or "")
    return source, str(entry.get("PathInContainer") or source)


def _nodes_of(source: str, target: str) -> list[Device]:
    """A device, or all devices below a folder."""
    try:
        node = _node(source, target)
        if node is not None:
            return [node]
        resolved = os.path.realpath(source)
        if os.path.isdir(resolved):  # noqa: PTH112 - on the path of a start
            inside = [one for path in _walk(resolved) if (one := _node(path, target + path[len(resolved) :]))]
            if inside:
                return inside
        problem = "not a device node"
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        problem = text[:1].lower() + text[1:]
    raise EngineError(f'error gathering device information while adding custom device "{source}": {problem}')


def _node(source: str, target: str) -> Device | None:
    """None when ``source`` is no device. Raises OSError."""
    status = os.stat(source)  # noqa: PTH116 - on the path of a start
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return None
    return {
        "type": kind,
        "path": target,
        "source": source,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": status.st_mode & 0o777,
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _all_nodes(folder: str) -> list[Device]:
    found = []
    for path in _walk(folder):
        try:
            node = _node(path, path)
        except OSError:
            continue  # unplugged in between
        if node is not None:
            found.append(node)
    return found


def _walk(folder: str) -> Iterator[str]:
    """Files below ``folder`` that may be devices of the machine; links are none."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_symlink():
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED_FOLDERS:
                    yield from _walk(entry.path)
            elif entry.name not in _SKIPPED_FILES and not entry.is_file(follow_symlinks=False):
                yield entry.path


def _rule(text: str) -> DeviceRule:
    match = _RULE.fullmatch(text)
    if match is None:
        raise EngineError(f"invalid device cgroup rule format: '{text}'")
    rule: DeviceRule = {"allow": True, "type": match[1], "access": match[4]}
    for index, name in ((2, "major"), (3, "minor")):
        if match[index] == "*":
            continue
        if int(match[index]) > _MAX_NUMBER:
            raise EngineError(f"invalid {name} value in device cgroup rule format: '{text}'")
        rule[name] = int(match[index])  # type: ignore[literal-required]
    return rule


def _refuse_requests(host: Json) -> None:
    """There are no device drivers (GPUs, CDI)."""
    for request in host["DeviceRequests"] or ():
        raw: Any = request.get("Capabilities") or []
        capabilities = " ".join(f"[{' '.join(map(str, one))}]" for one in raw if isinstance(one, list))
        raise EngineError(
            f'could not select device driver "{request.get("Driver") or ""}" with capabilities: [{capabilities}]'
        )
