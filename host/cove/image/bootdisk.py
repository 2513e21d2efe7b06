"""The VM image as one disk that UEFI boots: Hyper-V's Generation 2 loads no kernel itself, and neither do others.

A GUID partition table; an EFI system partition with one program, EFI/BOOT/BOOTX64.EFI, which is kernel, initramfs and command line behind
systemd's stub (a unified kernel image); and the system, which the guest finds by its partition's name. Made on any computer, without
root, and the same bits from the same image.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import posixpath
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from cove.errors import CoveError
from cove.image import archive, builder, cpio, deb, fat, gpt, inputs, mirror, pe, resolve, vhdx
from cove.image.archive import Package
from cove.image.download import Downloader, Wanted
from cove.image.recipe import Recipe, dump_lock, load_lock
from cove.image.store import VmImage
from cove.image.tree import Tree, file
from cove.machine import space
from cove.machine.architecture import AMD64
from cove.machine.paths import cache_dir
from cove.progress import Event, Report, ignore

LOCK = "lock-boot-disk.json"
"""In the recipe's directory: the package of the stub."""
SYSTEM = "cove-system"
"""The partition's name."""
PROGRAM = ("EFI", "BOOT", "BOOTX64.EFI")
"""What firmware boots from a disk of which it knows nothing."""
ARCHITECTURE = AMD64
"""The only one so far: nobody has asked for Hyper-V on Arm, whose program has another name, and stub."""


class OlderImage(CoveError):
    """The image is of another version of Cove, whose recipe is not here."""


def name() -> str:
    """Of the disk in the folder of the image, for machines that Hyper-V runs: another one for each stub, command line and modules, of
    which the image's digest does not know. Raises `CoveError`."""
    recipe = Recipe.load(inputs.recipe_dir(), ARCHITECTURE)
    try:
        pinned = (recipe.directory / LOCK).read_bytes()
    except OSError as error:
        raise CoveError(f"{recipe.directory / LOCK} cannot be read: {error.strerror}") from error
    parts = json.dumps(asdict(recipe.boot_disk), sort_keys=True).encode() + b"\0" + pinned
    return f"boot-{hashlib.sha256(parts).hexdigest()[:16]}.vhdx"


def earlier(image: VmImage) -> Path | None:
    """The last one that an earlier version of Cove has made of an image."""
    return max(image.directory.glob("boot*.vhdx"), key=lambda path: path.stat().st_mtime, default=None)


