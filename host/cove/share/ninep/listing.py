"""A directory's entries as they go to the guest, from one moment: what comes and goes meanwhile moves none of them."""

from __future__ import annotations

import errno
import struct
from array import array

from cove.share.ninep import wire
from cove.share.ninep.folder import Folder
from cove.share.ninep.looks import Look
from cove.share.ninep.tree import Node

_ENTRY = struct.Struct("<BIQQBH")
"""Before each name: qid, the entry's place, its type, the name's length."""
_QTYPES = {wire.DT_DIR: wire.QTDIR, wire.DT_LNK: wire.QTSYMLINK}


class Listing:
    """An open directory, which is read when its entries are asked for. Places count from 1; 0 is the beginning."""

    __slots__ = ("_ends", "entries", "read")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.entries = b""
        self.read = False
        self._ends = array("Q")

    def fill(self, folder: Folder, node: Node, look: Look) -> None:
        """Read a directory, `look` being what it is. Raises `OSError`."""
        above = look if node.parent is None else folder.look(node.parent)
        base = folder.number(look._replace(ino=0))
        entries = bytearray()
        ends = array("Q")
        names = [
            (b".", folder.number(look), wire.DT_DIR),
            (b"..", folder.number(above), wire.DT_DIR),
            *folder.names(node),
        ]
        for place, (name, ino, kind) in enumerate(names, 1):
            number = ino if place <= 2 else base | ino if not ino >> 48 else folder.number(look._replace(ino=ino))
            entries += _ENTRY.pack(_QTYPES.get(kind, wire.QTFILE), 1, number, place, kind, len(name)) + name
            ends.append(len(entries))
        self.entries, self._ends, self.read = bytes(entries), ends, True

    def part(self, place: int, count: int) -> bytes:
        """Whole entries after a place, of at most so many bytes; empty at the end. Raises `OSError` when not one fits."""
        ends = self._ends
        if place >= len(ends):
            return b""
        begin = ends[place - 1] if place else 0
        last = place
        while last < len(ends) and ends[last] - begin <= count:
            last += 1
        if last == place:
            raise OSError(errno.EINVAL, "too little for one entry")
        return self.entries[begin : ends[last - 1]]
