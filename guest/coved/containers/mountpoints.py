"""What a container has mounted besides its root: binds, volumes and tmpfs, from every way in which the API says so."""

from __future__ import annotations

import posixpath
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coved.containers.config_schema import Json
from coved.errors import InvalidParameter

# What people mean in the engine's own machine, wherever that is.
_OF_THE_VM = ("/var/run/docker.sock", "/run/docker.sock", "/dev", "/proc", "/sys", "/lib/modules", "/var/lib/cove")
_MODES = {"ro", "rw", "z", "Z", "nocopy", "copy", "cached", "delegated", "consistent"}
_PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


@dataclass(frozen=True)
class MountPoint:
    """One mount. ``kind`` is bind, volume or tmpfs; ``source`` a path for a bind, a volume's name ("" for a new one)."""

    kind: str
    destination: str
    source: str = ""
    writable: bool = True
    propagation: str = ""
    copy: bool = True
    """A new volume starts with what the image has there."""
    create_source: bool = False
    """A bind's source is made when it is missing (``-v``, not ``--mount``)."""
    options: str = ""
    """Options of a tmpfs, as mount(8) takes them."""
    mode: str = ""
    """The mode as it was written in ``-v``."""

    def event_attributes(self, action: str, container_id: str) -> dict[str, str]:
        """What dockerd's events of a volume, ``mount`` and ``unmount``, tell of it."""
        attributes = {"container": container_id, "driver": "local"}
        if action == "mount":
            attributes |= {
                "destination": self.destination,
                "propagation": self.propagation,
                "read/write": "true" if self.writable else "false",
            }
        return attributes

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def collect(config: Json, host: Json, inherited: list[MountPoint]) -> list[MountPoint]:
    """All mounts of a container, one for each destination: ``inherited`` (volumes-from), the image's volumes, then what was asked for.

    Raises InvalidParameter.
    """
    found = {mount.destination: mount for mount in inherited}
    asked: dict[str, MountPoint] = {}
    for mount in (
        *(_bind(text) for text in host["Binds"] or ()),
        *(_mount(raw) for raw in host["Mounts"] or ()),
        *(MountPoint("tmpfs", _destination(path), options=options) for path, options in (host["Tmpfs"] or {}).items()),
    ):
        if mount.destination in asked:
            raise InvalidParameter(f"Duplicate mount point: {mount.destination}")
        asked[mount.destination] = mount
    for path in config["Volumes"] or ():
        destination = _destination(path)
        found.setdefault(destination, MountPoint("volume", destination))
    found.update(asked)
    # A mount on top of another one's directory has to come after it.
    return sorted(found.values(), key=lambda mount: mount.destination.count("/"))


def _destination(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid mount config: invalid mount path: '{path}' mount path must be absolute")
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        raise InvalidParameter(
            f"invalid volume specification: '{path}': invalid specification: destination can't be '/'"
        )
    return clean


def _bind(text: str) -> MountPoint:
    parts = text.split(":")
    if len(parts) == 1:
        return MountPoint("volume", _destination(parts[0]))
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    source, destination, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    words = [word for word in mode.split(",") if word]
    if unknown := [word for word in words if word not in _MODES and word not in _PROPAGATIONS]:
        raise InvalidParameter(f"invalid mode: {unknown[0]}")
    propagation = next((word for word in words if word in _PROPAGATIONS), "")
    writable = "ro" not in words
    if source.startswith("/"):
        propagation = propagation or "rprivate"
        path = posixpath.normpath(source)
        return MountPoint("bind", _destination(destination), path, writable, propagation, create_source=True, mode=mode)
    if not _VOLUME_NAME.fullmatch(source):
        raise InvalidParameter(
            f'create {source}: "{source}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" '
            "are allowed. If you intended to pass a host directory, use absolute path"
        )
    return MountPoint("volume", _destination(destination), source, writable, copy="nocopy" not in words, mode=mode)


def _mount(raw: Json) -> MountPoint:
    kind, target, source = raw.get("Type"), raw.get("Target"), raw.get("Source") or ""
    if not isinstance(target, str) or not isinstance(source, str):
        raise InvalidParameter("invalid mount config: Target and Source must be strings")
    if not target:
        raise InvalidParameter(f'invalid mount config for type "{kind}": field Target must not be empty')
    destination, writable = _destination(target), not raw.get("ReadOnly")
    if kind == "bind":
        if not source.startswith("/"):
            problem = (
                "field Source must not be empty"
                if not source
                else f"invalid mount path: '{source}' mount path must be absolute"
            )
            raise InvalidParameter(f'invalid mount config for type "bind": {problem}')
        options = raw.get("BindOptions") or {}
        propagation = options.get("Propagation") or "rprivate"
        create = bool(options.get("CreateMountpoint"))
        return MountPoint("bind", destination, posixpath.normpath(source), writable, propagation, create_source=create)
    if kind == "volume":
        return MountPoint(
            "volume", destination, source, writable, copy=not (raw.get("VolumeOptions") or {}).get("NoCopy")
        )
    if kind == "tmpfs":
        options = raw.get("TmpfsOptions") or {}
        words = [] if writable else ["ro"]
        if options.get("SizeBytes"):
            words.append(f"size={int(options['SizeBytes'])}")
        if options.get("Mode"):
            words.append(f"mode={int(options['Mode']):o}")
        return MountPoint("tmpfs", destination, writable=writable, options=",".join(words))
    raise InvalidParameter(f'invalid mount config for type "{kind}": mount type unknown')


def elsewhere(mounts: list[MountPoint]) -> list[str]:
    """Warnings about binds that mean a folder of the user's computer, of which the VM knows nothing yet."""
    return [
        f"{mount.source} is a path in Cove's VM: folders of this computer cannot be mounted yet"
        for mount in mounts
        if mount.kind == "bind" and not mount.source.startswith(_OF_THE_VM)
    ]


def ensure_source(mount: MountPoint) -> None:
    """Make the source of a bind that may be made; raise InvalidParameter when one is missing that may not."""
    path = Path(mount.source)
    if path.exists():
        return
    if not mount.create_source:
        raise InvalidParameter(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')
    path.mkdir(parents=True, exist_ok=True)
