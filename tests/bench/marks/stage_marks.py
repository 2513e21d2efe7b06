"""Times at which functions of the engine are entered and left, taken from outside: nothing of this is in the product.

Modules are patched as they are imported. A mark is a number in a page of memory that the engine, its spawner, the shims and
the new processes share until execve: taking one is no system call, and works in any namespace and under any seccomp filter.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import inspect
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from types import ModuleType
from typing import Any

VARIABLE = "COVE_BENCH_MARKS"
"""Environment variable with the path of the file that is the shared page."""
SIZE = 4096

POINTS = {
    "life.start": ("coved.containers.life", "Life.start"),
    "sandbox": ("coved.networks.sandboxes", "Sandboxes.begin"),
    "spec": ("coved.containers.spec", "build"),
    "ask": ("coved.runtime.spawner_client", "SpawnerClient.create"),
    "give": ("coved.runtime.spare", "Spare.give"),
    "shim": ("coved.runtime.shim", "Shim.create"),
    "cgroup": ("coved.runtime.cgroups", "Cgroup.create"),
    "mounts": ("coved.runtime.rootfs", "prepare"),
    "held": ("coved.runtime.shim", "_wait_for"),
    "clone": ("coved.runtime.process", "RunningProcess._clone"),
    "init": ("coved.runtime.setup", "run_init"),
    "root": ("coved.runtime.rootfs", "build"),
    "become": ("coved.runtime.setup", "_become"),
    "go": ("coved.runtime.process", "RunningProcess.execute"),
    "execute": ("coved.runtime.setup", "_execute"),
    "execve": ("os", "execve"),
    "reply": ("coved.runtime.control", "Connection.reply"),
    "started": ("coved.runtime.shim_client", "ShimClient.start"),
    "save": ("coved.containers.registry", "Registry.save"),
    "reap": ("coved.runtime.process", "RunningProcess.reap"),
    "exit file": ("coved.runtime.exitfile", "write"),
    "ended": ("coved.containers.ending", "Endings._ended"),
    "close": ("coved.networks.sandboxes", "Sandboxes.close"),
    "remove": ("coved.containers.manager", "Containers.remove"),
    "forget": ("coved.networks.sandboxes", "Sandboxes.forget"),
    "delete": ("coved.containers.registry", "Registry.remove"),
    "take": ("coved.containers.removals", "Removals.take"),
}
"""Functions by the name of their marks: the name itself when it is entered, the name and " done" when it is left."""
SLOTS = {name: number for number, name in enumerate(one + end for one in POINTS for end in ("", " done"))}


class Page:
    """The marks, each the monotonic clock's nanoseconds."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)

    def mark(self, name: str) -> None:
        struct.pack_into("q", self._memory, 8 * SLOTS[name], time.monotonic_ns())

    def read(self) -> dict[str, int]:
        return {name: struct.unpack_from("q", self._memory, 8 * slot)[0] for name, slot in SLOTS.items()}

    def clear(self) -> None:
        self._memory[:] = bytes(SIZE)


def install() -> None:
    """Patch what is imported from now on; nothing to do without the variable."""
    if path := os.environ.get(VARIABLE):
        page = Page(path)
        os.execve = _wrapped(os.execve, "execve", page)
        sys.meta_path.insert(0, _Finder(page))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, page: Page) -> None:
        self._page = page
        self._modules = {module for module, _ in POINTS.values()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for name, (where, function) in POINTS.items():
                if where == fullname:
                    _patch(module, function, name, self._page)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _patch(module: ModuleType, function: str, name: str, page: Page) -> None:
    owner: Any = module
    *path, last = function.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, last, _wrapped(getattr(owner, last), name, page))


def _wrapped(function: Callable[..., Any], name: str, page: Page) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def waiting(*arguments: Any, **named: Any) -> Any:
            page.mark(name)
            try:
                return await function(*arguments, **named)
            finally:
                page.mark(f"{name} done")

        return waiting

    @wraps(function)
    def calling(*arguments: Any, **named: Any) -> Any:
        page.mark(name)
        try:
            return function(*arguments, **named)
        finally:
            page.mark(f"{name} done")

    return calling
