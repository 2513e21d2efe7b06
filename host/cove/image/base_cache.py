"""Keeps the unpacked part of the image that an engine change does not touch: unpacking takes half a minute, reading this no second."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

from cove.image.assemble import Base
from cove.image.tree import Node, Tree


def load(directory: Path, key: str) -> Base | None:
    """The base of `key`, or None when it is not there or not whole.

    The file starts with the SHA-256 of the rest. It lies in the user's own cache and was written by Cove itself; whoever can
    write there can as well change Cove.
    """
    try:
        content = (directory / key).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    kernel, system, initramfs = pickle.loads(content[32:])
    return Base(kernel, _tree(system), _tree(initramfs))


def save(directory: Path, key: str, base: Base) -> None:
    """Keep `base` as the only one in `directory`. Raises `OSError`; then nothing new is there."""
    directory.mkdir(parents=True, exist_ok=True)
    stored = (base.kernel, _plain(base.system), _plain(base.initramfs))
    content = pickle.dumps(stored, protocol=5)
    temporary = directory / f".{key}.{os.getpid()}"
    try:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    for old in directory.iterdir():
        if not old.name.startswith("."):
            old.unlink(missing_ok=True)
    temporary.replace(directory / key)


def _plain(tree: Tree) -> dict[str, tuple[int, bytes, int, int, tuple[int, int]]]:
    return {path: (node.mode, node.data, node.uid, node.gid, node.device) for path, node in tree.nodes.items()}


def _tree(nodes: dict[str, tuple[int, bytes, int, int, tuple[int, int]]]) -> Tree:
    return Tree({path: Node(*fields) for path, fields in nodes.items()})
