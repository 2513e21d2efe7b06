"""Files that a command's `--output` names: whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cove.cli.errors import CliError, os_error_text

_REFUSED = (
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "symbolic link directly"),
    (stat.S_ISFIFO, "named pipe (FIFO)"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device file"),
    (stat.S_ISBLK, "block device file"),
)


def check_file(path: str, failure: str) -> None:
    """Raise `CliError`, `failure` before its reason, when no regular file can take the place of `path`."""
    parent = Path(path).parent
    if str(parent) not in (".", ".."):
        try:
            found = parent.stat()
        except OSError as error:
            raise CliError(f"{failure}: invalid output path: {os_error_text(error, 'stat')}") from error
        if not stat.S_ISDIR(found.st_mode):
            raise CliError(f"{failure}: invalid output path: stat {parent}: not a directory")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise CliError(f"{failure}: failed to stat output path: {os_error_text(error, 'lstat')}") from error
    for is_kind, kind in _REFUSED:
        if is_kind(mode):
            raise CliError(f"{failure}: cannot write to a {kind}")


def write_file(path: str, chunks: Iterable[bytes]) -> None:
    """Write `chunks` beside `path` and put the file in its place, readable by its owner alone. Raises `CliError`."""
    target = Path(path).absolute()
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".tmp-{target.name}", delete=False) as file:
            partial = Path(file.name)
            try:
                for chunk in chunks:
                    file.write(chunk)
                file.close()
                partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CliError(os_error_text(error)) from error
