"""Writes cpio archives of the "newc" form, which the kernel unpacks as its first file system.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

from typing import IO

from cove.image.tree import Node, Tree


def write(tree: Tree, output: IO[bytes]) -> None:
    """Write `tree` to `output`: no times, numbers in order, hence the same bits for the same tree."""
    number = 0
    for number, (path, node) in enumerate(tree.walk(), 1):
        _write_entry(output, number, path, node)
    _write_entry(output, number + 1, "TRAILER!!!", Node(0))


def _write_entry(output: IO[bytes], number: int, path: str, node: Node) -> None:
    name = path.encode() + b"\0"
    links = 2 if node.is_dir else 1
    major, minor = node.device
    fields = (number, node.mode, node.uid, node.gid, links, 0, len(node.data), 0, 0, major, minor, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields) + name
    output.write(header + bytes(-len(header) % 4))
    output.write(node.data + bytes(-len(node.data) % 4))
