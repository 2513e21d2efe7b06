"""What files were hashed to, from one build to the next: 48 bytes a file, on the disk, and in memory only while a tree is hashed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import struct
from functools import cached_property
from pathlib import Path

_MAGIC = b"cove-hashes-1\n\0\0"
_KEY, _VALUE = 16, 32
_ENTRY = _KEY + _VALUE
_IDENTITY = struct.Struct("<QqqQ")
ENTRIES_MAX = 200_000
"""Of one tree."""
TREES_MAX = 32


class HashMemory:
    """Blocking; for worker threads. Whatever is lost or damaged in it is hashed again. Two that hash one tree at a time keep
    what the last has."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, tree: str) -> TreeHashes:
        """``tree`` is the key of a tree; of "" nothing is remembered."""
        if not tree:
            return TreeHashes(None)
        return TreeHashes(self._directory / hashlib.sha256(tree.encode("utf-8", "surrogateescape")).hexdigest())


class TreeHashes:
    """One tree's, while it is hashed."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._used: dict[bytes, bytes] = {}
        self._news = False

    @cached_property
    def _before(self) -> dict[bytes, bytes]:
        """Read when it is first asked for."""
        data = b""
        if self._file is not None:
            with contextlib.suppress(OSError):
                data = self._file.read_bytes()
        if not data.startswith(_MAGIC):
            return {}
        places = range(len(_MAGIC), len(data) - _ENTRY + 1, _ENTRY)
        return {data[at : at + _KEY]: data[at + _KEY : at + _ENTRY] for at in places}

    def key(self, path: str, status: os.stat_result) -> bytes:
        """Changes when the file may have changed. Not by its device, of which an overlay has another each time."""
        numbers = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        data = _IDENTITY.pack(*numbers) + os.fsencode(path)
        return hashlib.blake2b(data, digest_size=_KEY).digest()

    def get(self, key: bytes) -> bytes | None:
        value = self._before.get(key)
        if value is not None:
            self._used[key] = value
        return value

    def put(self, key: bytes, value: bytes) -> None:
        if len(self._used) < ENTRIES_MAX:
            self._used[key] = value
            self._news = True

    def save(self) -> None:
        """What was asked for this time comes first: the rest goes when there is too much of it."""
        if self._file is None or not self._news:
            return
        kept = {**self._used, **{key: value for key, value in self._before.items() if key not in self._used}}
        entries = [key + value for key, value in kept.items()][:ENTRIES_MAX]
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._file.with_name(f".{secrets.token_hex(8)}")
        try:
            new.write_bytes(_MAGIC + b"".join(entries))
            new.rename(self._file)
        except OSError:  # a full disk, for one: then it is hashed again
            with contextlib.suppress(OSError):
                new.unlink()
        self._forget_oldest(self._file.parent)

    def _forget_oldest(self, directory: Path) -> None:
        with contextlib.suppress(OSError):
            files = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in files[TREES_MAX:]:
                path.unlink()
