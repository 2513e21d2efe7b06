"""The VM images that lie ready on this computer, found by what they were made from.

`<data>/images/<digest>/` holds one image and its `manifest.json`; `<data>/images/inputs/<key>` names the digest that recipe,
lock, engine and builder of that key gave. The key is a hash of a few hundred small files: a start must not read 60 MB.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.machine import systems
from cove.machine.architecture import AMD64, Architecture, named
from cove.machine.files import sync_folder
from cove.machine.locks import FileLock
from cove.machine.paths import images_dir
from cove.progress import Event, Report

_LOOK_S = 0.1
_TELL_S = 30.0
"""Whoever waits for another says so this often, which also tells that it is still there."""


@dataclass(frozen=True, slots=True)
class VmImage:
    """A built VM image.

    `digest` is the hexadecimal SHA-256 of its uncompressed contents; `command_line` is the kernel's, whole but for a console.
    """

    digest: str
    architecture: Architecture
    directory: Path
    kernel: Path
    initramfs: Path
    system: Path
    command_line: str
    gives_byte_code: bool = False
    """Its guest tells what it has compiled (`cove.image.byte_code`): those of a Cove before that do not."""

    @property
    def compiled(self) -> Path:
        """Another initramfs, with byte code: it is there once the image has been booted."""
        return self.directory / "initramfs-compiled"

    @property
    def manifest(self) -> Path:
        """What is in the image and where it came from, as JSON."""
        return self.directory / "manifest.json"


def current(architecture: Architecture) -> VmImage | None:
    """Return the image of the present recipe and engine, or None when it has yet to be built."""
    from cove.image.inputs import key

    pointer = _pointer(key(architecture))
    try:
        digest = pointer.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return find(digest)


def find(digest: str) -> VmImage | None:
    """Return the image of that digest when it is here and complete."""
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        return None
    directory = images_dir() / digest
    try:
        # The manifest is written last, so whoever has one is complete.
        manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
        command_line = str(manifest["command_line"])
        # Images of before there was a choice do not say.
        architecture = named(manifest.get("architecture", AMD64.name))
        gives = bool(manifest.get("gives_byte_code"))
        artefacts: dict[str, Any] = manifest["artefacts"]
        if any((directory / name).stat().st_size != info["size"] for name, info in artefacts.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    kernel, initramfs, system = (directory / name for name in ("vmlinuz", "initramfs", "system.erofs"))
    return VmImage(digest, architecture, directory, kernel, initramfs, system, command_line, gives)


def folders() -> list[Path]:
    """Of all images that are here, complete or not; their names are the digests."""
    return [path for path in images_dir().glob("*") if len(path.name) == 64]


def spoilt(image: VmImage) -> list[Path]:
    """The files of an image that are not what was built. Reads all of it: half a second. Raises `OSError`, `ValueError`."""
    import gzip
    import hashlib
    import zlib

    artefacts = json.loads(image.manifest.read_text("utf-8"))["artefacts"]
    found = []
    for path in (image.kernel, image.initramfs, image.system):
        try:
            # The sum of the initramfs is of what was compressed (`builder.write`).
            with gzip.open(path) if path == image.initramfs else path.open("rb") as file:
                digest = hashlib.sha256()
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            found.append(path)
            continue
        if digest.hexdigest() != artefacts[path.name]["sha256"]:
            found.append(path)
    return found


@contextlib.contextmanager
def building(progress: Report) -> Iterator[None]:
    """One builder at a time; who comes meanwhile waits for it. What builders that died have left is removed.

    `progress` may raise to end the waiting.
    """
    with FileLock(images_dir() / ".build.lock") as lock:
        told = 0.0
        while not lock.try_acquire():
            if time.monotonic() - told > _TELL_S:
                progress(Event("image", "waiting for another command that makes it"))
                told = time.monotonic()
            time.sleep(_LOOK_S)
        for unfinished in images_dir().glob(".new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        for pointer in _pointer("").glob("*.*"):
            pointer.unlink(missing_ok=True)
        yield


def new_directory() -> Path:
    """Return a new empty directory beside the images, for an image that is being made."""
    images_dir().mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".new-", dir=images_dir()))


def publish(directory: Path, digest: str, input_key: str) -> VmImage:
    """Make the complete image in `directory` (from `new_directory`) the one of `input_key`, whole on the disk before it has its name.

    Another process may have published the same bits meanwhile; then they stay and `directory` goes. Raises `OSError`.
    """
    image = find(digest)
    if image is None:
        target = images_dir() / digest
        shutil.rmtree(target, ignore_errors=True)
        for path in directory.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(directory)
        directory.replace(target)
        sync_folder(images_dir())
        image = find(digest)
        if image is None:
            raise RuntimeError(f"the image in {target} is not complete")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    pointer = _pointer(input_key)
    pointer.parent.mkdir(exist_ok=True)
    temporary = pointer.with_suffix(f".{os.getpid()}")
    temporary.write_text(digest + "\n", "ascii")
    temporary.replace(pointer)
    return image


def latest() -> VmImage | None:
    """The image that was published last, by whatever version of Cove; None when it is not there any more."""
    published = _published()
    return find(max(published)[2]) if published else None


def _published() -> list[tuple[int, Path, str]]:
    """Of each image: when, by which pointer, and its digest."""
    found: list[tuple[int, Path, str]] = []
    for path in _pointer("").glob("*"):
        if path.suffix:
            continue  # of a process that is publishing, or was killed then
        with contextlib.suppress(OSError, UnicodeDecodeError):  # another process prunes as well
            found.append((path.stat().st_mtime_ns, path, path.read_text("ascii").strip()))
    return found


def prune() -> list[str]:
    """Remove all images but those that machines need and the last one published; return the digests of those removed."""
    published = _published()
    kept = systems.needed()
    if published:
        kept.add(max(published)[2])
    for _, path, digest in published:
        if digest not in kept:
            path.unlink(missing_ok=True)
    removed = []
    for directory in folders():
        if directory.name not in kept:
            # Not by half: what is left of an image that only begins to go must not look like one.
            (directory / "manifest.json").unlink(missing_ok=True)
            # Windows refuses to remove what a VM has open: it goes another time.
            shutil.rmtree(directory, ignore_errors=True)
            if not directory.exists():
                removed.append(directory.name)
    return removed


def _pointer(input_key: str) -> Path:
    return images_dir() / "inputs" / input_key
