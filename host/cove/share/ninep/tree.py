"""The guest's view of the folder: nodes by name, and descriptors of the directories among them.

A node is a place, not a file: the folder's root, or a name in the directory that another node is. What lies there is asked of
the host each time. A name is only ever used relative to the descriptor of its directory, which was opened from its parent's
without following links, all the way from the root: a link that somebody puts in place of a directory leads nowhere.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from cove.share.ninep.host import host
from cove.share.ninep.looks import Look

if TYPE_CHECKING:
    from cove.share.ninep.fids import Fid

FRESH_S = 0.01
"""For how long a directory's descriptor is taken to be still what its path leads to."""
HELD_S = 0.2
"""For how long, and once more, a directory that nobody asks for is held where that keeps others back."""
MAX_DESCRIPTORS = 512
MAX_DEPTH = 1024


class Node:
    """One place. `parent` is None for the root, and for a place that is no more (`gone`)."""

    __slots__ = (
        "checked",
        "children",
        "descriptor",
        "found",
        "gone",
        "name",
        "open",
        "owner",
        "owner_key",
        "parent",
        "refs",
    )

    def __init__(self, parent: Node | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.children: dict[bytes, Node] | None = None
        self.refs = 0
        """Fids here, and nodes below."""
        self.descriptor = -1
        """As a directory."""
        self.found: Look | None = None
        """What the descriptor is of."""
        self.checked = 0.0
        self.gone = False
        self.open: set[Fid] | None = None
        """Fids here that have a file open: what they have outlives its name."""
        self.owner = (-1, -1)
        self.owner_key = (0, 0, 0)

    def path(self) -> list[bytes]:
        """Names from the root. Raises `OSError` (ENOENT) for a place that is no more."""
        names: list[bytes] = []
        node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        if node.gone:
            raise OSError(errno.ENOENT, "gone")
        return names[::-1]


class Tree:
    """All nodes of a session. For one thread at a time.

    `root`: a descriptor of the folder, which stays the caller's.
    """

    def __init__(self, root: int) -> None:
        self.root = Node(None, b"")
        self.root.refs = 1
        self.root.descriptor = root
        self.root.found = host.look_fd(root)
        self._held: dict[Node, None] = {}
        self._unused: list[int] = []
        self._swept = 0.0

    def settle(self) -> None:
        """To be called between requests: none holds a descriptor, so that those no longer of use are closed."""
        while len(self._held) > MAX_DESCRIPTORS:
            self._drop_descriptor(next(iter(self._held)))
        if host.HOLDS_BACK:
            self._sweep(time.monotonic())
        while self._unused:
            host.close(self._unused.pop())

    def _sweep(self, now: float) -> None:
        if now - self._swept >= HELD_S:
            self._swept = now
            for node in [each for each in self._held if now - each.checked >= HELD_S]:
                self._drop_descriptor(node)

    def let_go(self) -> None:
        """Close all directories that are open, but the root; they are opened again when they are asked for."""
        for node in list(self._held):
            self._drop_descriptor(node)
        self.settle()

    close = let_go

    # Nodes.

    def child(self, parent: Node, name: bytes) -> Node:
        """The node of an entry; whoever keeps it holds it (`hold`)."""
        if parent.children is not None and (node := parent.children.get(name)) is not None:
            return node
        return Node(parent, name)

    def hold(self, node: Node) -> None:
        """Take a node into the tree, for one fid more."""
        node.refs += 1
        while node.refs == 1 and node.parent is not None:
            parent = node.parent
            if parent.children is None:
                parent.children = {}
            parent.children[node.name] = node
            parent.refs += 1
            node = parent

    def release(self, node: Node) -> None:
        node.refs -= 1
        while node.refs == 0 and (parent := node.parent) is not None:
            self._leave(node, parent)
            self._drop_descriptor(node)
            node = parent
        if node.refs == 0:
            self._drop_descriptor(node)

    @staticmethod
    def _leave(node: Node, parent: Node) -> None:
        if parent.children is not None and parent.children.get(node.name) is node:
            del parent.children[node.name]
            if not parent.children:
                parent.children = None
        parent.refs -= 1

    def removed(self, parent: Node, name: bytes) -> None:
        """An entry is no more: what was open goes on, the place does not."""
        node = parent.children.get(name) if parent.children is not None else None
        if node is not None:
            self._leave(node, parent)
            node.parent = None
            node.gone = True
            self._drop_descriptor(node)

    def moved(self, parent: Node, name: bytes, to: Node, new: bytes) -> None:
        """An entry has another place: all that is below moves with it."""
        node = parent.children.get(name) if parent.children is not None else None
        if node is None:
            self.removed(to, new)
            return
        if parent is to and name == new:
            return
        above: Node | None = to
        while above is not None and above is not node:
            above = above.parent
        if above is node:  # the host moved things about meanwhile: a place below itself would be a circle
            self.removed(parent, name)
            return
        self.hold(to)
        self.removed(to, new)
        self._leave(node, parent)
        node.parent, node.name = to, new
        if to.children is None:
            to.children = {}
        to.children[new] = node  # the hold on `to` from above is now this node's
        if parent.refs == 0:
            parent.refs = 1
            self.release(parent)

    def merge(self, source: Node, target: Node) -> dict[Node, Node]:
        """Two places have become one: what is known below the first is moved below the second.

        What is known at both is given back, for whoever holds the one to hold the other.
        """
        replaced: dict[Node, Node] = {}
        pairs = [(source, target)]
        for one, other in pairs:
            replaced[one] = other
            for name, child in list((one.children or {}).items()):
                if (known := (other.children or {}).get(name)) is not None:
                    pairs.append((child, known))
                else:
                    self.moved(one, name, other, name)
        return replaced

    # Descriptors.

    def directory(self, node: Node) -> int:
        """A descriptor of the directory at a node, which stays the tree's and lasts until `settle`.

        Raises `OSError`: ENOENT or ENOTDIR when there is none (any more), ELOOP for a link.
        """
        now = time.monotonic()
        if node.parent is None:
            if node.gone:
                raise OSError(errno.ENOENT, "gone")
            return node.descriptor
        if node.descriptor >= 0 and now - node.checked < FRESH_S:
            return node.descriptor
        chain = [node]
        above = node.parent
        while above.parent is not None and not (above.descriptor >= 0 and now - above.checked < FRESH_S):
            chain.append(above)
            above = above.parent
            if len(chain) > MAX_DEPTH:
                raise OSError(errno.ENAMETOOLONG, "too deep")
        if above.gone:
            raise OSError(errno.ENOENT, "gone")
        descriptor = above.descriptor
        for each in reversed(chain):
            descriptor = self._refreshed(each, descriptor, now)
        return descriptor

    def _refreshed(self, node: Node, parent: int, now: float) -> int:
        if node.descriptor >= 0 and node.found is not None:
            found = host.look_at(parent, node.name)
            if found.is_dir and found.same_file(
                node.found
            ):  # Windows makes a link of a directory that stays the same file
                node.checked = now
                return node.descriptor
            self._drop_descriptor(node)
        node.descriptor = host.open_directory(parent, node.name)
        self._held[node] = None
        node.found = host.look_fd(node.descriptor)
        node.checked = now
        return node.descriptor

    def _drop_descriptor(self, node: Node) -> None:
        if node.descriptor >= 0 and self._held.pop(node, node) is None:
            self._unused.append(node.descriptor)
            node.descriptor = -1