def write(image: VmImage, path: Path, progress: Report = ignore) -> None:
    """Write the disk of `image`, which is the present one, to `path`, whole: as VHDX when that is its suffix, else raw.

    Raises `OlderImage`, `CoveError`.
    """
    recipe = Recipe.load(inputs.recipe_dir(), ARCHITECTURE)
    program = _program(recipe, image, progress)
    volume = fat.volume(PROGRAM, program, "COVE")
    system_size = image.system.stat().st_size
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"cove:{image.digest}")
    layout = gpt.layout(
        identity,
        [
            gpt.Partition("cove-boot", gpt.EFI_SYSTEM, uuid.uuid5(identity, "boot"), len(volume)),
            gpt.Partition(SYSTEM, gpt.LINUX, uuid.uuid5(identity, "system"), system_size),
        ],
    )
    progress(Event("image", f"writing {path.name}"))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with space.room(path.parent, "the VM's disk"), unfinished.open("wb") as output:
            blocks = _blocks(layout, volume, image.system)
            if path.suffix.lower() == ".vhdx":
                vhdx.write(blocks, layout.size, output)
            else:
                _write_raw(blocks, layout.size, output)
            output.flush()
            os.fsync(output.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise CoveError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_lock(progress: Report = ignore) -> Path:
    """Pin the newest package of the stub in Debian's signed index, and return where. Raises `CoveError`."""
    recipe = Recipe.load(inputs.recipe_dir(), ARCHITECTURE)
    progress(Event("image", "reading the signed index"))
    path = recipe.directory / LOCK
    path.write_bytes(dump_lock([_newest(recipe)]))
    return path


def _blocks(layout: gpt.Layout, volume: bytes, system: Path) -> Iterator[bytes]:
    """What is on the disk, of which all parts begin and end where blocks do."""
    block = vhdx.BLOCK
    yield layout.head.ljust(block, b"\0")
    for start in range(0, len(volume), block):
        yield volume[start : start + block].ljust(block, b"\0")
    with system.open("rb") as source:
        while data := source.read(block):
            yield data.ljust(block, b"\0")
    yield layout.tail.rjust(block, b"\0")


def _write_raw(blocks: Iterator[bytes], size: int, output: io.BufferedWriter) -> None:
    for block in blocks:
        if any(block):
            output.write(block)
        else:
            output.seek(len(block), os.SEEK_CUR)
    output.truncate(size)


def _program(recipe: Recipe, image: VmImage, progress: Report) -> bytes:
    base = builder.parts(recipe, progress)
    kernel = image.kernel.read_bytes()
    if kernel != base.kernel:
        raise OlderImage(
            "the image is of another version of Cove, of which no disk for Hyper-V can be made any more",
            "take the present one: cove machine upgrade",
        )
    initramfs = image.initramfs.read_bytes()
    sections = {
        ".osrel": base.system.nodes["etc/os-release"].data,
        ".cmdline": f"{image.command_line} {recipe.boot_disk.command_line}".encode(),
        ".initrd": initramfs + bytes(-len(initramfs) % 4) + more_modules(base.system, recipe.boot_disk.modules),
        ".linux": kernel,
    }
    try:
        return pe.with_sections(_stub(recipe, progress), sections)
    except ValueError as error:
        raise CoveError(f"no boot program can be made with {recipe.boot_disk.stub}: {error}") from error


def more_modules(system: Tree, wanted: tuple[str, ...]) -> bytes:
    """A second part for the initramfs: kernel modules that it tries, in an order that their dependencies allow."""
    (table,) = (path for path in system.nodes if posixpath.basename(path) == "modules.dep")
    needs = {}
    for line in system.nodes[table].data.decode().splitlines():
        path, _, dependencies = line.partition(":")
        # modprobe loads from the right to the left.
        needs[posixpath.basename(path).partition(".ko")[0].replace("-", "_")] = [path, *dependencies.split()][::-1]
    order = dict.fromkeys(path for name in wanted for path in needs.get(name, ()))
    tree = Tree()
    for path in order:
        tree.add(f"modules.d/{posixpath.basename(path)}", system.nodes[f"{posixpath.dirname(table)}/{path}"])
    tree.add("modules.tried", file("".join(f"/modules.d/{posixpath.basename(path)}\n" for path in order).encode()))
    output = io.BytesIO()
    cpio.write(tree, output)
    return gzip.compress(output.getvalue(), 6, mtime=0)


def _stub(recipe: Recipe, progress: Report) -> bytes:
    (package,) = load_lock(recipe.directory / LOCK)
    downloads = Downloader(cache_dir() / "packages")
    if downloads.fetch_all([_wanted(package)]):
        progress(Event("image", f"the pinned {package.name} is superseded; resolving again through the signed index"))
        package = _newest(recipe)
        if downloads.fetch_all([_wanted(package)]):
            raise CoveError(
                f"the mirror's index names a {package.name} that the mirror does not have",
                "it is probably being updated: try again in some minutes, or set COVE_DEBIAN_MIRROR to another mirror",
            )
    for _, node in deb.files(downloads.path(package.sha256), lambda path: path == recipe.boot_disk.stub):
        return node.data
    raise CoveError(f"the package {package.name} has no {recipe.boot_disk.stub}")


def _newest(recipe: Recipe) -> Package:
    found = resolve.index(recipe, mirror.find(), cache_dir() / "packages")
    name = recipe.boot_disk.package
    if name not in found:
        raise CoveError(f"Debian's index has no package {name}", "the recipe of the VM image needs another name for it")
    return archive.newest(found[name])


def _wanted(package: Package) -> Wanted:
    url = f"{mirror.find().base(package.archive)}/{package.filename}"
    return Wanted(f"{package.name} {package.version}", url, package.sha256, package.size)
