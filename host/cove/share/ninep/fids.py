"""Fids: what the guest has a number for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cove.share.ninep.host import host
from cove.share.ninep.looks import Look
from cove.share.ninep.tree import Node

if TYPE_CHECKING:
    from cove.share.ninep.listing import Listing
    from cove.share.ninep.xattrs import Xattr

_LOCK = threading.Lock()
"""Of all fids' `busy` and `closing`: requests in several threads are few."""


class Fid:
    """A place that the guest has looked up, and what it has open there.

    `file`: the number (`Folder.number`) of the file that was there when it was looked up. The guest's kernel has one for each
    name that it remembers, so there is no more in it than must be. `busy`: requests that work with the descriptor now, in
    other threads; who closes it meanwhile leaves that to the last of them.
    """

    __slots__ = (
        "busy", "closing", "descriptor", "file", "ghost", "is_dir", "listing", "node", "pretended", "pretender", "told", "uid",
        "writable", "wrote", "xattr",
    )  # fmt: skip

    def __init__(self, node: Node, file: int, uid: int, *, is_dir: bool, pretender: bool) -> None:
        self.node = node
        self.file = file
        self.is_dir = is_dir
        self.uid = uid
        self.pretender = pretender
        self.descriptor = -1
        self.writable = False
        self.wrote = False
        self.told = -1
        """The listener (`Notices.listeners`) that was told that this is written to."""
        self.listing: Listing | None = None
        self.xattr: Xattr | None = None
        self.busy = 0
        self.closing = False
        self.pretended = False
        """Open, as the pretender was told; nothing is."""
        self.ghost: tuple[int, Look] | None = None
        """The number of a pretence, and what it says is here."""

    @property
    def is_open(self) -> bool:
        return self.descriptor >= 0 or self.listing is not None or self.xattr is not None or self.pretended

    def opened(self, descriptor: int, *, writable: bool) -> None:
        self.descriptor = descriptor
        self.writable = writable
        if self.node.open is None:
            self.node.open = set()
        self.node.open.add(self)

    def start(self) -> None:
        """A request works with the descriptor from now on, until `done`."""
        with _LOCK:
            self.busy += 1

    def done(self) -> None:
        with _LOCK:
            self.busy -= 1
            if self.closing and not self.busy:
                self._close()

    def close(self) -> None:
        """Close what is open; later, when a request is under way."""
        if self.descriptor >= 0:
            if self.node.open is not None:
                self.node.open.discard(self)
                self.node.open = self.node.open or None
            with _LOCK:
                self.closing = True
                if not self.busy:
                    self._close()
        self.listing = None
        self.xattr = None

    def _close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        host.close(descriptor)
