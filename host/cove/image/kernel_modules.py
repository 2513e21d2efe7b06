"""Chooses kernel modules and writes the tables that modprobe reads.

depmod(8) makes these tables where a kernel is installed; here they come from the modules' own .modinfo, on any host. Formats:
modules.dep(5), and the text forms of modules.alias and modules.symbols that busybox's modprobe reads.
"""

from __future__ import annotations

import lzma
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cove.image import elf
from cove.image.tree import Tree, file


@dataclass(frozen=True, slots=True)
class Module:
    """A kernel module: `path` below /usr/lib/modules/<release>, uncompressed `data`, and what it says about itself."""

    name: str
    path: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


def module_name(path: str) -> str:
    """The name of the module in the file `path`; the kernel takes dashes for underscores."""
    return posixpath.basename(path).partition(".ko")[0].replace("-", "_")


def choose(files: Mapping[str, bytes], wanted: Iterable[str], builtin: Iterable[str]) -> dict[str, Module]:
    """Return the wanted modules and all that they need, by name, each after what it depends on.

    `files` are the kernel's .ko or .ko.xz files by their path below the modules' directory, `builtin` the paths in its
    modules.builtin. Raises `ValueError` for a wanted module that the kernel neither has nor has built in.
    """
    by_name = {module_name(path): path for path in files}
    built_in = {module_name(path) for path in builtin}
    chosen: dict[str, Module] = {}

    def add(name: str, parents: tuple[str, ...]) -> None:
        if name in chosen or name in built_in:
            return
        if name in parents:
            raise ValueError(f"the kernel modules {', '.join(parents)} depend on each other")
        if name not in by_name:
            wanted_by = f", which {parents[-1]} needs" if parents else ""
            raise ValueError(f"this kernel has no module {name}{wanted_by}")
        module = _read(by_name[name], files[by_name[name]])
        for dependency in module.depends:
            add(dependency, (*parents, name))
        chosen[name] = module

    for name in sorted(wanted):
        add(name.replace("-", "_"), ())
    return chosen


def closure(modules: Mapping[str, Module], wanted: Iterable[str]) -> list[Module]:
    """The wanted ones of `modules` (others are built in) with all they depend on, in an order in which they can be loaded."""
    result: dict[str, Module] = {}

    def add(name: str) -> None:
        module = modules.get(name.replace("-", "_"))
        if module is not None and module.name not in result:
            for dependency in module.depends:
                add(dependency)
            result[module.name] = module

    for name in wanted:
        add(name)
    return list(result.values())


def install(tree: Tree, release: str, modules: Mapping[str, Module]) -> None:
    """Put the modules and their tables into `tree`."""
    root = f"usr/lib/modules/{release}"
    dependencies, aliases, symbols = [], [], []
    for module in sorted(modules.values(), key=lambda module: module.path):
        tree.add(f"{root}/{module.path}", file(module.data))
        # modprobe loads from the right to the left.
        needs = [other.path for other in reversed(closure(modules, module.depends))]
        dependencies.append(" ".join([f"{module.path}:", *needs]))
        aliases += [f"alias {alias} {module.name}" for alias in module.aliases]
        symbols += [f"alias symbol:{symbol} {module.name}" for symbol in elf.exported_symbols(module.data)]
    for name, lines in (("dep", dependencies), ("alias", aliases), ("symbols", symbols)):
        tree.add(f"{root}/modules.{name}", file("".join(f"{line}\n" for line in lines).encode()))


def _read(path: str, data: bytes) -> Module:
    if path.endswith(".xz"):
        path, data = path.removesuffix(".xz"), lzma.decompress(data)
    info = elf.module_info(data)
    depends = [module_name(name) for key, value in info if key == "depends" for name in value.split(",") if name]
    aliases = [value for key, value in info if key == "alias"]
    return Module(module_name(path), path, data, tuple(depends), tuple(aliases))
