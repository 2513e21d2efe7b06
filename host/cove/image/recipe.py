"""The recipe and the lock: what people decided about the image, in typed form."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import translate
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from cove.errors import CoveError
from cove.image.archive import Package
from cove.machine.architecture import Architecture


@dataclass(frozen=True)
class Suite:
    """A part of an archive with its own index; `keys` are the files of those who may sign it."""

    name: str
    archive: str
    index: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class BootDisk:
    """What a disk that UEFI boots has more: the package with systemd's stub and its path there, and kernel modules."""

    package: str
    stub: str
    modules: tuple[str, ...]
    command_line: str


@dataclass(frozen=True)
class Recipe:
    """vm-images/recipe.toml; the file's comments explain the fields."""

    directory: Path
    architecture: Architecture
    debian: int
    kernel: str
    command_line: str
    packages: tuple[str, ...]
    suites: tuple[Suite, ...]
    drop: tuple[str, ...]
    packages_drop: Mapping[str, Sequence[str]]
    packages_keep: Mapping[str, Sequence[str]]
    modules: Mapping[str, Sequence[str]]
    files: Mapping[str, str]
    links: Mapping[str, str]
    directories: Mapping[str, int]
    boot_disk: BootDisk

    @classmethod
    def load(cls, directory: Path, architecture: Architecture) -> Recipe:
        """Read `directory`/recipe.toml. Raises `CoveError` when it is not right."""
        path = directory / "recipe.toml"
        try:
            text = path.read_text("utf-8")
            text = text.replace("@arch@", architecture.name).replace("@multiarch@", architecture.multiarch)
            raw: dict[str, Any] = tomllib.loads(text)
            own = raw["architectures"][architecture.name]
            raw["modules"]["others"] += own["modules"]
            raw["packages_keep"]["qemu-user"] = [
                "usr/share/doc/*",
                *chain.from_iterable(map(_interpreter, own["interpreters"])),
            ]
            modes = raw["directories"]["modes"]
            return cls(
                directory,
                architecture,
                raw["debian"],
                raw["kernel"],
                f"{raw['command_line']} {own['command_line']}".strip(),
                tuple(raw["packages"]),
                tuple(Suite(s["name"], s["archive"], s["index"], tuple(s["keys"])) for s in raw["suites"]),
                tuple(raw["drop"]["every"]),
                raw["packages_drop"],
                raw["packages_keep"],
                raw["modules"],
                raw["files"],
                raw["links"],
                {name: int(modes.get(name, "0755"), 8) for name in raw["directories"]["paths"]},
                BootDisk(**{**raw["boot_disk"], "modules": tuple(raw["boot_disk"]["modules"])}),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CoveError(f"the recipe {path} cannot be used: {error!r}") from error

    @property
    def lock(self) -> Path:
        """Where the packages that the image is made of are pinned."""
        return lock_path(self.directory, self.architecture)

    @cached_property
    def _dropped(self) -> re.Pattern[str]:
        return _globs(self.drop)

    def keeps(self, package: str, path: str) -> bool:
        """Whether the file `path` of `package` belongs into the image."""
        if self._dropped.fullmatch(path) or _globs(self.packages_drop.get(package, ())).fullmatch(path):
            return False
        keep = self.packages_keep.get(package)
        return keep is None or _globs(keep).fullmatch(path) is not None


def _globs(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


def lock_path(directory: Path, architecture: Architecture) -> Path:
    return directory / f"lock-{architecture.name}.json"


def _interpreter(name: str) -> list[str]:
    """The files of qemu-user by which programs of another processor are run."""
    return [
        f"usr/bin/qemu-{name}",
        f"usr/share/qemu/binfmt.d/qemu-{name}.conf",
        f"usr/libexec/qemu-binfmt/{name}-binfmt-P",
    ]


def load_lock(path: Path) -> list[Package]:
    """Read the pinned packages. Raises `CoveError` when the file is missing or not right."""
    try:
        lock = json.loads(path.read_text("utf-8"))
        return [Package(**entry) for entry in lock["packages"]]
    except FileNotFoundError:
        raise CoveError(f"there is no lock {path}", "write it with `cove vm-image lock`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CoveError(
            f"the lock {path} cannot be used: {error!r}", "write it anew with `cove vm-image lock`"
        ) from error


def dump_lock(packages: Sequence[Package]) -> bytes:
    """The lock as it stands in its file."""
    entries = []
    for package in sorted(packages, key=lambda package: package.name):
        entry = asdict(package)
        del entry["depends"]
        entries.append(entry)
    return (json.dumps({"packages": entries}, indent=1) + "\n").encode()
