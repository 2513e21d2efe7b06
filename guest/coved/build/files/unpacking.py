"""Archives that ADD unpacks at its destination."""

from __future__ import annotations

import os
from collections.abc import Callable

from coved.build.errors import BuildError
from coved.errors import InvalidParameter
from coved.files.unpack import Unpacker
from coved.images.compression import DecompressedStream
from coved.images.tar import BLOCK, TarReader, is_header
from coved.runtime.ids import Ids


class _File:
    """What is read of a file, as long as somebody wants it."""

    def __init__(self, fd: int, wanted: Callable[[], bool]) -> None:
        self._fd = fd
        self._wanted = wanted

    def read(self, size: int) -> bytes:
        if not self._wanted():
            raise BuildError("context canceled")
        return os.read(self._fd, size)


def is_archive(fd: int) -> bool:
    """Whether a file begins with a tar archive's first entry, plain or compressed: names tell nothing. The file is back at
    its beginning then."""
    block = b""
    try:
        stream = DecompressedStream(_File(fd, lambda: True))
        while len(block) < BLOCK and (data := stream.read(BLOCK - len(block))):
            block += data
    except InvalidParameter:
        return False
    finally:
        os.lseek(fd, 0, os.SEEK_SET)
    return is_header(block)


def unpack(fd: int, folder: int, owner: tuple[int, int] | None, wanted: Callable[[], bool]) -> None:
    """Puts what is in an archive into a folder; what is there already gives way. The folder is the archive's root: BuildKit
    unpacks in a chroot(2) of it, so that links in it lead nowhere else.

    Args:
        folder: its descriptor.
        owner: of everything; None takes what the archive says.

    Raises BuildError (the archive is damaged, or means harm), OSError.
    """
    unpacker = Unpacker(folder, Ids(), "/", keep_kinds=False, owner=owner)
    try:
        unpacker.extract(TarReader(DecompressedStream(_File(fd, wanted))))
    except InvalidParameter as error:
        raise BuildError(str(error)) from error
