"""Imports point one way (docs/architecture.md): a package knows those below it, never one that knows it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import cove
import coved
import pytest

HOST = {
    "cli": {
        "agent",
        "build",
        "contents",
        "dashboard",
        "debian",
        "drivers",
        "image",
        "kube",
        "local",
        "machine",
        "remote",
        "support",
        "tray",
        "vulnerabilities",
    },
    "kube": {"local"},
    "dashboard": {"agent", "drivers", "local", "machine", "share", "support"},
    "tray": {"agent", "local", "machine", "support"},
    "support": {"agent", "drivers", "forward", "image", "local", "machine", "remote", "share"},
    "agent": {"drivers", "forward", "image", "local", "machine", "remote", "share", "transport"},
    "remote": {"image", "local", "machine", "transport"},
    "share": {"drivers", "local", "machine"},
    "forward": {"drivers", "local", "transport"},
    "drivers": {"image", "local", "machine"},
    "debian": {"image", "machine"},
    "vulnerabilities": {"contents", "image", "machine"},
    "contents": set[str](),
    "build": set[str](),
    "image": {"machine"},
    "machine": {"local", "transport"},
    "transport": set[str](),
    "local": set[str](),
}
_BOTTOM = {"events", "link", "names", "runtime", "shares", "store"}
_MIDDLE = {"images", "networks", "volumes"}
GUEST = {
    "api": {"engine", "build", "buildkit", "containers", "files", "registry", *_MIDDLE, *_BOTTOM},
    "buildkit": {"build", "dockerfile", "grpc", "engine", "images", *_BOTTOM},
    "build": {"dockerfile", "containers", "files", "registry", *_MIDDLE, *_BOTTOM},
    "files": {"containers", *_MIDDLE, *_BOTTOM},
    "containers": {"watching", *_MIDDLE, *_BOTTOM},
    "watching": {"link", "runtime"},
    "registry": {"images", *_BOTTOM},
    **dict.fromkeys(sorted(_MIDDLE), _BOTTOM),
    "images": {"dockerfile", *_BOTTOM},
    **{package: set[str]() for package in sorted(_BOTTOM)},
    "shares": {"runtime"},
    "dockerfile": set(),
    "grpc": set(),
    "streams": set(),
    "boot": {"runtime", "streams"},
    "remote": {"boot", "networks", "process", "runtime", "vm"},
}
TOOLS = {"activity", "current_outside", "errors", "filters", "finishing", "outside", "threads", "times", "versions"}
"""The guest's modules that every package may use, and that use none."""
TOP = {"engine", "process", "rehearsal", "supervisor", "vm"}
"""The guest's modules that put the packages together; no package uses them, but for the API the engine, and what starts it on a host."""
LAZY = {
    ("engine", "files"): "few sessions copy files: loaded when first asked for",
    ("engine", "link"): "an engine outside of a VM has no link",
}
"""What the engine imports in its functions only, beside what it imports for the type checker."""


SHARED = {
    "coved.boot.places",
    "coved.boot.seedform",
    "coved.remote.places",
    "coved.link.protocol",
    "coved.streams.frames",
    "coved.shares.pump",
    "coved.streams.key",
    "coved.streams.knock",
    "coved.outside",
    "coved.link.relay",
    "coved.grpc",
    "coved.buildkit.filemode",
    "coved.buildkit.messages",
    "coved.dockerfile",
}
"""What the host imports of the guest."""


class Import(NamedTuple):
    module: str
    other: str
    """The package or module of the same program that it imports."""
    late: bool
    """In a function."""
    typing: bool
    """For the type checker alone."""


def imported(program: ModuleType, part: str) -> Iterator[Import]:
    """What a package, or a module, of `program` imports of it, wherever the import stands."""
    assert program.__file__ is not None
    root = Path(program.__file__).parent

    def walk(node: ast.AST, module: str, late: bool, typing: bool) -> Iterator[Import]:
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if head == program.__name__ and ((root / other).is_dir() or (root / f"{other}.py").is_file()):
                yield Import(module, other, late, typing)
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            guarded = isinstance(node, ast.If) and child in node.body and ast.unparse(node.test) == "TYPE_CHECKING"
            yield from walk(child, module, late, typing or guarded)

    files = [*(root / part).rglob("*.py")] or [root / f"{part}.py"]
    for file in files:
        yield from walk(ast.parse(file.read_bytes()), str(file.relative_to(root)), False, False)


