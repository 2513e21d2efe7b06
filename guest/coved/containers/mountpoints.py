"""What a container has mounted besides its root: binds, volumes and tmpfs, from every way in which the API says so."""

from __future__ import annotations

import posixpath
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from coved.containers.config_schema import Json
from coved.errors import InvalidParameter
from coved.volumes import validate_name

_ACCESS = {"ro", "rw"}
_PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
_MODES = (_ACCESS, {"z", "Z"}, {"cached", "delegated", "consistent"}, {"nocopy"}, _PROPAGATIONS)
"""Of each kind a mode has one at most."""


@dataclass(frozen=True)
class MountPoint:
    """One mount. ``kind`` is bind, volume, tmpfs or image; ``source`` a path for a bind, a volume's name ("" for a new one), the
    name of an image."""

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
    subpath: str = ""
    """What of a volume or an image is mounted, relative to its root; "" for all."""
    image_id: str = ""
    """Of an image that is mounted: its name may come to mean another."""
    recursive: bool = True
    """A bind has what is mounted in its source, too."""
    read_only_below: bool = True
    """A bind that is not writable is that all the way down."""
    of_tmpfs_flag: bool = False
    """``--tmpfs``, which an inspect tells of elsewhere."""
    driver: str = ""
    driver_options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    """What a volume that is not there is made with, as are the two before."""
    anonymous: bool | None = None
    """The volume was asked for without a name, and goes with its last container where that is asked for. None: its label tells."""

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


def collect(
    config: Json, host: Json, inherited: list[MountPoint], *, look: bool = True, drives: bool = False
) -> list[MountPoint]:
    """All mounts of a container, one for each destination: ``inherited`` (volumes-from), the image's volumes, then what was asked for.

    Args:
        look: whether what a bind comes from is on this machine, and is looked for. In the VM it is not (``coved.shares``).
        drives: paths may be as Windows writes them, C:\\Users\\me.

    Raises InvalidParameter.
    """
    found = {mount.destination: mount for mount in inherited}
    asked: dict[str, MountPoint] = {}
    for mount in (
        *(_bind(text, host["VolumeDriver"], drives=drives) for text in host["Binds"] or ()),
        *(_mount(raw, must_exist=look, drives=drives) for raw in host["Mounts"] or ()),
        *(
            MountPoint("tmpfs", _destination(path), options=options, of_tmpfs_flag=True)
            for path, options in (host["Tmpfs"] or {}).items()
        ),
    ):
        if mount.destination in asked:
            raise InvalidParameter(f"Duplicate mount point: {mount.destination}")
        asked[mount.destination] = mount
    for path in config["Volumes"] or ():
        destination = _destination(path)
        found.setdefault(destination, MountPoint("volume", destination, driver=host["VolumeDriver"]))
    found.update(asked)
    # A mount on top of another one's directory has to come after it.
    return sorted(found.values(), key=lambda mount: mount.destination.count("/"))


def inherit(mounts: list[MountPoint], mode: str) -> list[MountPoint]:
    """What ``--volumes-from`` gives of another container's mounts; ``mode`` as it is written there, "" for none.

    Raises InvalidParameter.
    """
    if mode and not _valid(mode, nocopy=False):
        raise InvalidParameter(f"invalid mode: {mode}")
    words = mode.split(",")
    propagation = next((word for word in words if word in _PROPAGATIONS), "")
    # The volumes are there already, and have what they are to have.
    return [
        replace(
            mount,
            writable=mount.writable and "ro" not in words,
            propagation=propagation if propagation and mount.kind == "bind" else mount.propagation,
            copy=False,
            mode="",
        )
        for mount in mounts
        if mount.kind != "tmpfs"
    ]


def _valid(mode: str, *, nocopy: bool = True) -> bool:
    words = mode.split(",")
    kinds = [{*kind} for kind in _MODES if nocopy or "nocopy" not in kind]
    return all(any(word in kind for kind in kinds) for word in words) and all(
        sum(word in kind for word in words) <= 1 for kind in kinds
    )


def _destination(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid mount config: invalid mount path: '{path}' mount path must be absolute")
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        raise InvalidParameter(
            f"invalid volume specification: '{path}': invalid specification: destination can't be '/'"
        )
    return clean


def _bind(text: str, driver: str, *, drives: bool) -> MountPoint:
    parts = text.split(":")
    if drives and len(parts) > 1 and len(parts[0]) == 1 and parts[0].isalpha() and parts[1][:1] in ("/", "\\"):
        parts[:2] = [":".join(parts[:2])]  # C:\Users
    if len(parts) == 1:
        return MountPoint("volume", _destination(parts[0]), driver=driver)
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    source, target, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    if len(parts) == 3 and not _valid(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    words = mode.split(",")
    propagation = next((word for word in words if word in _PROPAGATIONS), "")
    raw: Json = {"Type": "bind" if is_path(source, drives=drives) else "volume", "Source": source, "Target": target}
    raw["ReadOnly"] = "ro" in words
    if propagation:
        raw["BindOptions"] = {"Propagation": propagation}
    if "nocopy" in words:
        raw["VolumeOptions"] = {"NoCopy": True}
    try:
        mount = _mount(raw, must_exist=False, drives=drives)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid volume specification: '{text}': {error}") from None
    if mount.kind == "bind":
        return replace(mount, create_source=True, mode=mode)
    validate_name(source)
    return replace(mount, mode=mode or "z", driver=driver)


def is_path(source: str, *, drives: bool) -> bool:
    """Whether a source is an absolute path of the computer that has it."""
    return source.startswith("/") or (
        drives and source[1:2] == ":" and source[2:3] in ("/", "\\") and source[0].isalpha()
    )


def _mount(raw: Json, *, must_exist: bool, drives: bool) -> MountPoint:
    from coved.containers import mount_request  # for those who ask for mounts

    return mount_request.parse(raw, must_exist=must_exist, drives=drives)


def ensure_source(mount: MountPoint) -> None:
    """Make the source of a bind that may be made; raise InvalidParameter when one is missing that may not."""
    path = Path(mount.source)
    if path.exists():
        return
    if not mount.create_source:
        raise InvalidParameter(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')
    path.mkdir(parents=True, exist_ok=True)
