"""Writes EROFS images: uncompressed, and the same bits for the same tree.

Source: the kernel's fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst. Only the simplest forms are used: compact
inodes (one time stamp for the whole file system), whole blocks of data, and a short tail of it beside the inode.
"""

from __future__ import annotations

import stat
import struct
import uuid
from dataclasses import dataclass
from typing import IO

from cove.image.tree import Node, Tree

BLOCK = 4096
_MAGIC = 0xE0F5E1E2
_SUPER_OFFSET = 1024
_SUPER_SIZE = 128
_SLOT = 32
"""Inodes are numbered by where they lie, in units of this many bytes."""
_FLAT_PLAIN = 0
_FLAT_INLINE = 2
_MAX_INLINE = 2048
"""Bytes of a tail worth keeping beside the inode: more would leave holes as big as what it saves."""
_NO_BLOCK = 0xFFFFFFFF
_DIRENT = struct.Struct("<QHBx")
_INODE = struct.Struct("<HHHHIIIIHHI")
_FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}


@dataclass(slots=True)
class _Inode:
    path: str
    node: Node
    number: int
    size: int
    links: int = 1
    nid: int = 0
    tail: int = 0
    """Bytes of the content that lie beside the inode."""
    block: int = _NO_BLOCK

    @property
    def blocks(self) -> int:
        return -(-(self.size - self.tail) // BLOCK)


def write(tree: Tree, output: IO[bytes], *, label: str = "", time: int = 0) -> None:
    """Write `tree` as an EROFS image to `output`.

    `label` has at most 15 bytes, `time` (seconds since 1970) is the time stamp of every file. Raises `ValueError` for what the
    format's compact inodes cannot hold: files of 4 GiB, user ids over 65535.
    """
    children = tree.children()
    paths = ["", *(path for path, _ in tree.walk())]
    inodes: dict[str, _Inode] = {}
    for number, path in enumerate(paths, 1):
        node = tree.nodes[path]
        size = _directory_size(children[path]) if node.is_dir else len(node.data)
        if size > 0xFFFFFFFF or node.uid > 0xFFFF or node.gid > 0xFFFF:
            raise ValueError(f"/{path} does not fit in a compact EROFS inode")
        inodes[path] = _Inode(path, node, number, size)
    for path, names in children.items():
        inodes[path].links = 2 + sum(tree.nodes[_join(path, name)].is_dir for name in names)

    position = _SUPER_OFFSET + _SUPER_SIZE
    for inode in inodes.values():
        tail = inode.size % BLOCK
        inode.tail = tail if tail <= _MAX_INLINE else 0
        # The tail must lie in the same block as its inode.
        if inode.tail and position % BLOCK + _SLOT + inode.tail > BLOCK:
            position = _align(position, BLOCK)
        inode.nid = position // _SLOT
        position = _align(position + _SLOT + inode.tail, _SLOT)
    block = _align(position, BLOCK) // BLOCK
    for inode in inodes.values():
        if inode.blocks:
            inode.block = block
            block += inode.blocks

    start = output.tell()
    output.write(bytes(_SUPER_OFFSET))
    output.write(_superblock(inodes, block, label, time))
    contents = {
        path: _directory(path, inode, children[path], inodes) if inode.node.is_dir else inode.node.data
        for path, inode in inodes.items()
    }
    position = _SUPER_OFFSET + _SUPER_SIZE
    for path, inode in inodes.items():
        output.write(bytes(inode.nid * _SLOT - position))
        content = contents[path]
        output.write(_pack(inode) + content[inode.size - inode.tail :][: inode.tail])
        position = inode.nid * _SLOT + _SLOT + inode.tail
    output.write(bytes(_align(position, BLOCK) - position))
    for path, inode in inodes.items():
        length = inode.size - inode.tail
        if length:
            output.write(memoryview(contents[path])[:length])
            output.write(bytes(_align(length, BLOCK) - length))
    if output.tell() - start != block * BLOCK:
        raise RuntimeError("the EROFS image's layout is inconsistent")


def _superblock(inodes: dict[str, _Inode], blocks: int, label: str, time: int) -> bytes:
    # Derived from what identifies the contents' shape, so that it is the same for the same tree.
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"erofs:{label}:{len(inodes)}:{blocks}")
    return struct.pack(
        "<IIIBBHQQIIII16s16sI44x",
        _MAGIC,
        0,  # no checksum of the superblock: the whole image has a digest
        0,  # compatible features
        BLOCK.bit_length() - 1,
        0,
        inodes[""].nid,
        len(inodes),
        time,
        0,
        blocks,
        0,  # inodes are counted from the image's start
        0,
        identity.bytes,
        label.encode(),
        0,  # incompatible features
    )


def _pack(inode: _Inode) -> bytes:
    node = inode.node
    layout = _FLAT_INLINE if inode.tail else _FLAT_PLAIN
    if stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
        major, minor = node.device
        where = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)  # new_encode_dev() of linux/kdev_t.h
    else:
        where = inode.block
    return _INODE.pack(
        layout << 1, 0, node.mode, inode.links, inode.size, 0, where, inode.number, node.uid, node.gid, 0
    )


def _blocks_of(names: list[str]) -> list[list[bytes]]:
    """Distribute a directory's names, with "." and "..", over blocks; they are sorted as bytes throughout."""
    blocks: list[list[bytes]] = [[]]
    used = 0
    for name in sorted([b".", b"..", *(name.encode() for name in names)]):
        need = _DIRENT.size + len(name)
        if used + need > BLOCK:
            blocks.append([])
            used = 0
        blocks[-1].append(name)
        used += need
    return blocks


def _directory_size(names: list[str]) -> int:
    blocks = _blocks_of(names)
    return (len(blocks) - 1) * BLOCK + sum(_DIRENT.size + len(name) for name in blocks[-1])


def _directory(path: str, inode: _Inode, names: list[str], inodes: dict[str, _Inode]) -> bytes:
    parent = inodes[path.rpartition("/")[0]] if path else inode
    result = b""
    for block in _blocks_of(names):
        result += bytes(-len(result) % BLOCK)
        name_offset = len(block) * _DIRENT.size
        entries = b""
        for name in block:
            target = {b".": inode, b"..": parent}.get(name) or inodes[_join(path, name.decode())]
            entries += _DIRENT.pack(target.nid, name_offset, _FILE_TYPES[stat.S_IFMT(target.node.mode)])
            name_offset += len(name)
        result += entries + b"".join(block)
    return result


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _align(value: int, unit: int) -> int:
    return -(-value // unit) * unit
