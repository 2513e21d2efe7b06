"""The volumes of a pod, and where its containers have them."""

from __future__ import annotations

import math
import posixpath
import re
from dataclasses import dataclass, field

from cove.kube import quantity
from cove.kube.play.configs import Configs
from cove.kube.play.fields import Fields
from cove.kube.play.plan import CLAIM, VOLUMES, Body, Entry, HostPath, Volume
from cove.kube.play.problems import Place

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
"""A claim of no manifest may be any volume that is there, and the engine's names have more signs than a cluster's."""
HOST_KINDS = ("", "Directory", "DirectoryOrCreate", "File", "Socket", "CharDevice", "BlockDevice")


@dataclass
class Storage:
    """Of one pod. `sources` are the volumes by the names in the manifest: what a mount of each is, but for its target."""

    pod: str
    namespace: str
    labels: dict[str, str]
    configs: Configs
    claims: dict[tuple[str, str], Volume]
    wanted_claims: dict[str, Place]
    group: int | None
    sources: dict[str, Body] = field(default_factory=dict)
    volumes: list[Volume] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    host_paths: list[HostPath] = field(default_factory=list)
    _files: dict[str, set[str]] = field(default_factory=dict)
    """Of volumes that are read-only, the paths in them."""

    def read(self, pod: Fields) -> None:
        for volume in pod.each("volumes"):
            name = volume.text("name", needed=True)
            if name in self.sources:
                volume.wrong(f"{volume.path}: there are two volumes {name}")
            if name and not NAME.match(name):
                volume.wrong(f"{volume.path}.name: {name!r} is no name: a-z, 0-9 and - are")
            self._one(name, volume)

    @property
    def mounts(self) -> list[Body]:
        """Of the pod's own container, which has all of them, to fill them."""
        return [
            {**source, "Target": f"/{VOLUMES}/{name}", "ReadOnly": False}
            for name, source in self.sources.items()
            if source
        ]

    def _one(self, name: str, volume: Fields) -> None:
        if empty := volume.inner("emptyDir"):
            self._empty(name, empty)
        elif host := volume.inner("hostPath"):
            self._host(name, host)
        elif claim := volume.inner("persistentVolumeClaim"):
            self._claim(name, claim)
        elif config := volume.inner("configMap"):
            self._config(name, config, "ConfigMap", config.text("name", needed=True))
        elif secret := volume.inner("secret"):
            self._config(name, secret, "Secret", secret.text("secretName", needed=True))
        else:
            kinds = [each for each in volume.names() if each != "name"]
            if kinds:
                volume.ignore(*kinds)
                volume.cannot(f"{volume.path}.{kinds[0]} is not supported")
                self.sources[name] = {}  # known, but nothing
            else:
                self._empty(name, None)

    def _own(self, name: str, options: dict[str, str] | None = None) -> None:
        made = Volume(f"{self.pod}_{name}", self.labels, options or {})
        self.volumes.append(made)
        self.sources[name] = {"Type": "volume", "Source": made.name, "VolumeOptions": {"NoCopy": True}}

    def _folder(self, name: str, of_new: str = "") -> None:
        """The volume's own folder: anybody's, and with fsGroup that group's."""
        mode = 0o777 if self.group is None else 0o2777
        self.entries.append(Entry(f"{VOLUMES}/{name}", mode, self.group or 0, of_new=of_new))

    def _empty(self, name: str, fields: Fields | None) -> None:
        options: dict[str, str] = {}
        if fields:
            medium = fields.text("medium")
            size = read_quantity(fields, "sizeLimit")
            if medium == "Memory":
                options = {"type": "tmpfs", "device": "tmpfs", "o": f"mode=0777{f',size={size}' if size else ''}"}
            elif medium:
                fields.cannot(f"{fields.path}.medium {medium} is not supported")
            elif size:
                fields.note(f"{fields.path}.sizeLimit limits nothing: the volume is as large as the disk")
        self._own(name, options)
        self._folder(name)

    def _claim(self, name: str, fields: Fields) -> None:
        claim = fields.text("claimName", needed=True)
        if claim and not VOLUME_NAME.match(claim):
            fields.wrong(f"{fields.path}.claimName: {claim!r} is no name of a volume")
        read_only = bool(fields.flag("readOnly"))
        if (self.namespace, claim) not in self.claims and claim:
            self.wanted_claims.setdefault(claim, fields.place)
        self.sources[name] = {
            "Type": "volume", "Source": claim, "VolumeOptions": {"NoCopy": True}, "ReadOnly": read_only,
        }  # fmt: skip
        self._folder(name, claim)

    def _host(self, name: str, fields: Fields) -> None:
        path, kind = fields.text("path", needed=True), fields.text("type")
        if path and not path.startswith("/"):
            fields.wrong(f"{fields.path}.path must be absolute")
        if kind not in HOST_KINDS:
            fields.cannot(f"{fields.path}.type {kind} is not supported")
        create = kind in ("", "DirectoryOrCreate")
        self.sources[name] = {"Type": "bind", "Source": path, "BindOptions": {"CreateMountpoint": create}}
        if kind:
            text = f"{fields.about}: {fields.path}: {path} is no {kind.removesuffix('OrCreate')}"
            self.host_paths.append(HostPath(f"/{VOLUMES}/{name}", kind.removesuffix("OrCreate"), fields.place, text))

    def _config(self, name: str, fields: Fields, kind: str, config: str) -> None:
        optional = fields.flag("optional")
        found = self.configs.get(kind, self.namespace, config)
        if found is None and not optional and config:
            fields.wrong(
                f"{fields.path}: there is no {kind} {config}" + (" (--configmap FILE)" if kind == "ConfigMap" else "")
            )
        mode = fields.number("defaultMode", 0o644, 0, 0o777)
        files: dict[str, tuple[bytes, int]] = {}
        if fields.has("items"):
            for item in fields.each("items"):
                key, path = item.text("key", needed=True), item.text("path", needed=True)
                own = item.number("mode", mode, 0, 0o777)
                if not _inside(path):
                    item.wrong(f"{item.path}.path must be relative, without ..")
                elif found is not None and key in found:
                    files[posixpath.normpath(path)] = found[key], own
                elif found is not None and not optional:
                    item.wrong(f"{item.path}: {kind} {config} has no key {key}")
        else:
            fields.ignore("items")
            files = {key: (data, mode) for key, data in (found or {}).items()}
        self._own(name)
        self.sources[name]["ReadOnly"] = True
        base, group = f"{VOLUMES}/{name}", self.group or 0
        self.entries.append(Entry(base, 0o755, group))
        folders = {parent for path in files for parent in _parents(path)}
        self.entries += [Entry(f"{base}/{each}", 0o755, group) for each in sorted(folders)]
        # A group that is given may read what is its.
        more = 0o440 if self.group is not None else 0
        self.entries += [Entry(f"{base}/{path}", mode | more, group, data) for path, (data, mode) in files.items()]
        self._files[name] = {*files, *folders}

    def of_container(self, container: Fields) -> list[Body]:
        """What a container mounts."""
        made, targets = [], set()
        for mount in container.each("volumeMounts"):
            mount.ignore("recursiveReadOnly")
            name, target = mount.text("name", needed=True), mount.text("mountPath", needed=True)
            below = mount.text("subPath")
            if mount.text("mountPropagation", "None") != "None":
                mount.cannot(f"{mount.path}.mountPropagation is not supported")
            if name not in self.sources:
                mount.wrong(f"{mount.path}: there is no volume {name}")
                continue
            target = target if target.startswith("/") else f"/{target}"
            if target in targets:
                mount.wrong(f"{mount.path}: two volumes at {target}")
            targets.add(target)
            source = self.sources[name]
            if not source:
                mount.ignore(*mount.names())
                continue
            read_only = bool(mount.flag("readOnly")) or bool(source.get("ReadOnly"))
            source = {**source, "Target": target, "ReadOnly": read_only}
            made.append(self._below(mount, name, source, below) if below else source)
        return made

    def _below(self, mount: Fields, name: str, source: Body, below: str) -> Body:
        if not _inside(below):
            mount.wrong(f"{mount.path}.subPath must be relative, without ..")
            return source
        below = posixpath.normpath(below)
        if source.get("Type") == "bind":
            return {**source, "Source": posixpath.join(source["Source"], below)}
        if name in self._files:
            if below not in self._files[name]:
                mount.wrong(f"{mount.path}.subPath: {below} is not in volume {name}")
        else:
            self.entries += [
                Entry(f"{VOLUMES}/{name}/{each}", 0o777, missing=True) for each in (*_parents(below), below)
            ]
        return {**source, "VolumeOptions": {"NoCopy": True, "Subpath": below}}


def read_claim(name: str, namespace: str, labels: dict[str, str], fields: Fields) -> Volume:
    """A PersistentVolumeClaim's spec."""
    fields.ignore("accessModes", "storageClassName", "volumeName", "volumeAttributesClassName")
    if resources := fields.inner("resources"):
        resources.ignore("limits", "requests")
    if fields.text("volumeMode", "Filesystem") != "Filesystem":
        fields.cannot("spec.volumeMode Block is not supported")
    return Volume(name, {**labels, CLAIM: f"{namespace}/{name}"}, claim=True)


def read_quantity(fields: Fields, name: str, scale: int = 1) -> int:
    """A quantity times `scale` as a whole number, 0 when there is none."""
    node = fields.take(name)
    if node is None:
        return 0
    try:
        value = quantity.parse(str(node.value)) * scale
        if value < 0 or value >= 2**63:
            raise ValueError(f"{node.value} is no amount")
    except ValueError as error:
        fields.wrong(f"{fields.below(name)}: {error}", node.place)
        return 0
    return math.ceil(value)


def _inside(path: str) -> bool:
    return bool(path) and not path.startswith("/") and ".." not in path.split("/")


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: index + 1]) for index in range(len(parts))]
