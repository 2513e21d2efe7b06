"""Which folders of the user's computer the VM has, and which of them a path of that computer lies in. Knows no file system."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache

SOCKET = "/run/docker.sock"
"""The engine's own."""
OF_THE_VM = (
    "/var/run/docker.sock", SOCKET, "/run/host-services", "/dev", "/proc", "/sys", "/lib/modules", "/var/lib/cove",
)  # fmt: skip
"""What people mean in the engine's own machine, wherever that is and whatever is shared with it."""
_DRIVE = re.compile(r"([A-Za-z]):(?=[\\/]|$)")
_DRIVE_IN_PATH = re.compile(r"//?([A-Za-z])(?=/|$)")


@dataclass(frozen=True, slots=True)
class Share:
    """A folder of the user's computer. ``path`` as that computer writes it, without a slash at its end (but for the root)."""

    tag: str
    path: str
    read_only: bool = False
    driver: str = "9p"
    """How it comes here: "virtiofs", "9p" (the hypervisor's), "agent" (9p of the agent's)."""
    token: str = ""
    """By which its server, the agent's, knows the engine."""


@dataclass(frozen=True, slots=True)
class Table:
    """The folders, and how the user's computer understands paths.

    Args:
        windows: with letters for drives; backslashes are slashes.
        fold_case: a name may be written with letters of any case.
        sockets: where the engine's socket is on that computer.
    """

    shares: tuple[Share, ...] = ()
    windows: bool = False
    fold_case: bool = False
    sockets: tuple[str, ...] = ()

    def normal(self, path: str) -> str:
        """A path in the one form in which paths are compared: ``/c/Users/me`` for all of what Windows' programs make of C:\\Users\\me.

        A path that is relative, or no path of that computer at all, stays one.
        """
        if self.windows:
            path = path.replace("\\", "/")
            if (match := _DRIVE.match(path)) is not None:
                path = f"/{match[1].lower()}{path[2:]}"
            elif (match := _DRIVE_IN_PATH.match(path)) is not None:
                path = f"/{match[1].lower()}{path[match.end() :]}"
        if not path.startswith("/"):
            return path
        return posixpath.normpath("/" + path.lstrip("/"))

    def find(self, path: str) -> tuple[Share, str] | None:
        """The folder that a path lies in, the innermost one, and the path below it ("" for the folder itself); None for none.

        ``..`` and symbolic links are not looked at: the path shall be free of the one, and ``coved.shares.resolve`` follows the others.
        """
        wanted = self.normal(path)
        if is_of_the_vm(wanted) or self.is_socket(wanted):
            return None
        found: tuple[Share, str] | None = None
        length = -1
        for share in self.shares:
            root = self.normal(share.path)
            below = self._below(wanted, root)
            if below is not None and len(root) > length:
                found, length = (share, below), len(root)
        return found

    def is_socket(self, path: str) -> bool:
        """Whether that computer's programs reach the engine at a path, symbolic links in it not being looked at."""
        wanted = self._folded(self.normal(path))
        return any(wanted == self._folded(self.normal(one)) for one in self.sockets)

    def _folded(self, path: str) -> str:
        """What is the same for all ways of writing one name. macOS takes an accent with its letter and after it for the same, which
        Windows does not."""
        if not self.fold_case:
            return path
        folded = path.casefold()
        return folded if self.windows or folded.isascii() else _decomposed(folded)

    def _below(self, path: str, root: str) -> str | None:
        head, whole = self._folded(path), self._folded(root)
        if head == whole:
            return ""
        prefix = whole.rstrip("/") + "/"
        if not head.startswith(prefix):
            return None
        # Folding may change a text's length: what is below begins after as many slashes as the root has.
        return path.split("/", prefix.count("/"))[-1]


@lru_cache(256)
def _decomposed(text: str) -> str:
    from unicodedata import normalize  # a library of its own, which few paths need

    return normalize("NFD", text)


def is_of_the_vm(path: str) -> bool:
    """Whether people mean the engine's own machine by a path."""
    return any(path == one or path.startswith(f"{one}/") for one in OF_THE_VM)
