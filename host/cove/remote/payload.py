"""What is brought to a host: the VM's system, without what belongs to a VM, as one archive that any tar(1) unpacks."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cove.image import assemble, builder, inputs, store
from cove.image.recipe import Recipe
from cove.image.tree import Node, Tree, directory, symlink
from cove.machine import space
from cove.machine.architecture import Architecture
from cove.machine.paths import cache_dir
from cove.progress import Event, Report, ignore

MARK = "usr/share/cove/payload"
"""The archive's last file: where it is, all is."""
KEPT = 4
"""Archives of 20 MB each."""
TIME = 946684800
"""Of every file: tar(1) warns of what is from 1970."""
_DROPPED = (
    "usr/lib/modules/",
    "usr/bin/qemu-",
    "usr/share/qemu/",
    "usr/sbin/sshd",
    "usr/lib/openssh/",
    "etc/ssh/sshd_config",
)
"""The host's kernel has modules of its own; who runs other processors' programs, and who may log in, is its owner's to say."""
_FOLDERS = ("host", "usr/lib/modules", "var/cache/cove")
_LINKS = {
    "etc/resolv.conf": "/run/resolv.conf",
    "etc/hosts": "/host/etc/hosts",
    "etc/os-release": "/host/etc/os-release",
}
"""The engine asks whom the host asks (`coved.remote.entering`), and says what system the host has."""


@dataclass(frozen=True, slots=True)
class Payload:
    """``digest`` is the hexadecimal SHA-256 of what is in the archive, a gzipped tar."""

    digest: str
    archive: Path


def payload(architecture: Architecture, progress: Report = ignore) -> Payload:
    """That of the present recipe and engine, made when it is not there. Raises `CoveError` as `cove.image.builder.build` does."""
    folder = cache_dir() / "remote"
    key = hashlib.sha256(inputs.key(architecture).encode() + Path(__file__).read_bytes()).hexdigest()[:32]
    for found in folder.glob(f"{key}-*.tar.gz"):
        return Payload(found.name.split("-")[1].partition(".")[0], found)
    with space.room(folder, "what is brought to the host"):
        recipe = Recipe.load(inputs.recipe_dir(), architecture)
        with store.building(progress):  # who builds the VM image unpacks the same packages
            base = builder.parts(recipe, progress)
        progress(Event("remote", "packing what is brought to the host"))
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f".{key}.{os.getpid()}"
        try:
            digest = write(assemble.with_engine(base.system, inputs.engine_files()), made)
            target = folder / f"{key}-{digest}.tar.gz"
            made.replace(target)
            _prune(folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                made.unlink()
    return Payload(digest, target)


def _prune(folder: Path) -> None:
    """Those made last stay: another version of Cove, or another host, may be about to use one."""
    with contextlib.suppress(OSError):  # another process prunes as well
        for old in sorted(folder.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)


def write(system: Tree, path: Path) -> str:
    """The archive of that system; its digest, which is the same for the same system. Raises `OSError`."""
    digest = hashlib.sha256()
    # Level 6 costs a second or two, and whoever has a slow line waits for minutes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        for piece in _pieces(_of_a_host(system)):
            digest.update(piece)
            packed.write(piece)
        whole = digest.hexdigest()
        for piece in _member(MARK, Node(0o100644, f"{whole}\n".encode())):
            packed.write(piece)
        packed.write(bytes(2 * tarfile.BLOCKSIZE))
    return whole


def _of_a_host(system: Tree) -> Tree:
    tree = Tree({path: node for path, node in system.nodes.items() if not path.startswith(_DROPPED)})
    for path in _FOLDERS:
        tree.add(path, directory())
    for path, target in _LINKS.items():
        tree.replace(path, symlink(target))
    return tree


def _pieces(tree: Tree) -> Iterator[bytes]:
    for path, node in tree.walk():
        yield from _member(path, node)


def _member(path: str, node: Node) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.mode, info.uid, info.gid, info.mtime = node.mode & 0o7777, node.uid, node.gid, TIME
    if node.is_dir:
        info.type = tarfile.DIRTYPE
    elif node.is_symlink:
        info.type, info.linkname = tarfile.SYMTYPE, node.data.decode()
    elif node.is_file:
        info.size = len(node.data)
    else:
        raise ValueError(f"/{path} is neither file, folder nor link")
    yield info.tobuf(tarfile.GNU_FORMAT)  # which busybox reads, long names included
    if node.is_file:
        yield node.data
        yield bytes(-len(node.data) % tarfile.BLOCKSIZE)
