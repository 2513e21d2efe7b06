"""Which files of a tree a step takes (COPY, ADD): sources with wildcards, ``--exclude``, ``--parents``.

Copying and cache keys (``hashing``) both go by this, so that a key is of exactly what would be copied. The rules are
BuildKit's: a link that a source names is followed, within the tree, and no link below it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

from coved.build.errors import BuildError
from coved.build.files.places import DEPTH_MAX, OPEN_DIRECTORY, clean, join, open_exactly, resolve, split, status
from coved.dockerfile.ignore import Matcher
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.wildcards import Wildcard, has_wildcards


class NotThere(BuildError):
    """A source names nothing; the words are BuildKit's."""

    def __init__(self, path: str) -> None:
        super().__init__(f'"/{path}": not found')


class Found(NamedTuple):
    """What a source names."""

    named: str
    """Its clean path in the tree as the source has it, which names the copy."""
    path: str
    """Where it is: as ``named``, but without symbolic links in it."""
    status: os.stat_result


class Filter(NamedTuple):
    """Of a directory that is copied, what is taken. Paths are those below it."""

    include: Matcher | None = None
    below: Matcher | None = None
    """Leaves out everything but what ``include`` matches, and so tells where not to look for it."""
    exclude: Matcher | None = None

    def takes(self, path: str) -> bool:
        if self.exclude is not None and self.exclude.matches(path):
            return False
        return self.include is None or self.include.matches(path)

    def may_take_below(self, directory: str) -> bool:
        """Whether something can be taken of a directory that itself is not."""
        if self.exclude is not None and self.exclude.may_skip(directory):
            return False
        return self.below is None or not self.below.may_skip(directory)


class Source(NamedTuple):
    """A source of COPY, without its pivot."""

    path: str
    filter: Filter
    required: str = ""
    """What must be there, and taken (``--parents`` without wildcards)."""


def parse(source: str, *, parents: bool, excludes: Sequence[str]) -> Source:
    """Raises BuildError for a pattern that is none."""
    exclude = _matcher(excludes) if excludes else None
    if not parents:
        return Source(source, Filter(exclude=exclude))
    base, pivot, pattern = source.partition("/./")
    if not pivot:
        base, pattern = "/", source
    pattern = clean(pattern)
    required = "" if has_wildcards(base) or has_wildcards(pattern) else clean(f"{base}/{pattern}")
    if not pattern:  # everything
        return Source(base, Filter(exclude=exclude))
    return Source(base, Filter(_matcher([pattern]), _matcher(["**", f"!{pattern}"]), exclude), required)


def _matcher(patterns: Sequence[str]) -> Matcher:
    try:
        return Matcher(patterns)
    except DockerfileError as error:
        raise BuildError(str(error)) from None


def find(root: int, source: str) -> list[Found]:
    """What a source names in the tree of the descriptor ``root``: nothing when it has wildcards that nothing matches.

    Raises NotThere, BuildError, OSError.
    """
    return [_found(root, path) for path in _matches(root, source)]


def _found(root: int, path: str) -> Found:
    real = resolve(root, path)
    found = status(root, real)
    if found is None:
        raise NotThere(path)
    return Found(path, real, found)


def _matches(root: int, source: str) -> list[str]:
    """The paths that match, in the order of a walk through the tree."""
    parts = clean(source).split("/")
    plain = next((i for i, part in enumerate(parts) if has_wildcards(part)), len(parts))
    if plain == len(parts):
        return [clean(source)]
    try:
        patterns = [Wildcard(part) for part in parts[plain:]]
    except DockerfileError as error:
        raise BuildError(str(error)) from None
    base = resolve(root, "/".join(parts[:plain]))
    found = status(root, base)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return []
    return list(_matching(root, base, patterns))


def _matching(root: int, folder: str, patterns: Sequence[Wildcard]) -> Iterator[str]:
    directory = open_exactly(root, folder, OPEN_DIRECTORY)
    try:
        names = [name for name in _names(directory) if patterns[0].matches(name)]
        if len(patterns) > 1:
            names = [name for name in names if _is_directory(directory, name)]
    finally:
        os.close(directory)
    for name in names:
        if len(patterns) == 1:
            yield join(folder, name)
        else:
            yield from _matching(root, join(folder, name), patterns[1:])


def _is_directory(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


FILE, ENTER, LEAVE = range(3)


class Step(NamedTuple):
    """Of a walk: a file, or a directory that is entered or left."""

    kind: int
    path: str
    """Below what is walked through; "" is that itself."""
    taken: bool
    """A directory that is not may have files that are."""
    status: os.stat_result
    parent: int
    """Descriptor of the directory that it is in."""
    name: str
    directory: int = -1
    """Descriptor of the directory that is entered or left, open in between."""


def walk(
    root: int, found: Found, filter: Filter, wanted: Callable[[], bool] = lambda: True
) -> Generator[Step, None, None]:
    """Goes through what is taken of what was found, sorted by name. Without recursion, for a tree may be nested as deep as
    its maker likes. Raises OSError, BuildError; and also when it is not ``wanted`` any more."""
    folder, name = split(found.path)
    outer = open_exactly(root, folder, OPEN_DIRECTORY)
    stack: list[tuple[Step, Iterator[str]]] = []
    try:
        if not stat.S_ISDIR(found.status.st_mode):
            yield Step(FILE, "", True, found.status, outer, name)
            return
        top = os.open(name or ".", OPEN_DIRECTORY, dir_fd=outer)
        step = Step(ENTER, "", True, found.status, outer, name, top)
        stack.append((step, _names(top)))
        yield step
        while stack:
            current, names = stack[-1]
            child = next(names, None)
            if child is None:
                yield current._replace(kind=LEAVE)
                os.close(current.directory)
                stack.pop()
                continue
            path = f"{current.path}/{child}" if current.path else child
            taken = filter.takes(path)
            if not taken and not filter.may_take_below(path):
                continue
            if not wanted():
                raise BuildError("context canceled")
            status_ = os.stat(child, dir_fd=current.directory, follow_symlinks=False)
            if not stat.S_ISDIR(status_.st_mode):
                # A layer alone shows the whiteouts that it has for layers below.
                if taken and not (stat.S_ISCHR(status_.st_mode) and status_.st_rdev == 0):
                    yield Step(FILE, path, True, status_, current.directory, child)
                continue
            if len(stack) >= DEPTH_MAX:
                raise BuildError(f"directories are nested more than {DEPTH_MAX} deep at /{path[:200]}...")
            directory = os.open(child, OPEN_DIRECTORY, dir_fd=current.directory)
            step = Step(ENTER, path, taken, status_, current.directory, child, directory)
            stack.append((step, _names(directory)))
            yield step
    finally:
        for step, _ in stack:
            os.close(step.directory)
        os.close(outer)


def _names(directory: int) -> Iterator[str]:
    return iter(sorted(os.listdir(directory)))
