"""The VM images that lie ready on this computer, found by what they were made from.

`<data>/images/<digest>/` holds one image and its `manifest.json`; `<data>/images/inputs/<key>` names the digest that recipe,
lock, engine and builder of that key gave. The key is a hash of a few hundred small files: a start must not read 60 MB.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.machine.paths import images_dir

UNFINISHED_S = 86400
KEEP_IMAGES = 2
"""Images that `prune` leaves: the one in use and the one before it, to go back to."""


@dataclass(frozen=True, slots=True)
class VmImage:
    """A built VM image.

    `digest` is the hexadecimal SHA-256 of its uncompressed contents; `command_line` is the kernel's, whole but for a console.
    """

    digest: str
    directory: Path
    kernel: Path
    initramfs: Path
    system: Path
    command_line: str

    @property
    def manifest(self) -> Path:
        """What is in the image and where it came from, as JSON."""
        return self.directory / "manifest.json"


def current() -> VmImage | None:
    """Return the image of the present recipe and engine, or None when it has yet to be built."""
    from cove.image.inputs import key

    pointer = _pointer(key())
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
        artefacts: dict[str, Any] = manifest["artefacts"]
        if any((directory / name).stat().st_size != info["size"] for name, info in artefacts.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return VmImage(
        digest, directory, directory / "vmlinuz", directory / "initramfs", directory / "system.erofs", command_line
    )


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


def new_directory() -> Path:
    """Return a new empty directory beside the images, for an image that is being made."""
    images_dir().mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".new-", dir=images_dir()))


def publish(directory: Path, digest: str, input_key: str) -> VmImage:
    """Make the complete image in `directory` (from `new_directory`) the one of `input_key`.

    Another process may have published the same bits meanwhile; then they stay and `directory` goes.
    """
    image = find(digest)
    if image is None:
        target = images_dir() / digest
        shutil.rmtree(target, ignore_errors=True)
        directory.replace(target)
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


def prune(keep: int = KEEP_IMAGES) -> list[str]:
    """Remove all images but the `keep` last published and return the digests of those removed."""
    pointers = sorted((images_dir() / "inputs").glob("*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    kept: list[str] = []
    for pointer in pointers:
        digest = pointer.read_text("ascii").strip()
        if digest in kept:
            continue
        if len(kept) < keep:
            kept.append(digest)
        else:
            pointer.unlink(missing_ok=True)
    removed = []
    for unfinished in images_dir().glob(".new-*"):
        # Of a build that was killed; one that is younger may be under way.
        if time.time() - unfinished.stat().st_mtime > UNFINISHED_S:
            shutil.rmtree(unfinished, ignore_errors=True)
    for directory in images_dir().iterdir():
        if len(directory.name) == 64 and directory.name not in kept:
            # Windows refuses to remove what a VM has open: it goes another time.
            shutil.rmtree(directory, ignore_errors=True)
            if not directory.exists():
                removed.append(directory.name)
    return removed


def _pointer(input_key: str) -> Path:
    return images_dir() / "inputs" / input_key
