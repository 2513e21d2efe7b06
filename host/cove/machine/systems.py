"""Which VM image a machine starts with, and which it can go back to (docs/decisions/0049)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace

from cove.errors import CoveError
from cove.machine import lifecycle, runstate, suspended
from cove.machine.files import sync_folder, write_whole
from cove.machine.paths import MachinePaths


@dataclass(frozen=True, slots=True)
class Systems:
    """Digests of VM images; "" where there is none."""

    used: str = ""
    """With this one its engine answered last."""
    before: str = ""
    """With this one it did before."""
    trying: str = ""
    """It was to start with this one, and has not answered since."""
    pinned: bool = False
    """It went back: it stays with the one that it uses until an upgrade is asked for. With `trying` it is to go back to that."""

    @property
    def kept(self) -> str:
        """The image that one which is `pinned` starts with."""
        return self.trying or self.used

    def answered(self, digest: str) -> Systems:
        """When the engine of that image answers."""
        if digest == self.used:
            return replace(self, trying="", pinned=self.pinned and self.kept == digest)
        return Systems(digest, self.used, "", self.pinned)

    def stayed(self) -> Systems:
        """Without a rollback whose engine has not answered."""
        return replace(self, trying="", pinned=False) if self.pinned and self.trying else self

    def back(self, name: str) -> Systems:
        """For the start that goes back. Raises `CoveError` when there is nothing to go back to."""
        if self.trying and self.used:  # the newer one never answered: what was used last is the one before
            return replace(self, trying=self.used, pinned=True)
        if self.pinned:
            raise CoveError(
                f"the machine {name} has gone back already, to the VM image {self.used[:16]}: no older one is kept",
                f"take the newest one again with: cove machine upgrade {name}",
            )
        if not self.before:
            raise CoveError(f"the machine {name} has used no other VM image before: there is none to go back to")
        return replace(self, trying=self.before, pinned=True)


def load(paths: MachinePaths) -> Systems:
    """What is noted; nothing when that cannot be read."""
    try:
        told = json.loads(paths.systems.read_text("utf-8"))
        known = {one.name: one.type for one in fields(Systems)}
        values = {name: value for name, value in told.items() if name in known}
        if not all(isinstance(value, bool if name == "pinned" else str) for name, value in values.items()):
            return Systems()
        return Systems(**values)
    except (OSError, ValueError, AttributeError):
        return Systems()


def save(paths: MachinePaths, systems: Systems) -> None:
    """Raises `OSError`; then what was noted before still is."""
    write_whole(paths.systems, json.dumps(asdict(systems)).encode())
    sync_folder(paths.folder)


def answered(paths: MachinePaths, digest: str) -> bool:
    """Note that the engine of that image answers. Whether anything has changed by that. Raises `OSError`."""
    before = load(paths)
    if (after := before.answered(digest)) == before:
        return False
    save(paths, after)
    return True


def needed() -> set[str]:
    """The images of all machines: to start with, to go back to, and of VMs that run or are suspended."""
    found: set[str] = set()
    for paths in map(MachinePaths, lifecycle.names()):
        systems = load(paths)
        found |= {systems.used, systems.before, systems.trying, runstate.image(paths), suspended.image(paths)}
    return found - {""}
