"""The bill of materials of a macOS package: which files it lays down, in the format that macOS' `lsbom` reads. Apple documents none; what
is known of it is what others have found out by looking. Big-endian throughout.

A store of numbered blocks, and variables that name some of them. `Paths` is a tree: leaves of up to 256 pairs (what is known of a file,
its name and parent), and one branch above them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_HEADER = 512
_PER_LEAF = 256
_FILE, _FOLDER, _LINK = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Entry:
    """`name` as in "./usr/local"; "." is the root. `checksum` is cksum(1)'s, of a file's content or a link's target."""

    name: str
    mode: int
    mtime: int
    size: int = 0
    checksum: int = 0
    target: str = ""
    uid: int = 0
    gid: int = 0


class _Store:
    def __init__(self) -> None:
        self._blocks: list[bytes] = [b""]  # the first is never used
        self._variables: list[tuple[str, int]] = []

    @property
    def next_number(self) -> int:
        return len(self._blocks)

    def add(self, block: bytes) -> int:
        self._blocks.append(block)
        return len(self._blocks) - 1

    def name(self, variable: str, block: bytes) -> None:
        self._variables.append((variable, self.add(block)))

    def tree(self, child: bytes, paths: int = 0, block_size: int = 4096) -> bytes:
        return struct.pack(">4sIIIIB", b"tree", 1, self.add(child), block_size, paths, 0)

    def written(self) -> bytes:
        variables = struct.pack(">I", len(self._variables)) + b"".join(
            struct.pack(">IB", index, len(name)) + name.encode() for name, index in self._variables
        )
        address = _HEADER + len(variables)
        table = struct.pack(">III", len(self._blocks), 0, 0)
        for block in self._blocks[1:]:
            table += struct.pack(">II", address, len(block))
            address += len(block)
        table += bytes(4 + 2 * 8)  # no free blocks, and room for two
        header = struct.pack(
            ">8sIIIIII", b"BOMStore", 1, len(self._blocks) - 1, address, len(table), _HEADER, len(variables)
        )
        return header.ljust(_HEADER, b"\0") + variables + b"".join(self._blocks) + table


def made(entries: Sequence[Entry]) -> bytes:
    """Raises `ValueError` for a file whose folder is not among them, and for more than the one branch can have."""
    store = _Store()
    store.name("BomInfo", struct.pack(">III4I", 1, len(entries) + 1, 1, 0, 0, 0, 0))
    ordered = sorted(entries, key=lambda entry: (entry.name.count("/"), entry.name))  # folders before what is in them
    ids = {entry.name: number for number, entry in enumerate(ordered, 1)}
    pairs = [_pair(store, entry, ids) for entry in ordered]
    leaves = [pairs[begin : begin + _PER_LEAF] for begin in range(0, len(pairs), _PER_LEAF)]
    if not 0 < len(leaves) <= _PER_LEAF:
        raise ValueError(f"{len(entries)} files are too few or too many")
    store.name("Paths", store.tree(_paths(store, leaves), len(entries)))
    empty = struct.pack(">HHII", 1, 0, 0, 0)
    store.name("HLIndex", store.tree(empty))
    store.name("VIndex", struct.pack(">IIIB", 1, store.add(store.tree(empty, block_size=128)), 0, 0))
    store.name("Size64", store.tree(empty))
    return store.written()


def _pair(store: _Store, entry: Entry, ids: dict[str, int]) -> tuple[int, int]:
    parent, _, name = entry.name.rpartition("/")
    if parent not in ids and entry.name != ".":
        raise ValueError(f"the folder of {entry.name} is not in the list")
    kind = {0o040000: _FOLDER, 0o100000: _FILE, 0o120000: _LINK}[entry.mode & 0o170000]
    target = entry.target.encode() + b"\0" if entry.target else b""
    known = struct.pack(
        ">BBHHIIIIBII", kind, 1, 3, entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, 1, entry.checksum, len(target)
    )  # fmt: skip
    info = store.add(struct.pack(">II", ids[entry.name], store.add(known + target)))
    return info, store.add(struct.pack(">I", ids.get(parent, 0)) + name.encode() + b"\0")


def _paths(store: _Store, leaves: Sequence[Sequence[tuple[int, int]]]) -> bytes:
    """The leaves, each of which knows its neighbours; but for a single one, which is the tree, they go into the store, in order."""
    if len(leaves) == 1:
        return _leaf(leaves[0], 0, 0)
    first = store.next_number
    numbers = range(first, first + len(leaves))
    for number, leaf in zip(numbers, leaves, strict=True):
        forward, backward = (number + 1) % numbers.stop, number - 1 if number > first else 0
        store.add(_leaf(leaf, forward, backward))
    rows = b"".join(struct.pack(">II", number, leaf[-1][1]) for number, leaf in zip(numbers, leaves, strict=True))
    return struct.pack(">HHII", 0, len(leaves), 0, 0) + rows


def _leaf(pairs: Sequence[tuple[int, int]], forward: int, backward: int) -> bytes:
    return struct.pack(">HHII", 1, len(pairs), forward, backward) + b"".join(
        struct.pack(">II", *pair) for pair in pairs
    )
