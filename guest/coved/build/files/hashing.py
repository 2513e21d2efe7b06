"""Digests of what a step takes of a tree, for cache keys: of paths, kinds, modes, owners, links, attributes and content, and
not of times, as BuildKit's contenthash has it. The digests themselves are our own.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import stat
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from coved.build.errors import BuildError
from coved.build.files import places, selection
from coved.build.files.hash_memory import HashMemory, TreeHashes
from coved.build.files.places import ATTRIBUTES, OPEN_FILE, join
from coved.build.files.selection import FILE, LEAVE, Step

_HEADER = struct.Struct("<IIIIQQ")
_MARK = _HEADER.pack(0xFFFFFFFF, 0, 0, 0, 0, 0)
"""No name is as long."""
_ALONE = 4 << 20
"""Bytes of a file from which on it is hashed beside others."""
_SMALL = 64 << 10
_FEW = 32
"""So many small files are sooner read again than looked up."""
_THREADS = min(4, os.cpu_count() or 1)
_OPEN_MAX = 32
"""Files that are open meanwhile."""
_WAITING_MAX = 10_000
"""Entries that are in memory meanwhile."""
_TICK_NS = 50_000_000
"""What was changed so shortly ago may change again without its times showing it: the kernel's clock has ticks."""


def digest(
    sources: Sequence[str],
    *,
    directory: Path | None = None,
    layers: Sequence[Path] = (),
    parents: bool = False,
    excludes: Sequence[str] = (),
    ref: str,
    memory: HashMemory | None = None,
    tree: str = "",
    wanted: Callable[[], bool] = lambda: True,
) -> str:
    """ "sha256:<hex>" of exactly what would be copied of a directory, or of layers (topmost first); blocking.

    What a wildcard matches may be nothing, as for BuildKit.

    Args:
        sources, parents, excludes: as ``CopyOrder`` has them.
        ref: what the tree is called in an error.
        memory: with ``tree`` being the tree's key, files of it that are as they were are not read again.

    Raises BuildError in BuildKit's words, also when a source is not there.
    """
    hashes = memory.of(tree) if memory is not None else TreeHashes(None)
    try:
        with places.opened(directory, layers) as root, contextlib.closing(_Digest(hashes)) as whole:
            for text in sources:
                _add(whole, root, selection.parse(text, parents=parents, excludes=excludes), wanted)
            result = whole.finish()
    except BuildError as error:
        raise BuildError(f"failed to compute cache key: failed to calculate checksum of ref {ref}: {error}") from error
    except OSError as error:
        what = places.describe(error)
        raise BuildError(f"failed to compute cache key: failed to calculate checksum of ref {ref}: {what}") from error
    hashes.save()
    return f"sha256:{result}"


def _add(whole: _Digest, root: int, source: selection.Source, wanted: Callable[[], bool]) -> None:
    took = False
    for found in selection.find(root, source.path):
        whole.mark()
        above: list[Step] = []
        """Directories that come into the copy only if something below them does."""
        with contextlib.closing(selection.walk(root, found, source.filter, wanted)) as steps:
            for step in steps:
                if step.kind == LEAVE:
                    if above and above[-1].path == step.path:
                        above.pop()
                elif step.path and not step.taken:
                    above.append(step)
                # A directory that a source names lends the copy neither its name nor its mode or owner.
                elif step.kind == FILE or step.path:
                    took = True
                    for folder in above:
                        whole.directory(folder)
                    above.clear()
                    if step.kind == FILE:
                        whole.file(step.path or places.split(found.named)[1], join(found.path, step.path), step)
                    else:
                        whole.directory(step)
    if source.required and not took:
        raise selection.NotThere(source.required)


