"""Whose a container's files are: in its own words, and in those of the engine, which reads and writes them from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coved.errors import EngineError
from coved.runtime.spec import IdMapping

_NOBODY = 65534
"""Who has a file of somebody that the container does not know (user_namespaces(7))."""


@dataclass(frozen=True)
class Remap:
    """Which ids of the machine containers' ids are, in order from 0 on."""

    uids: tuple[IdMapping, ...]
    gids: tuple[IdMapping, ...]


class Ids:
    """The same ids on both sides, unless the mounts that are looked at belong to a container with a user namespace."""

    def __init__(self, remap: Remap | None = None) -> None:
        self._remap = remap

    @property
    def differ(self) -> bool:
        return self._remap is not None

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """What the container calls the owner of a file."""
        if self._remap is None:
            return uid, gid
        return _inside(self._remap.uids, uid), _inside(self._remap.gids, gid)

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Whom to give a file that is to be the container's ``uid`` and ``gid``. Raises EngineError."""
        if self._remap is None:
            return uid, gid
        return _outside(self._remap.uids, uid), _outside(self._remap.gids, gid)


def _inside(mappings: Sequence[IdMapping], id: int) -> int:
    for one in mappings:
        if 0 <= id - one["hostID"] < one["size"]:
            return one["containerID"] + id - one["hostID"]
    return _NOBODY


def _outside(mappings: Sequence[IdMapping], id: int) -> int:
    for one in mappings:
        if 0 <= id - one["containerID"] < one["size"]:
            return one["hostID"] + id - one["containerID"]
    raise EngineError(f"Container ID {id} cannot be mapped to a host ID")
