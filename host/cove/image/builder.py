"""Builds the VM image: from Debian's signed index to the files a hypervisor boots."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cove.image import assemble, base_cache, cpio, erofs, inputs, mirror, package_cache, resolve, store
from cove.image.archive import Package
from cove.image.recipe import Recipe, dump_lock, load_lock
from cove.image.store import VmImage
from cove.machine import space
from cove.machine.architecture import Architecture
from cove.machine.paths import cache_dir, images_dir
from cove.progress import Event, Report, ignore

_LABEL = "cove-system"


def build(architecture: Architecture, progress: Report = ignore) -> VmImage:
    """Return the image of the present recipe and engine, building it when it is not there; on any computer, of any processor.

    Raises `CoveError` when no mirror is known, a download fails or does not verify, the recipe cannot be carried out, or the
    disk is full.
    """
    image = store.current(architecture)
    if image is not None:
        return image
    with space.room(images_dir(), "the VM image"), store.building(progress):
        return store.current(architecture) or _build(architecture, progress)


def _build(architecture: Architecture, progress: Report) -> VmImage:
    input_key = inputs.key(architecture)
    recipe = Recipe.load(inputs.recipe_dir(), architecture)
    base, packages, resolved_again = _base(recipe, progress)
    progress(Event("image", "writing the system"))
    directory = store.new_directory()
    try:
        manifest = write(directory, recipe, base, inputs.engine_files(), packages, resolved_again)
        image = store.publish(directory, manifest["digest"], input_key)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    store.prune()
    package_cache.trim(_packages_cache(), package_cache.pinned() | {package.sha256 for package in packages})
    again = "; pins resolved again" if resolved_again else ""
    progress(Event("image", f"Debian {recipe.debian}, {len(packages)} packages, signature good{again}"))
    return image


def parts(recipe: Recipe, progress: Report) -> assemble.Base:
    """What the image of the present recipe is made of. Raises `CoveError`."""
    base, _, _ = _base(recipe, progress)
    return base


def write_lock(architecture: Architecture, progress: Report = ignore) -> Path:
    """Resolve the recipe through the signed index of now, write its lock and return where it is. Raises `CoveError`."""
    recipe = Recipe.load(inputs.recipe_dir(), architecture)
    progress(Event("image", f"reading the signed index for {architecture.name}"))
    packages = resolve.resolve(recipe, resolve.index(recipe, mirror.find(), _packages_cache()))
    recipe.lock.write_bytes(dump_lock(packages))
    return recipe.lock


def write(
    directory: Path,
    recipe: Recipe,
    base: assemble.Base,
    engine: Iterable[tuple[str, Path]],
    packages: Sequence[Package] = (),
    resolved_again: bool = False,
) -> dict[str, Any]:
    """Write the image into `directory` and return its manifest. The digest is a function of the contents alone."""
    artefacts: dict[str, dict[str, Any]] = {}

    def record(name: str, digest: str) -> None:
        artefacts[name] = {"size": (directory / name).stat().st_size, "sha256": digest}

    (directory / "vmlinuz").write_bytes(base.kernel)
    record("vmlinuz", hashlib.sha256(base.kernel).hexdigest())
    with (directory / "initramfs.cpio").open("w+b") as plain:
        cpio.write(base.initramfs, plain)
        plain.seek(0)
        content = plain.read()
    (directory / "initramfs.cpio").unlink()
    # The digest is over what was compressed: zlib differs between computers.
    (directory / "initramfs").write_bytes(gzip.compress(content, 6, mtime=0))
    record("initramfs", hashlib.sha256(content).hexdigest())
    system = directory / "system.erofs"
    with system.open("wb") as output:
        erofs.write(assemble.with_engine(base.system, engine), output, label=_LABEL)
    with system.open("rb") as written:
        record("system.erofs", hashlib.file_digest(written, "sha256").hexdigest())

    whole = "".join(f"{name} {info['sha256']}\n" for name, info in sorted(artefacts.items())) + recipe.command_line
    digest = hashlib.sha256(whole.encode()).hexdigest()
    manifest = {
        "digest": digest,
        "architecture": recipe.architecture.name,
        "command_line": f"{recipe.command_line} cove.image={digest[:16]}",
        "debian": recipe.debian,
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "gives_byte_code": True,
        "resolved_again": resolved_again,
        "artefacts": artefacts,
        "packages": [
            {"name": p.name, "version": p.version, "sha256": p.sha256, "size": p.size, "archive": p.archive}
            for p in packages
        ],
    }
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return manifest


def _packages_cache() -> Path:
    return cache_dir() / "packages"


def _base(recipe: Recipe, progress: Report) -> tuple[assemble.Base, list[Package], bool]:
    locked = load_lock(recipe.lock)
    key = inputs.base_key(recipe.architecture) + hashlib.sha256(dump_lock(locked)).hexdigest()[:16]
    cached = base_cache.load(_base_cache(), key)
    if cached is not None:
        return cached, locked, False
    files, resolved_again = resolve.fetch(recipe, locked, mirror.find(), _packages_cache(), progress)
    packages = [package for package, _ in files]
    total = sum(package.size for package in packages)
    done = 0

    def unpacked(package: Package) -> None:
        nonlocal done
        done += package.size
        progress(Event("image", f"unpacking {len(packages)} packages", done, total))

    base = assemble.base(recipe, files, unpacked)
    if not resolved_again:
        # A disk that is too full for it makes the next build slow, not this one fail.
        with contextlib.suppress(OSError):
            base_cache.save(_base_cache(), key, base)
    return base, packages, resolved_again


def _base_cache() -> Path:
    return cache_dir() / "vm-image-base"
