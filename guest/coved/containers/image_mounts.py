"""``--mount type=image``: the files of an image, read-only, somewhere in a container (Engine API 1.48)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coved.containers.mountpoints import MountPoint
from coved.runtime.mounts import join_lower
from coved.runtime.spec import Mount


def of(mount: MountPoint, lower: Sequence[Path], folder: Path) -> Mount:
    """The mount of an image's layers, topmost first; ``folder`` is the container's, in which an empty one may be made."""
    if len(lower) == 1:  # of which there can be no overlay
        made: Mount = {
            "destination": mount.destination, "type": "bind", "source": str(lower[0]), "options": ["bind", "rprivate", "rro"],
        }  # fmt: skip
        if mount.subpath:
            made["below"] = mount.subpath
        return made
    if not lower:
        return {"destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=755"]}
    layers = join_lower(lower)
    made = {
        "destination": mount.destination, "type": "overlay", "source": "overlay", "options": [f"lowerdir={layers}", "ro"],
    }  # fmt: skip
    if mount.subpath:
        place = folder / "part"
        place.mkdir(mode=0o700, exist_ok=True)
        made["within"], made["place"] = f"/{mount.subpath}", str(place)
    return made
