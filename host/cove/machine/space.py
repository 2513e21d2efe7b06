"""A full disk, told in words that help: what could not be written, and where room is needed."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from cove.errors import CoveError
from cove.machine.sizes import approximate_size

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: OSError) -> bool:
    """Whether `error` is about want of room, or of quota."""
    return error.errno in _FULL


def full(folder: Path, what: str) -> CoveError:
    """The error of a disk that has no room in `folder` for `what`."""
    left = ""
    with contextlib.suppress(OSError):
        left = f" ({approximate_size(shutil.disk_usage(folder).free)} are left)"
    return CoveError(
        f"the disk is full: there is no room in {folder} for {what}{left}",
        "remove what is not needed there and try again, or set COVE_HOME to a folder on another disk",
    )


@contextlib.contextmanager
def room(folder: Path, what: str) -> Iterator[None]:
    """Turn a full disk in the block into a `CoveError` about `what` in `folder`; other errors pass."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(folder, what) from error
        raise
