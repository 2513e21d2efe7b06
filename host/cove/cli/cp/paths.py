"""Paths as `docker cp` reads them: cleaned like Go's path/filepath, with what a trailing `/` and `/.` says kept.

`dir/.` stands for what is in the directory, `dir/` only for the wish that it is one.
"""

from __future__ import annotations

import errno
import os
import posixpath
from types import ModuleType
from typing import NamedTuple

from cove.cli.errors import CliError, os_error_text


class Rules:
    """The rules for one kind of path: `posixpath` for a container's, `os.path` for the local system's."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.separator: str = module.sep

    def clean(self, path: str) -> str:
        """The shortest equal path by its words alone; "." for none (Go's filepath.Clean)."""
        cleaned: str = self._module.normpath(path)
        return cleaned[1:] if cleaned.startswith("//") and self.separator == "/" else cleaned  # POSIX keeps a double /

    def join(self, *parts: str) -> str:
        return self.clean(self.separator.join(part for part in parts if part))

    def is_absolute(self, path: str) -> bool:
        """Whether `path` starts at a root; `\\dir` does too, on Windows."""
        return bool(self._module.isabs(path)) or path.startswith(self.separator)

    def base(self, path: str) -> str:
        """The last word of the path as it is written: "." for `dir/.` and for none, `/` for the root."""
        bare = path.rstrip(self.separator)
        if not bare:
            return self.separator if path else "."
        return str(self._module.basename(bare))

    def ends_in_separator(self, path: str) -> bool:
        return path.endswith(self.separator)

    def means_contents(self, path: str) -> bool:
        """Whether the path ends in `/.`."""
        return self.base(path) == "."

    def asserts_directory(self, path: str) -> bool:
        return self.ends_in_separator(path) or self.means_contents(path)

    def split(self, path: str) -> tuple[str, str]:
        """(directory, name) of the cleaned path; the name of `dir/.` is "."."""
        cleaned = self.clean(path)
        if self.means_contents(path):
            return (cleaned if cleaned != "." else "."), "."
        directory = self._module.dirname(cleaned)
        return (self.clean(directory) if directory else "."), self.base(cleaned)

    def keep_ending(self, cleaned: str, original: str) -> str:
        """`cleaned` with the `/` or `/.` that `original` ends in."""
        if self.means_contents(original) and not self.means_contents(cleaned):
            cleaned = (cleaned if self.ends_in_separator(cleaned) else cleaned + self.separator) + "."
        if self.ends_in_separator(original) and not self.ends_in_separator(cleaned):
            cleaned += self.separator
        return cleaned

    def rebased(self, path: str, target: str) -> tuple[str, str]:
        """`target`, which the link `path` leads to, with the ending of `path`; and the name that what is found there
        gets in an archive, empty for its own.
        """
        if self.means_contents(path) and not self.means_contents(target):
            target += self.separator + "."
        if self.ends_in_separator(path) and not self.ends_in_separator(target):
            target += self.separator
        return target, self.base(path) if self.base(path) != self.base(target) else ""


CONTAINER = Rules(posixpath)
LOCAL = Rules(os.path)


class Place(NamedTuple):
    """One end of a copy. `rename` is the name that it goes by in the archive when that is not its own."""

    path: str
    exists: bool = False
    is_directory: bool = False
    rename: str = ""


def working_directory() -> str:
    """The current directory by the name that the shell knows it by, when that is true (Go's os.Getwd)."""
    logical = os.environ.get("PWD", "")
    try:
        if os.path.isabs(logical) and os.path.samefile(logical, "."):
            return logical
        return os.getcwd()
    except OSError as error:
        raise CliError(f"getwd: {(error.strerror or str(error)).lower()}") from error


def absolute(path: str) -> str:
    """A local path from the root, its ending kept. Raises `CliError`."""
    path = path.replace("/", LOCAL.separator)
    full = LOCAL.clean(path) if os.path.isabs(path) else LOCAL.join(working_directory(), path)
    return LOCAL.keep_ending(full, path)


def resolve(path: str) -> str:
    """`path` without links. Raises `CliError` when it does not exist, or must be a directory and is none."""
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise CliError("not a directory") from error
        if error.errno == errno.ELOOP:
            raise CliError("EvalSymlinks: too many links") from error
        raise CliError(os_error_text(error, "lstat")) from error
    if LOCAL.asserts_directory(path) and not os.path.isdir(real):
        raise CliError("not a directory")
    return real


def local_source(path: str, *, follow: bool) -> Place:
    """What stands at `path`, which is absolute, to be copied; a link is resolved with `follow` only, those on the way
    to it always. Raises `CliError`.
    """
    if follow:
        resolved, rename = LOCAL.rebased(path, resolve(path))
    else:
        head, tail = path.rpartition(LOCAL.separator)[::2]
        resolved = resolve(head + LOCAL.separator) + LOCAL.separator + tail
        changed = LOCAL.ends_in_separator(path) and LOCAL.base(path) != LOCAL.base(resolved)
        rename = LOCAL.base(path) if changed else ""
    import stat

    try:
        found = os.lstat(resolved)
    except OSError as error:
        raise CliError(os_error_text(error, "lstat")) from error
    return Place(resolved, True, stat.S_ISDIR(found.st_mode), rename)


MOST_LINKS = 10
"""How many links docker follows from a destination."""


def local_destination(path: str) -> Place:
    """Where a copy to `path`, which is absolute, goes: a link is followed, also to what does not exist yet, but its
    directory must exist. Raises `CliError`.
    """
    import stat

    given, links = path, 0
    try:
        while True:
            found = os.lstat(path)
            if not stat.S_ISLNK(found.st_mode):
                return Place(path, True, stat.S_ISDIR(found.st_mode))
            if links > MOST_LINKS:
                raise CliError(f"too many symlinks in {given}")
            links += 1
            target = os.readlink(path)
            path = target if os.path.isabs(target) else LOCAL.join(LOCAL.split(path)[0], target)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CliError(os_error_text(error, "lstat")) from error
    parent = LOCAL.split(path)[0]
    try:
        is_directory = stat.S_ISDIR(os.stat(parent).st_mode)
    except OSError as error:
        raise CliError(os_error_text(error, "stat")) from error
    if not is_directory:
        raise CliError("not a directory")
    return Place(path)


def check_output(path: str) -> None:
    """Raise `CliError` for a local path that nothing can be copied to: no directory to be in, a device."""
    import stat

    from cove.cli.quoting import quoted

    parent = LOCAL.split(LOCAL.clean(path))[0]
    if parent != "." and not _exists(parent):
        raise CliError(f"invalid output path: directory {quoted(parent)} does not exist")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise CliError(os_error_text(error, "stat")) from error
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        raise CliError(f"invalid output path: {quoted(path)} must be a directory or a regular file: got a device")


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # something is there; what is wrong with it is told when it is used
    return True


def arrange(source: Place, destination: Place, rules: Rules) -> tuple[str, str, str]:
    """Where an archive of `source` is unpacked, and (old, new) how its entries are renamed for that; both empty for
    not at all. `rules` are those of the destination's side. Raises `CliError` for what cannot be copied there.
    """
    if destination.exists and destination.is_directory:
        return destination.path, "", ""
    if destination.exists and source.is_directory:
        raise CliError("cannot copy directory")
    if not destination.exists and not source.is_directory and rules.asserts_directory(destination.path):
        raise CliError("no such directory")
    directory, name = rules.split(destination.path)
    other = CONTAINER if rules is LOCAL else LOCAL
    old = source.rename or other.split(source.path)[1]
    return directory, old, name


def renamed(name: str, old: str, new: str) -> str:
    """`name`, an archive's, with `old` at its start as `new`; the root has no name of its own."""
    return name.replace("" if old == "/" else old, new, 1)
