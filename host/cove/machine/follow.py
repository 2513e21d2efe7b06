"""Following a log as it grows.

The standard library has no way to wait for a file on Linux or Windows, and a library that has one is too much for one command
in the foreground: the file is looked at again after a bounded wait.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOOK_S = 0.2
"""Seconds between two looks: nobody who reads along notices."""
_CHUNK = 1 << 16


def follow(path: Path, wait: Callable[[], None] = lambda: time.sleep(LOOK_S)) -> Iterator[bytes]:
    """Yield the file's contents, and then what is added, without end; `wait` is called when nothing is new.

    A file that another takes the place of (rotation) is read to its end and the other from its start; one that was cut is read
    from its start.
    """
    while True:
        try:
            with path.open("rb") as file:
                while True:
                    if data := file.read(_CHUNK):
                        yield data
                        continue
                    if _replaced(path, file.fileno()):
                        yield file.read()  # written between our last read and the rotation
                        break
                    if os.fstat(file.fileno()).st_size < file.tell():
                        break
                    wait()
        except FileNotFoundError:
            wait()  # between the two renames of a rotation


def _replaced(path: Path, descriptor: int) -> bool:
    try:
        return not os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
