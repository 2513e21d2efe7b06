"""Bounds the cache of downloaded packages: what the VM image is made of stays, and what was used lately, up to a size."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from pathlib import Path

from cove.errors import CoveError
from cove.image import inputs
from cove.image.download import lock_of
from cove.image.recipe import load_lock, lock_path
from cove.machine.architecture import here

KEEP_S = 30 * 24 * 3600.0
"""Seconds that a package may go without being used."""
KEEP_BYTES = 512 << 20
"""Of packages that the present VM image is not made of: the base images of all releases have a tenth of it."""
IN_USE_S = 3600.0
"""What was asked for so lately may just be unpacked, by another process as well, and stays in any case."""


def pinned() -> frozenset[str]:
    """The digests of what the present VM image is made of; none when that cannot be read."""
    try:
        return frozenset(package.sha256 for package in load_lock(lock_path(inputs.recipe_dir(), here())))
    except (CoveError, OSError, ValueError, KeyError):
        return frozenset()


def trim(directory: Path, needed: Collection[str] = (), *, keep_s: float = KEEP_S, keep_bytes: int = KEEP_BYTES) -> int:
    """Remove from `directory` what is not `needed` (SHA-256s) and was not used for `keep_s` seconds, and then what was not used for
    longest until no more than `keep_bytes` of what is not needed are left; return the bytes that are free again.

    A file's time is when it was last used (see `Downloader`). Safe beside other processes, and never raises `OSError`: what cannot be
    removed stays.
    """
    now = time.time()
    found = [(used, size, path) for path, used, size in _files(directory) if path.stem not in needed]
    left, freed = sum(size for _, size, _ in found), 0
    for used, size, path in sorted(found, key=lambda one: one[0]):
        if now - used < IN_USE_S:
            break
        if (now - used > keep_s or left > keep_bytes) and _removed(path, used):
            left -= size
            freed += size
    return freed


def _files(directory: Path) -> list[tuple[Path, float, int]]:
    """Files that are whole, and beginnings of others (`.part`)."""
    found = []
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.is_file():
                    found.append((path, status.st_mtime, status.st_size))
    return found


def _removed(path: Path, used: float) -> bool:
    """Whether it is gone; another process that asks for it at the same time has it."""
    lock = lock_of(path)
    with contextlib.suppress(OSError):
        if not lock.try_acquire():
            return False
        with lock:
            if path.stat().st_mtime == used:
                path.unlink()
                return True
    return False
