"""What an image is made from, as one short key.

The key covers the recipe with its lock and keys, the engine's sources and the builder's own: whatever changes the image
changes the key. Everything is small text, so hashing the contents is cheap and needs no trust in time stamps.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from cove.errors import CoveError
from cove.image.recipe import lock_path
from cove.machine.architecture import Architecture


def recipe_dir() -> Path:
    """The recipe's directory: package data of an installed Cove, `vm-images/` of a checkout."""
    packaged = Path(__file__).parent / "recipe"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).parents[3] / "vm-images"
    if (checkout / "recipe.toml").is_file():
        return checkout
    raise CoveError("Cove's installation has no recipe for the VM image", "install Cove again")


def engine_dir() -> Path:
    """The directory of the engine's package, `coved`, which is installed beside `cove`."""
    spec = importlib.util.find_spec("coved")
    if spec is None or not spec.submodule_search_locations:
        raise CoveError("Cove's installation has no engine (the Python package coved)", "install Cove again")
    return Path(next(iter(spec.submodule_search_locations)))


def engine_files() -> Iterator[tuple[str, Path]]:
    """Yield every source file of the engine with its path relative to the package, in order."""
    yield from _files(engine_dir(), ".py")


def key(architecture: Architecture) -> str:
    """The key of the present recipe, engine and builder: 64 hexadecimal digits."""
    recipe = _recipe_files(architecture)
    return _key(architecture, ("recipe", recipe), ("engine", engine_files()), ("builder", _builder_files()))


def base_key(architecture: Architecture) -> str:
    """The key of all but the engine."""
    return _key(architecture, ("recipe", _recipe_files(architecture)), ("builder", _builder_files()))


def _key(architecture: Architecture, *parts: tuple[str, Iterator[tuple[str, Path]]]) -> str:
    digest = hashlib.sha256(architecture.name.encode())
    for label, files in parts:
        for name, path in files:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{label}\0{name}\0{content}\n".encode())
    return digest.hexdigest()


def _recipe_files(architecture: Architecture) -> Iterator[tuple[str, Path]]:
    """Without what pins the packages of other processors."""
    own = lock_path(recipe_dir(), architecture).name
    return ((name, path) for name, path in _files(recipe_dir(), "") if name == own or not name.startswith("lock-"))


def _builder_files() -> Iterator[tuple[str, Path]]:
    return _files(Path(__file__).parent, ".py")


def _files(root: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    found = (
        (path.relative_to(root).as_posix(), path)
        for path in root.rglob(f"*{suffix}")
        if "__pycache__" not in path.parts and path.is_file()
    )
    yield from sorted(found)
