"""Layers on disk: ``<root>/layers/<digest>/diff``, unpacked once and shared by all images that have them.

Layers are named by their diff id (the digest of the uncompressed archive). The directory appears whole, by a rename,
once its content is on the disk; the database row comes after. What has no row is a leftover and goes at the next start.
"""

import os
import secrets
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from coved.errors import no_room
from coved.images.compression import DecompressedStream, HashedStream, PeekedStream, Source, media_type
from coved.images.documents import OCI_LAYER
from coved.images.extract import Extractor
from coved.images.tar import BadArchive, TarReader
from coved.runtime import syscalls
from coved.store.blobs import BlobWriter
from coved.store.trees import remove_tree, sync, sync_file_system

_TEMPORARY = "incomplete-"


@dataclass(frozen=True)
class Blob:
    """A layer's archive as it came; ``size`` in bytes. ``media_type`` is OCI's, and tells how it is compressed."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class Layer:
    """``size`` is of its files, in bytes."""

    diff_id: str
    size: int
    media_type: str = ""
    """Of the archive that it was unpacked from."""


class KeptSource:
    """Passes an archive on, and keeps it in a blob."""

    def __init__(self, source: Source, writer: BlobWriter) -> None:
        self._source = source
        self._writer = writer

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._writer.write(data)
        return data


class LayerStore:
    """Blocking; for worker threads, but for ``path``.

    Args:
        is_known: Tells whether a diff id has a database row; such a layer may be in use and is never touched. It is
            called in worker threads.
    """

    def __init__(self, root: Path, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._directory = root / "layers"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, diff_id: str) -> Path:
        return self._directory / diff_id.removeprefix("sha256:") / "diff"

    def room(self) -> Path:
        """A new place to unpack a layer in."""
        return self._directory / f"{_TEMPORARY}{secrets.token_hex(8)}"

    def unpack(self, source: Source, room: Path, expected: str = "", keep: BlobWriter | None = None) -> Layer:
        """Unpacks an archive, plain or compressed, into ``room``, and makes it durable.

        Args:
            expected: The diff id that it must have; "" takes it as it is.
            keep: Takes the archive as it is read.

        Raises ``BadArchive`` when the content is not what was expected, or is not acceptable.
        """
        diff = room / "diff"
        diff.mkdir(parents=True, mode=0o755)
        root = os.open(diff, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchmod(root, 0o755)
            peeked = PeekedStream(source)
            kind = media_type(peeked.head)
            # What registries do not know, such as xz, is kept as if it had come plain.
            as_it_came = KeptSource(peeked, keep) if keep is not None and kind else peeked
            plain: Source = DecompressedStream(as_it_came)
            stream = HashedStream(plain if kind or keep is None else KeptSource(plain, keep))
            extractor = Extractor(root)
            extractor.extract(TarReader(stream))
            stream.drain()
            if expected and stream.digest() != expected:
                raise BadArchive(f"layer verification failed: expected {expected}, got {stream.digest()}")
            sync_file_system(root)
        finally:
            os.close(root)
        return Layer(stream.digest(), extractor.size, kind or OCI_LAYER)

    def identify(self, source: Source) -> Layer:
        """What an archive, plain or compressed, would be the layer of; nothing is unpacked. Raises ``InvalidParameter``."""
        peeked = PeekedStream(source)
        stream = HashedStream(DecompressedStream(peeked))
        stream.drain()
        return Layer(stream.digest(), 0, media_type(peeked.head) or OCI_LAYER)

    def publish(self, room: Path, layer: Layer) -> None:
        """Makes what was unpacked in ``room`` the layer, unless that is known already. One caller at a time."""
        if self._is_known(layer.diff_id):
            return
        final = self.path(layer.diff_id).parent
        self.remove(layer.diff_id)  # a leftover without a row
        room.rename(final)
        sync(self._directory)

    def adopt(self, tree: Path, diff_id: str) -> None:
        """Moves a tree of the same file system to where a layer's files are, which is to be on the disk (``sync``) before there
        is a row. A symbolic link to them takes its place in the same instant: who has the tree's path finds them by it.
        """
        self.remove(diff_id)  # a leftover without a row
        place = self.path(diff_id)
        place.parent.mkdir(mode=0o755)
        place.symlink_to(place.absolute())  # a path without a file behind it until it is the tree's
        syscalls.exchange(str(tree), str(place))

    def sync(self) -> None:
        """All that there is on the store's file system is on the disk."""
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_file_system(directory)
        finally:
            os.close(directory)

    def give_back(self, tree: Path, diff_id: str) -> None:
        """Undoes ``adopt``, however far that has come, of a layer that has no database row."""
        if tree.is_symlink():
            syscalls.exchange(str(self.path(diff_id)), str(tree))
        self.remove(diff_id)

    def recover(self, tree: Path) -> None:
        """Gives a tree back whose adoption an engine was killed in: what its link leads to is the only copy, and ``clean``, which
        must come later, would delete it. Other trees are left alone. Raises OSError."""
        if not tree.is_symlink():
            return
        diff_id = f"sha256:{tree.readlink().parent.name}"
        if not self._is_known(diff_id) and stat.S_ISDIR(self.path(diff_id).lstat().st_mode):
            self.give_back(tree, diff_id)

    def discard(self, rooms: Iterable[Path]) -> None:
        """Deletes what is left in rooms: nothing when it was published."""
        for room in rooms:
            remove_tree(room)

    def remove(self, diff_id: str) -> None:
        """Deletes a layer that has no database row any more."""
        final = self.path(diff_id).parent
        condemned = self._directory / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            final.rename(condemned)
        except FileNotFoundError:
            return
        except OSError as error:
            if no_room(error) is None:
                raise
            condemned = final  # there is no block for another name in the folder
        remove_tree(condemned)

    def clean(self) -> None:
        """Deletes what interrupted work has left: everything that has no row."""
        for path in self._directory.iterdir():
            if not self._is_known(f"sha256:{path.name}"):
                remove_tree(path)
