"""What an image is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from coved.images.documents import Platform
from coved.store.blobs import DamagedBlob


@dataclass(frozen=True)
class Image:
    """An image of this engine.

    ``id`` is ``sha256:`` and the digest of ``config``'s bytes. ``config`` is the image's configuration document (OCI
    image spec, config.md) as it was loaded. ``tags`` are familiar names such as ``busybox:latest``, ``digests``
    familiar names with a digest. ``size`` is in bytes, of all layers; ``created`` is RFC 3339 text or "".
    """

    id: str
    config: dict[str, Any]
    size: int
    diff_ids: tuple[str, ...]
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    tagged_at: str = ""
    damage: str = ""
    """Why ``config`` is empty although the image has one: it cannot be read. Such an image can be shown and removed."""

    def intact(self) -> Self:
        """The image itself. Raises ``DamagedBlob`` when nothing can be made of it any more."""
        if self.damage:
            raise DamagedBlob(self.damage)
        return self

    @property
    def container_config(self) -> dict[str, Any]:
        """What containers inherit: Env, Cmd, Entrypoint, WorkingDir, User, Labels, ExposedPorts, Volumes..."""
        return self.config.get("config") or {}

    @property
    def labels(self) -> dict[str, str]:
        return self.container_config.get("Labels") or {}

    @property
    def platform(self) -> Platform:
        """What it is for, as its configuration says: Linux, if that says nothing."""
        system, *rest = (str(self.config.get(key) or "") for key in ("os", "architecture", "variant"))
        return Platform(system or "linux", *rest)

    @property
    def created(self) -> str:
        return str(self.config.get("created") or "")

    @property
    def short_id(self) -> str:
        """The twelve digits that people see."""
        return self.id.removeprefix("sha256:")[:12]


@dataclass(frozen=True)
class ImageUser:
    """A container that was created from an image."""

    container_id: str
    running: bool


UsersOf = Callable[[str], list[ImageUser]]
"""Given an image id, the containers that need it; the containers domain registers one."""


@dataclass(frozen=True)
class Removed:
    """One line of the answer to a removal: either a name that was taken away or an image or layer that was deleted."""

    untagged: str = ""
    deleted: str = ""


@dataclass(frozen=True)
class Pruned:
    """What a prune removed; ``reclaimed`` in bytes."""

    removed: list[Removed] = field(default_factory=list)
    reclaimed: int = 0
