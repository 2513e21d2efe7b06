"""A file system's contents in memory: what packages are merged into and what the file system writers write out."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

MERGED = ("bin", "lib", "lib64", "sbin")
"""Directories of the root that are links into /usr (Debian's merged /usr)."""


@dataclass(frozen=True, slots=True)
class Node:
    """One file. `mode` holds type and permissions (stat(2)); `data` is a file's content or a symbolic link's target."""

    mode: int
    data: bytes = b""
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


def directory(permissions: int = 0o755) -> Node:
    return Node(stat.S_IFDIR | permissions)


def file(data: bytes, permissions: int = 0o644) -> Node:
    return Node(stat.S_IFREG | permissions, data)


def symlink(target: str) -> Node:
    return Node(stat.S_IFLNK | 0o777, target.encode())


def character_device(major: int, minor: int, permissions: int = 0o600) -> Node:
    return Node(stat.S_IFCHR | permissions, device=(major, minor))


@dataclass(slots=True)
class Tree:
    """Files by path. Paths are relative to the root, without a leading slash; the root itself is the empty path."""

    nodes: dict[str, Node] = field(default_factory=lambda: {"": directory()})

    def add(self, path: str, node: Node) -> None:
        """Put `node` at `path`, with the directories above it.

        Raises `ValueError` when the path leaves the tree, or would replace something else than itself: two packages that both
        own a file are a mistake in the recipe.
        """
        path = clean(path)
        if path == "":
            if not node.is_dir:
                raise ValueError("the root must be a directory")
            self.nodes[""] = node
            return
        self._add_parents(path)
        old = self.nodes.get(path)
        if old is not None and old != node and not (old.is_dir and node.is_dir):
            raise ValueError(f"/{path} comes from two places")
        self.nodes[path] = node

    def replace(self, path: str, node: Node) -> None:
        """Put `node` at `path` whatever lies there (no directory)."""
        self.nodes.pop(clean(path), None)
        self.add(path, node)

    def update(self, other: Tree) -> None:
        """Add everything of `other`."""
        for path, node in other.nodes.items():
            if path:
                self.add(path, node)

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield everything but the root; a directory before what is in it, and always in the same order."""
        for path in sorted(self.nodes, key=lambda path: path.split("/")):
            if path:
                yield path, self.nodes[path]

    def children(self) -> dict[str, list[str]]:
        """The names in each directory, sorted as bytes."""
        result: dict[str, list[str]] = {path: [] for path, node in self.nodes.items() if node.is_dir}
        for path in self.nodes:
            if path:
                parent, _, name = path.rpartition("/")
                result[parent].append(name)
        for names in result.values():
            names.sort(key=str.encode)
        return result

    def resolve(self, path: str) -> Node | None:
        """The node at `path`, following symbolic links in every component; None when there is none."""
        for _ in range(40):
            parts = clean(path).split("/")
            for index in range(1, len(parts) + 1):
                prefix = "/".join(parts[:index])
                node = self.nodes.get(prefix)
                if node is None:
                    return None
                if node.is_symlink:
                    target = posixpath.join("/" + posixpath.dirname(prefix), node.data.decode())
                    path = posixpath.normpath(posixpath.join(target, *parts[index:]))
                    break
            else:
                return node
        return None

    def _add_parents(self, path: str) -> None:
        parent = posixpath.dirname(path)
        node = self.nodes.get(parent)
        if node is None:
            self._add_parents(parent)
            self.nodes[parent] = directory()
        elif not node.is_dir:
            raise ValueError(f"/{parent} is not a directory, yet /{path} should be in it")


def clean(path: str) -> str:
    """`path` without what does not name anything, and below /usr where Debian moved it.

    Raises `ValueError` when it leads out of the tree.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise ValueError(f"{path!r} leads out of the file system")
    if len(parts) > 1 and parts[0] in MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)
