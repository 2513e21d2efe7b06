"""From packages to the image's file systems. Pure functions of their arguments: the same packages give the same bits."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cove.errors import CoveError
from cove.image import deb, elf, kernel_modules, starter
from cove.image.archive import Package
from cove.image.kernel_modules import Module
from cove.image.recipe import Recipe
from cove.image.tree import Node, Tree, character_device, directory, file, symlink

_ENGINE = "usr/lib/cove/coved"
_KERNEL = ("boot/vmlinuz-", "usr/lib/modules/")
_INITRAMFS_APPLETS = ("insmod", "mkdir", "mount", "poweroff", "sh", "switch_root", "sync")


@dataclass(frozen=True, slots=True)
class Base:
    """All that does not depend on the engine: the kernel, the system without the engine, and the initramfs."""

    kernel: bytes
    system: Tree
    initramfs: Tree


def base(recipe: Recipe, packages: Iterable[tuple[Package, Path]], unpacked: Callable[[Package], None]) -> Base:
    """Merge the packages as the recipe says; `unpacked` is called after each. Raises `CoveError`."""
    system = Tree()
    kernel_files: dict[str, bytes] = {}
    try:
        for package, path in packages:
            if package.name.startswith("linux-image-"):
                for name, node in deb.files(path, lambda name: name.startswith(_KERNEL)):
                    if node.is_file:
                        kernel_files[name] = node.data
            else:
                for name, node in deb.files(path, partial(recipe.keeps, package.name)):
                    # Directories that only hold what is dropped are dropped with it: parents come with the files.
                    if not node.is_dir:
                        system.add(name, node)
            unpacked(package)
        return _finish(recipe, system, kernel_files)
    except (ValueError, KeyError) as error:
        raise CoveError(f"the VM image cannot be put together: {error}") from error


def _finish(recipe: Recipe, system: Tree, kernel_files: dict[str, bytes]) -> Base:
    (kernel_path,) = [path for path in kernel_files if path.startswith("boot/vmlinuz-")]
    release = kernel_path.removeprefix("boot/vmlinuz-")
    modules = _modules(recipe, release, kernel_files)
    kernel_modules.install(system, release, modules)
    busybox = system.nodes["usr/bin/busybox"].data

    for path, mode in recipe.directories.items():
        system.add(path, directory(mode))
    for path, text in recipe.files.items():
        system.replace(path, file(text.lstrip("\n").encode()))
    for path, target in recipe.links.items():
        system.replace(path, symlink(target)) if "/" in path else system.nodes.update({path: symlink(target)})
    for applet in starter.applets(busybox):
        if not any(f"{place}/{applet}" in system.nodes for place in ("usr/bin", "usr/sbin")):
            system.add(f"usr/bin/{applet}", symlink("busybox"))
    certificates = [
        node.data for path, node in system.walk() if path.startswith("usr/share/ca-certificates/") and node.is_file
    ]
    system.add("etc/ssl/certs/ca-certificates.crt", file(b"".join(certificates)))
    page = (recipe.directory / "starter.html").read_bytes()
    system.add("usr/share/cove/starter.tar", file(starter.archive(recipe.architecture.name, busybox, page)))
    check_libraries(system, (f"usr/lib/{recipe.architecture.multiarch}", "usr/lib"))

    return Base(kernel_files[kernel_path], system, _initramfs(recipe, busybox, modules))


def _modules(recipe: Recipe, release: str, kernel_files: dict[str, bytes]) -> dict[str, Module]:
    root = f"usr/lib/modules/{release}/"
    files = {path.removeprefix(root): data for path, data in kernel_files.items() if path.startswith(root)}
    builtin = files["modules.builtin"].decode().split()
    wanted = [name for names in recipe.modules.values() for name in names]
    drivers = {path: data for path, data in files.items() if path.endswith((".ko", ".ko.xz"))}
    return kernel_modules.choose(drivers, wanted, builtin)


def _initramfs(recipe: Recipe, busybox: bytes, modules: dict[str, Module]) -> Tree:
    tree = Tree()
    for path in ("dev", "proc", "sys", "system", "writes", "root"):
        tree.add(path, directory())
    tree.add("dev/console", character_device(5, 1))
    tree.add("usr/bin/busybox", file(busybox, 0o755))
    for applet in _INITRAMFS_APPLETS:
        tree.add(f"usr/bin/{applet}", symlink("busybox"))
    tree.nodes["bin"] = symlink("usr/bin")
    tree.add("init", file((recipe.directory / "init").read_bytes().replace(b"\r\n", b"\n"), 0o755))
    order = []
    for module in kernel_modules.closure(modules, [*recipe.modules["initramfs"], *recipe.modules["boot"]]):
        path = f"modules.d/{posixpath.basename(module.path)}"
        tree.add(path, file(module.data))
        order.append(f"/{path}\n")
    tree.add("modules", file("".join(order).encode()))
    return tree


def with_engine(system: Tree, engine: Iterable[tuple[str, Path]]) -> Tree:
    """The system with the engine's sources in it."""
    result = Tree(dict(system.nodes))
    for name, path in engine:
        # A checkout on Windows may have other line ends; the bits must not differ.
        result.add(f"{_ENGINE}/{name}", file(path.read_bytes().replace(b"\r\n", b"\n")))
    return result


def check_libraries(system: Tree, places: Sequence[str]) -> None:
    """Raise `CoveError` when a program or library in `system` needs a library that is in none of the `places`."""
    missing = sorted(
        {f"{library} (for /{path})" for path, node in _elf_files(system) for library in _missing(system, node, places)}
    )
    if missing:
        raise CoveError(f"the VM image lacks {', '.join(missing)}", "the recipe must name the packages that have them")


def _elf_files(system: Tree) -> Iterator[tuple[str, Node]]:
    for path, node in system.walk():
        if node.is_file and elf.is_elf(node.data) and not path.endswith(".ko"):
            yield path, node


def _missing(system: Tree, node: Node, places: Sequence[str]) -> list[str]:
    return [
        library
        for library in elf.needed(node.data)
        if all(system.resolve(f"{place}/{library}") is None for place in places)
    ]
