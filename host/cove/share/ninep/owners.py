"""Who owns a file, as containers see it. On the host all belongs to the user who runs Cove.

What a container's chown says is kept with the file, in the extended attribute ``user.cove.owner`` (``UID:GID``), where the file
system has such; else for as long as this process lives. The first one kept marks the folder itself (``user.cove.owners``), so
that a folder in which nobody ever changed an owner costs no look at attributes.
"""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict

from cove.share.ninep.folder import Folder
from cove.share.ninep.looks import Look
from cove.share.ninep.tree import Node

HIDDEN = b"user.cove."
"""Attributes that the guest neither sees nor sets."""
_OWNER = b"user.cove.owner"
_MARK = b"user.cove.owners"
_TEXT = re.compile(rb"([0-9]{1,10}):([0-9]{1,10})")
_MAX_REMEMBERED = 1 << 16
_NOBODY = 0xFFFFFFFF


class Owners:
    """`default`: the uid and gid of what nobody has changed the owner of."""

    def __init__(self, folder: Folder, default: tuple[int, int] = (0, 0)) -> None:
        self.default = default
        self._folder = folder
        self._remembered: OrderedDict[tuple[int, int, int], tuple[int, int]] = OrderedDict()
        self._kept = False
        with contextlib.suppress(OSError):
            self._kept = bool(folder.get_xattr(folder.tree.root, _MARK))

    def of(self, node: Node, look: Look) -> tuple[int, int]:
        if self._remembered and (found := self._remembered.get((look.device, look.minor, look.ino))) is not None:
            return found
        if not self._kept or node.gone or not (look.is_file or look.is_dir):
            return self.default
        key = (look.ino, look.ctime, look.ctime_ns)
        if node.owner_key != key:
            node.owner = self._read(node)
            node.owner_key = key
        return node.owner

    def _read(self, node: Node) -> tuple[int, int]:
        try:
            text = self._folder.get_xattr(node, _OWNER)
        except OSError:
            return self.default
        match = _TEXT.fullmatch(text)
        if match is None:
            return self.default
        uid, gid = int(match[1]), int(match[2])
        return (uid, gid) if uid < _NOBODY and gid < _NOBODY else self.default

    def change(self, node: Node, look: Look, uid: int | None, gid: int | None) -> None:
        """A chown: None leaves either as it is."""
        before = self.of(node, look)
        owner = (before[0] if uid is None else uid, before[1] if gid is None else gid)
        if owner != before:
            self._keep(node, look, owner)

    def _keep(self, node: Node, look: Look, owner: tuple[int, int]) -> None:
        node.owner_key = (0, 0, 0)
        key = (look.device, look.minor, look.ino)
        if (look.is_file or look.is_dir) and not node.gone:
            try:
                if not self._kept:
                    self._folder.set_xattr(self._folder.tree.root, _MARK, b"1")
                    self._kept = True
                if owner == self.default:
                    self._folder.remove_xattr(node, _OWNER)
                else:
                    self._folder.set_xattr(node, _OWNER, b"%d:%d" % owner)
                self._remembered.pop(key, None)
                return
            except OSError:
                pass  # no such attributes here, or the file is read-only: for as long as this process lives, then
        self._remembered[key] = owner
        self._remembered.move_to_end(key)
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def forget(self, look: Look) -> None:
        """A file that is no more: its number may come back as another's."""
        if self._remembered:
            self._remembered.pop((look.device, look.minor, look.ino), None)
