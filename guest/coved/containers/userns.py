"""``--userns-remap``: containers whose root is nobody outside. dockerd's rules and words; subuid(5), subgid(5).

The ids of files stay the container's own on disk: the runtime maps mounts (decisions/0018). So images, volumes, copies and
exports are the same with and without it.
"""

from __future__ import annotations

import contextlib
import pwd
from pathlib import Path

from coved.containers.config_schema import Json
from coved.errors import InvalidParameter
from coved.runtime.ids import Remap
from coved.runtime.spec import IdMapping, Mount, Spec

DEFAULT_USER = "dockremap"
_DEFAULT_RANGE = (100_000, 65_536)
_MAX_ID = 2**32 - 2


def parse(text: str, etc: Path = Path("/etc")) -> Remap:
    """The option's value: ``default``, or ``user[:group]`` by name or number, with ranges in /etc/subuid and /etc/subgid.

    Without an entry for its user ``default`` means 65536 ids from 100000 on: nothing has to be written to a read-only system.
    Raises ValueError.
    """
    user, separator, group = text.partition(":")
    if not user or (separator and not group):
        raise ValueError(f"invalid userns-remap value: {text}")
    if user == "default" and not separator:
        found = [_ranges(etc / name, DEFAULT_USER) for name in ("subuid", "subgid")]
        if not any(found):
            found = [[_DEFAULT_RANGE], [_DEFAULT_RANGE]]
        user = group = DEFAULT_USER
    else:
        group = group or user
        found = [_ranges(etc / "subuid", user), _ranges(etc / "subgid", group)]
    for ranges, kind, whose, name in ((found[0], "subuid", "user", user), (found[1], "subgid", "group", group)):
        if not ranges:
            raise ValueError(f'no {kind} ranges found for {whose} "{name}"')
    return Remap(_mappings(found[0]), _mappings(found[1]))


def _ranges(path: Path, name: str) -> list[tuple[int, int]]:
    """``name:first:count`` lines, by a name or the number of that user."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    wanted = {name}
    if name.isdigit():
        with contextlib.suppress(KeyError, OverflowError):
            wanted.add(pwd.getpwuid(int(name)).pw_name)
    result = []
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) != 3 or fields[0] not in wanted:
            continue
        if not (fields[1].isdigit() and fields[2].isdigit()):
            raise ValueError(f"{path}: '{line}' is no range")
        first, count = int(fields[1]), int(fields[2])
        if first == 0 or count == 0 or first + count > _MAX_ID:
            raise ValueError(f"{path}: '{line}' is no range of ids for containers")
        result.append((first, count))
    return result


def _mappings(ranges: list[tuple[int, int]]) -> tuple[IdMapping, ...]:
    inside, result = 0, []
    for first, count in ranges:
        result.append(IdMapping(containerID=inside, hostID=first, size=count))
        inside += count
    return tuple(result)


def applies(remap: Remap | None, host: Json) -> bool:
    """Whether a container has a user namespace."""
    return remap is not None and host["UsernsMode"] != "host"


def check(remap: Remap | None, host: Json) -> None:
    """What cannot be had together. Raises InvalidParameter."""
    if not applies(remap, host):
        return
    if host["Privileged"]:
        raise InvalidParameter(
            "privileged mode is incompatible with user namespaces.  "
            "You must run the container in the host namespace when running privileged mode"
        )
    if host["NetworkMode"] == "host":
        raise InvalidParameter("cannot share the host's network namespace when user namespaces are enabled")
    if host["PidMode"] == "host":
        raise InvalidParameter("cannot share the host PID namespace when user namespaces are enabled")
    for field, name in (("PidMode", "PID"), ("IpcMode", "IPC"), ("NetworkMode", "network")):
        if host[field].startswith("container:"):
            # They belong to the other one's user namespace, where this one's root is nobody.
            raise InvalidParameter(
                f"cannot share the {name} namespace of a container when user namespaces are enabled: use --userns=host for both"
            )


def apply(remap: Remap, spec: Spec, mapped: set[str]) -> None:
    """Put the user namespace into a spec; ``mapped`` are destinations of mounts whose files keep their ids inside."""
    uids, gids = list(remap.uids), list(remap.gids)
    linux = spec["linux"]
    linux["uidMappings"], linux["gidMappings"] = uids, gids
    linux["namespaces"] = [{"type": "user"}, *linux["namespaces"]]
    for mount in spec["mounts"]:
        if mount["destination"] in mapped:
            mount["uidMappings"], mount["gidMappings"] = uids, gids
    kinds: set[str] = {one["type"] for one in linux["namespaces"]}
    spec["mounts"] = [one for mount in spec["mounts"] if (one := _possible(mount, kinds))]


def _possible(mount: Mount, kinds: set[str]) -> Mount | None:
    """Root of a user namespace mounts only what belongs to its namespaces; the machine's own comes as a bind mount."""
    owner = {"mqueue": "ipc", "cgroup": "cgroup"}.get(mount.get("type", ""))
    if owner is None or owner in kinds:
        return mount
    source = mount["destination"]
    if owner == "cgroup":
        from coved.runtime.cgroups import mount_point

        source = mount_point()
    elif not Path(source).is_dir():  # the machine itself has none
        return None
    options = [*mount["options"], "rbind", "rprivate"]
    return {"destination": mount["destination"], "type": "bind", "source": source, "options": options}