def packages(program: ModuleType) -> set[str]:
    assert program.__file__ is not None
    return {path.parent.name for path in Path(program.__file__).parent.glob("*/__init__.py")}


PROGRAMS = [(cove, HOST), (coved, GUEST)]
EVERY = [
    pytest.param(program, package, below[package], id=f"{program.__name__}.{package}")
    for program, below in PROGRAMS
    for package in below
]


@pytest.mark.parametrize(("program", "below"), PROGRAMS)
def test_every_package_is_here(program: ModuleType, below: Mapping[str, Set[str]]) -> None:
    assert packages(program) == set(below)


@pytest.mark.parametrize(("program", "package", "below"), EVERY)
def test_a_package_imports_those_below_it(program: ModuleType, package: str, below: Set[str]) -> None:
    others = packages(program) | (TOP if program is coved else set())
    wrong = [found for found in imported(program, package) if found.other in others - below - {package}]
    assert not wrong


@pytest.mark.parametrize(("program", "below"), PROGRAMS)
def test_no_package_is_below_itself(program: ModuleType, below: Mapping[str, Set[str]]) -> None:
    TopologicalSorter(below).prepare()  # raises CycleError


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_the_guests_tools_use_no_package(tool: str) -> None:
    assert not [found for found in imported(coved, tool) if found.other not in TOOLS]


def test_every_module_of_the_guest_is_a_tool_or_on_top() -> None:
    assert coved.__file__ is not None
    modules = {path.stem for path in Path(coved.__file__).parent.glob("*.py")}
    assert modules - {"__init__", "__main__"} == TOOLS | TOP


def modules_of_the_guest(file: Path) -> Iterator[str]:
    """What a file imports of the guest."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "coved":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "coved")


def is_shared(module: str) -> bool:
    return any(f"{module}.".startswith(f"{each}.") for each in SHARED)


def test_the_host_imports_what_both_sides_share() -> None:
    assert cove.__file__ is not None
    used = {module for file in Path(cove.__file__).parent.rglob("*.py") for module in modules_of_the_guest(file)}
    assert any(module.startswith("coved.link.protocol") for module in used)
    assert {module for module in used if not is_shared(module)} == set()


@pytest.mark.parametrize("shared", sorted(SHARED))
def test_what_both_sides_share_imports_nothing_else(shared: str) -> None:
    assert coved.__file__ is not None
    path = Path(coved.__file__).parent.joinpath(*shared.split(".")[1:])
    files = [*path.rglob("*.py")] or [path.with_suffix(".py")]
    for file in files:
        assert not [module for module in modules_of_the_guest(file) if not is_shared(module)]


def test_the_engine_is_below_the_api() -> None:
    assert not [found for found in imported(coved, "engine") if found.other in {"api", *TOP}]


def test_what_is_lazy_is_there() -> None:
    for module, package in LAZY:
        found = [each for each in imported(coved, module) if each.other == package]
        assert found
        assert all(each.late or each.typing for each in found)


BUILD = ("cache", "files", "remote", "run", "stages")
"""The packages of ``coved.build``: each may use those before it, and the modules beside them but for these."""
BUILD_TOP = {"builder", "upkeep"}


@pytest.mark.parametrize("place", range(len(BUILD)))
def test_the_parts_of_builds_know_those_below_them(place: int) -> None:
    folder = Path(coved.__file__).parent / "build"
    above = {*BUILD[place + 1 :], *BUILD_TOP}
    for file in (folder / BUILD[place]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("coved.build"):
                names = {*(node.module or "").split(".")[2:3]} or {alias.name for alias in node.names}
                assert not names & above, (file, node.module)


def test_every_part_of_builds_has_its_place() -> None:
    folder = Path(coved.__file__).parent / "build"
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == {*BUILD}
