"""What a RUN instruction mounts, as mounts of the OCI runtime spec (config.md, "Mounts")."""

from __future__ import annotations

import base64
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path

from coved.build.cache.snapshots import Draft, Snapshots
from coved.build.orders import AnyMount, BindMount, CacheMount, RunOrder, SecretMount, SocketMount, TmpfsMount
from coved.errors import EngineError
from coved.runtime.mounts import join_lower
from coved.runtime.paths import open_in_root
from coved.runtime.spec import Mount

_BIND = ["bind", "rprivate"]
_PROTECTED = ["ro", "nosuid", "nodev", "noexec"]


class RunMounts:
    """Of one command. What they need lies in its draft, and goes with that. Blocking; raises EngineError, OSError.

    Args:
        caches: the folder of each cache mount, by its position among all mounts.
    """

    def __init__(self, order: RunOrder, draft: Draft, snapshots: Snapshots, caches: Mapping[int, Path]) -> None:
        self._order = order
        self._folder = draft.directory / "mounts"
        self._snapshots = snapshots
        self._caches = caches

    def make(self) -> list[Mount]:
        """Those on top of another's folder come after it."""
        made = [self._one(position, mount) for position, mount in enumerate(self._order.mounts)]
        return sorted(made, key=lambda mount: mount["destination"].count("/"))

    def _one(self, position: int, mount: AnyMount) -> Mount:
        destination = posixpath.normpath("/" + posixpath.join(self._order.cwd, mount.target).lstrip("/"))
        if destination == "/":
            raise EngineError(f'invalid mount target "{mount.target}"')
        match mount:
            case BindMount():
                return self._bind(position, destination, mount)
            case CacheMount():
                options = [*_BIND, "ro"] if mount.read_only else _BIND
                return _of_path(destination, self._caches[position], options)
            case TmpfsMount():
                size = [f"size={mount.size}"] if mount.size > 0 else []
                return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", *size]}
            case SecretMount():
                return self._secret(position, destination, mount)
            case SocketMount():
                os.chown(mount.socket, mount.uid, mount.gid)
                mount.socket.chmod(mount.mode)
                return _of_path(destination, mount.socket, [*_BIND, "ro", "nosuid", "nodev", "noexec"])

    def _bind(self, position: int, destination: str, mount: BindMount) -> Mount:
        directory = mount.files.directory
        if directory is not None and mount.read_only:
            return _of_path(destination, _resolved(directory, mount.source), [*_BIND, "ro"])
        lower = [directory] if directory is not None else self._snapshots.lower_dirs(mount.files.refs)
        place = self._room(position, "place")
        # Even where nothing is to be written, for overlayfs takes a single directory only along with an upper one.
        upper, work = self._room(position, "upper"), self._room(position, "work")
        layers = join_lower(lower)
        return {
            "destination": destination,
            "type": "overlay",
            "source": "overlay",
            "options": [
                f"lowerdir={layers}", f"upperdir={upper}", f"workdir={work}", *(["ro"] if mount.read_only else []),
            ],
            "within": "/" + mount.source,
            "place": str(place),
        }  # fmt: skip

    def _secret(self, position: int, destination: str, mount: SecretMount) -> Mount:
        data = base64.b64encode(mount.data).decode()
        return {
            "destination": destination,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["mode=0700"],
            "within": "/secret",
            "place": str(self._room(position, "place")),
            "content": {"data": data, "mode": mount.mode, "uid": mount.uid, "gid": mount.gid},
        }

    def _room(self, position: int, name: str) -> Path:
        folder = self._folder / str(position) / name
        folder.mkdir(mode=0o755, parents=True)
        return folder


def _of_path(destination: str, source: Path, options: list[str]) -> Mount:
    return {"destination": destination, "type": "bind", "source": str(source), "options": options}


def _resolved(directory: Path, source: str) -> Path:
    """Where a path leads within a directory that nobody changes: no link in it leads out of it."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = open_in_root(root, "/" + source)
    except OSError as error:
        raise EngineError(f'failed to compute cache key: "{source}": {error.strerror}') from None
    finally:
        os.close(root)
    try:
        return Path(f"/proc/self/fd/{found}").readlink()
    finally:
        os.close(found)
