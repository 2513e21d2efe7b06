"""``--squash``: the layers of a build become one, which has what all of them together have done to the base image."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from coved.build.files.places import OPEN_DIRECTORY
from coved.store.trees import OPAQUE, copy_attributes, is_opaque, remove_entry


def merge(layers: Sequence[Path], target: Path) -> None:
    """Puts overlay upper directories, the lowest first, together in ``target``, which is empty and on the same file system.

    Files are linked, not copied: layers do not change. Whiteouts stay, for they hide what the base image has.
    """
    to = os.open(target, OPEN_DIRECTORY)
    try:
        for layer in layers:
            fd = os.open(layer, OPEN_DIRECTORY)
            try:
                _merge(fd, to)
            finally:
                os.close(fd)
    finally:
        os.close(to)


def _merge(source: int, target: int) -> None:
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        present = _kind(target, name)
        if not stat.S_ISDIR(status.st_mode):
            if present is not None:
                remove_entry(target, name)
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            continue
        from_fd = os.open(name, OPEN_DIRECTORY, dir_fd=source)
        try:
            if present is not None and (present != stat.S_IFDIR or is_opaque(from_fd)):
                remove_entry(target, name)
                hides = True
                present = None
            else:
                hides = present is None and is_opaque(from_fd)
            if present is None:
                os.mkdir(name, 0o700, dir_fd=target)
            to_fd = os.open(name, OPEN_DIRECTORY, dir_fd=target)
            try:
                _merge(from_fd, to_fd)
                os.fchown(to_fd, status.st_uid, status.st_gid)
                os.fchmod(to_fd, stat.S_IMODE(status.st_mode))
                copy_attributes(from_fd, to_fd)
                if hides:
                    os.setxattr(to_fd, OPAQUE, b"y")
                os.utime(to_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(to_fd)
        finally:
            os.close(from_fd)


def _kind(directory: int, name: str) -> int | None:
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None
