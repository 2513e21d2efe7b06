"""Content-addressed blobs: ``<root>/blobs/sha256/<digest>``.

A blob is verified while it is written, and has its name only once it is whole and on the disk (write, fsync, rename).
What is read is verified again: a blob is what its name says, or an error.
"""

import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from coved.errors import EngineError, InvalidParameter
from coved.store import trees

_TEMPORARY = "incomplete-"


class DamagedBlob(EngineError):
    """A blob on the disk is not what its digest says."""


class DigestMismatch(InvalidParameter):
    """What came is not what was announced."""


@dataclass(frozen=True)
class SealedBlob:
    """A blob that is whole and on the disk, and not yet one of the store's: it has a temporary name. ``size`` in bytes."""

    path: Path
    digest: str
    size: int


class BlobStore:
    """Blocking; small blobs may be read and written from the event loop, large ones belong into a thread."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "blobs" / "sha256"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        return self._directory / digest.removeprefix("sha256:")

    def writer(self) -> "BlobWriter":
        """For a blob that comes in pieces; a context manager that leaves nothing behind when it is not committed."""
        return BlobWriter(self._directory)

    def put(self, data: bytes) -> str:
        """Stores a small blob and gives its digest."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def adopt(self, path: Path, digest: str) -> SealedBlob:
        """A file of the same file system, which nobody changes any more, is a blob from now on; ``digest`` is the caller's
        word for it. The file keeps its own name as well."""
        temporary = self._directory / f"{_TEMPORARY}{secrets.token_hex(8)}"
        temporary.hardlink_to(path)
        try:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
                return SealedBlob(temporary, digest, os.fstat(file.fileno()).st_size)
        except BaseException:
            temporary.unlink()
            raise

    def publish(self, blob: SealedBlob, *, sync: bool = True) -> None:
        """Makes a sealed blob one of the store's; does not matter when it is there already. Without ``sync`` its name is not
        on the disk yet, which is the caller's to see to."""
        blob.path.rename(self.path(blob.digest))
        if sync:
            trees.sync(self._directory)

    def get(self, digest: str, limit: int) -> bytes:
        """A small blob; raises ``DamagedBlob`` when it is missing, larger than ``limit`` or not what it should be."""
        try:
            with self.path(digest).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise DamagedBlob(f"blob {digest} is missing from the engine's store") from None
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise DamagedBlob(f"blob {digest} in the engine's store is damaged")
        return data

    def clean(self, is_known: Callable[[str], bool]) -> None:
        """Deletes temporary files and blobs that nobody knows."""
        for path in self._directory.iterdir():
            if not is_known(f"sha256:{path.name}"):
                path.unlink()

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)


class BlobWriter:
    """``write`` as often as needed, then ``commit``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._temporary = directory / f"{_TEMPORARY}{secrets.token_hex(8)}"
        self._file: IO[bytes] = self._temporary.open("xb")
        self._hash = hashlib.sha256()
        self._sealed = False

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)

    def seal(self, expected: str = "", *, sync: bool = True) -> SealedBlob:
        """Puts the blob on the disk (unless that is the caller's to see to); it is the caller's, to publish or to unlink.
        Raises ``DigestMismatch`` when its digest is not ``expected``."""
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected and digest != expected:
            raise DigestMismatch(f"content verification failed: expected {expected}, got {digest}")
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self._sealed = True
        return SealedBlob(self._temporary, digest, self._file.tell())

    def commit(self, expected: str = "") -> str:
        """Makes the blob durable and gives its digest; raises ``DigestMismatch`` when that is not ``expected``."""
        blob = self.seal(expected)
        self._sealed = False
        blob.path.rename(self._directory / blob.digest.removeprefix("sha256:"))
        trees.sync(self._directory)
        return blob.digest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._sealed:
            self._temporary.unlink(missing_ok=True)