class _Digest:
    """Takes entries in order; big files are hashed in threads meanwhile."""

    def __init__(self, hashes: TreeHashes) -> None:
        self._hash = hashlib.sha256()
        self._hashes = hashes
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: collections.deque[tuple[bytes, bytes | Future[bytes], bytes]] = collections.deque()
        self._open = 0
        self._small = 0

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def finish(self) -> str:
        self._settle(0)
        return self._hash.hexdigest()

    def mark(self) -> None:
        """Another of the sources, or of what they match."""
        self._append(_MARK, b"")

    def directory(self, step: Step) -> None:
        self._append(_head(step.path, step.status), _attributes(step.directory))

    def file(self, name: str, path: str, step: Step) -> None:
        """Anything but a directory; ``path`` is its place in the tree."""
        found = step.status
        head = _head(name, found)
        if stat.S_ISLNK(found.st_mode):
            self._append(head, os.fsencode(os.readlink(step.name, dir_fd=step.parent)))
        elif not stat.S_ISREG(found.st_mode):
            self._append(head, b"")
        elif found.st_size < _SMALL and self._small < _FEW:
            self._small += 1
            self._append(head, _body(self._opened(step)))
        else:
            self._remembered(head, path, step)

    def _remembered(self, head: bytes, path: str, step: Step) -> None:
        found = step.status
        key = self._hashes.key(path, found)
        if (known := self._hashes.get(key)) is not None:
            self._append(head, known)
            return
        if found.st_ctime_ns > time.time_ns() - _TICK_NS:
            key = b""
        fd = self._opened(step)
        if found.st_size < _ALONE:
            self._append(head, _body(fd), key)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "hashing")
        self._open += 1
        self._append(head, self._pool.submit(_body, fd), key)

    def _opened(self, step: Step) -> int:
        return os.open(step.name, OPEN_FILE, dir_fd=step.parent)

    def _append(self, head: bytes, body: bytes | Future[bytes], key: bytes = b"") -> None:
        """``key`` is that under which what comes of it is remembered; "" is not at all."""
        if not self._waiting and isinstance(body, bytes):
            self._take(head, body, key)
            return
        self._waiting.append((head, body, key))
        if len(self._waiting) >= _WAITING_MAX:
            self._settle(0)
        elif self._open >= _OPEN_MAX:
            self._settle(_OPEN_MAX // 2)

    def _take(self, head: bytes, body: bytes, key: bytes) -> None:
        self._hash.update(head + body)
        if key:
            self._hashes.put(key, body)

    def _settle(self, left: int) -> None:
        """Takes in what waits, as long as more than ``left`` files are open, and what waits for none."""
        while self._waiting and (self._open > left or isinstance(self._waiting[0][1], bytes)):
            head, body, key = self._waiting.popleft()
            if not isinstance(body, bytes):
                body = body.result()
                self._open -= 1
            self._take(head, body, key)


def _head(path: str, status: os.stat_result) -> bytes:
    """Of fixed length but for the path and what follows, of which both tell how long they are."""
    name = os.fsencode(path)
    mode = status.st_mode
    device = status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
    link = status.st_size if stat.S_ISLNK(mode) else 0
    return _HEADER.pack(len(name), mode, status.st_uid, status.st_gid, device, link) + name


def _body(fd: int) -> bytes:
    """32 bytes of a file's content and attributes. Closes ``fd``."""
    with os.fdopen(fd, "rb", buffering=0) as file:
        content = hashlib.file_digest(file, "sha256").digest()
        attributes = _attributes(fd)
    return hashlib.sha256(content + attributes).digest() if any(attributes) else content


def _attributes(fd: int) -> bytes:
    """32 bytes of those that are copied; zeros when there are none."""
    names = sorted(name for name in os.listxattr(fd) if name.startswith(ATTRIBUTES))
    if not names:
        return bytes(32)
    whole = hashlib.sha256()
    for name in names:
        value = os.getxattr(fd, name)
        whole.update(struct.pack("<II", len(os.fsencode(name)), len(value)) + os.fsencode(name) + value)
    return whole.digest()
