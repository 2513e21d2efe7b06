"""What a build is given: its Dockerfile, what of the client's files it may see, and its named contexts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from coved.build.client import Client, Tree
from coved.build.errors import BadDockerfile, BuildError
from coved.build.files.folder import Folder, Shared
from coved.build.files.incoming import Incoming
from coved.build.orders import Files
from coved.build.remote.sources import Remote
from coved.build.request import Request
from coved.build.stages.plan import Plan
from coved.build.vertices import Vertices
from coved.dockerfile import instructions as i
from coved.dockerfile import numbers
from coved.dockerfile.ignore import read_ignore
from coved.errors import NotFound
from coved.outside import without_credentials
from coved.runtime.paths import open_in_root

DOCKERFILE_MAX = 8 << 20
"""Bytes."""
PATTERNS_MAX = 10_000
"""Of .dockerignore, each of which is held against each file."""
_IGNORE_MAX = 1 << 20
IGNORE = ".dockerignore"
_KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
_AS_WRITTEN = frozenset("$\"'\\`")
"""Characters by which a source may be another one than is written."""

Load = Callable[[], Coroutine[Any, Any, Files]]


class Inputs:
    """Of one build. What it opens stays until ``stack`` is closed."""

    def __init__(
        self, request: Request, client: Client, vertices: Vertices, remote: Remote, incoming: Incoming,
        stack: contextlib.AsyncExitStack,
    ) -> None:  # fmt: skip
        self._request = request
        self._client = client
        self._main = client
        """Who has the build context, and the Dockerfile."""
        self._text: bytes | None = None
        """The Dockerfile, when it is all that the context's URL has led to."""
        self._remote = remote
        self._incoming = incoming
        self._vertices = vertices
        self._stack = stack
        self.definition = ""
        """The step that reads the Dockerfile."""
        self._ignore: bytes | None = None
        self._sources: list[str] = []
        self._wanted: tuple[str, ...] = ()
        self._trees: dict[str, asyncio.Task[Files]] = {}

    @property
    def filename(self) -> str:
        return posixpath.basename(self._request.dockerfile)

    async def dockerfile(self) -> bytes:
        """Raises BuildError when there is none."""
        if self._request.context:
            await self._fetch(self._request.context)
        if self._text is not None:
            return self._text
        name = self._request.dockerfile
        with self._vertices.doing(f"[internal] load build definition from {self.filename}") as doing:
            self.definition = doing.digest
            with doing.part("transferring dockerfile:", "transferring") as part:
                only = [name, name + IGNORE, posixpath.join(posixpath.dirname(name), "dockerfile")]
                tree = await self._open(self._request.dockerfile_in, only=only, meter=part.tell)
                data = _read(tree.path, name)
                if data is None and posixpath.basename(name) == "Dockerfile":
                    data = _read(tree.path, only[-1])
                if data is None:
                    raise BuildError(f"failed to read dockerfile: open {name}: no such file or directory")
                self._ignore = _read(tree.path, name + IGNORE)
        return data

    async def _fetch(self, url: str) -> None:
        with self._vertices.doing(f"[internal] load remote build context {without_credentials(url)}") as doing:
            keep = numbers.truth(self._request.build_args.get(_KEEP_GIT_DIR) or "") is True
            fetched = await self._remote.context(url, doing, keep_git_dir=keep)

            async def copy(path: Path) -> Path:
                folder = self._stack.enter_context(self._incoming.folder())
                await self._incoming.copy(path, folder)
                return folder

            if fetched.dockerfile:
                self._text = _read(fetched.path, fetched.dockerfile)
                self._main = Folder(self._stack.enter_context(self._incoming.folder()))
            else:
                self._main = Shared(fetched.path, fetched.key, copy)

    def want(self, plan: Plan) -> None:
        """Decides what of the build context is needed, before any of it is asked for.

        Another platform's stages may need what the ones before did not: then it is asked for anew.
        """
        before, had = self._wanted, bool(self._sources)
        self._sources = _sources(plan)
        self._wanted = tuple(_wanted(self._sources))
        whole = had and not before
        if "" in self._trees and not whole and (not self._wanted or not {*self._wanted} <= {*before}):
            self._trees[f" {len(self._trees)}"] = self._trees.pop("")

    def ask(self) -> None:
        """Asks for the build context, if it is needed, without waiting for it: long steps may come before the first that
        needs it, and whoever changes a file meanwhile does not mean this build."""
        if self._sources:
            self._task("", self._load_context)

    async def context(self) -> Files:
        """The build context without what is ignored."""
        return await self._once("", self._load_context)

    async def named(self, name: str) -> Files:
        """The client's tree that goes by that name (``--build-context``)."""

        async def load() -> Files:
            with self._vertices.doing(f"[context {name}] load from client") as doing:
                with doing.part("transferring context:", "transferring") as part:
                    ignore = await self._read_ignore(name)
                    tree = await self._open(name, excludes=_patterns(ignore or b""), meter=part.tell)
                    return Files(tree.path, key=tree.key)

        return await self._once(name, load)

    async def elsewhere(self, name: str, url: str) -> Files:
        """A named context that is a repository, or a file of the web."""

        async def load() -> Files:
            with self._vertices.doing(f"[context {name}] load from {without_credentials(url)}") as doing:
                fetched = await self._remote.context(url, doing, named=True)
                return Files(fetched.path, key=fetched.key)

        return await self._once(f"{name} {url}", load)

    async def _once(self, name: str, load: Load) -> Files:
        return await asyncio.shield(self._task(name, load))

    def _task(self, name: str, load: Load) -> asyncio.Task[Files]:
        if name not in self._trees:
            self._trees[name] = asyncio.get_running_loop().create_task(load())
        return self._trees[name]

    async def close(self) -> None:
        """Ends transfers that are still under way."""
        for task in self._trees.values():
            task.cancel()
        await asyncio.gather(*self._trees.values(), return_exceptions=True)

    async def _load_context(self) -> Files:
        if self._ignore is None:
            with self._vertices.doing(f"[internal] load {IGNORE}") as doing:
                with doing.part("transferring context:", "transferring"):
                    self._ignore = await self._read_ignore("context") or b""
        excludes = _patterns(self._ignore)
        with self._vertices.doing("[internal] load build context") as doing:
            with doing.part("transferring context:", "transferring") as part:
                tree = await self._open("context", excludes=excludes, only=self._wanted, meter=part.tell)
                return Files(tree.path, key=tree.key)

    async def _read_ignore(self, name: str) -> bytes | None:
        try:
            async with self._holder(name).tree(name, only=[IGNORE]) as tree:
                return _read(tree.path, IGNORE)
        except NotFound:
            return None

    async def _open(
        self, name: str, *, excludes: Sequence[str] = (), only: Sequence[str] = (),
        meter: Callable[[int], None] = lambda _: None,
    ) -> Tree:  # fmt: skip
        tree = self._holder(name).tree(name, excludes=excludes, only=only, meter=meter)
        return await self._stack.enter_async_context(tree)

    def _holder(self, name: str) -> Client:
        return self._main if name == "context" else self._client


def _patterns(data: bytes) -> list[str]:
    """Raises BuildError."""
    patterns = read_ignore(data) if len(data) <= _IGNORE_MAX else None
    if patterns is None or len(patterns) > PATTERNS_MAX:
        raise BuildError(f"{IGNORE} has more than {_IGNORE_MAX >> 20} MiB, or {PATTERNS_MAX} patterns")
    return patterns


def _read(root: Path, name: str) -> bytes | None:
    """A file of a tree, wherever links in it lead within the tree; None when there is none.

    It is small, and was written just now: to go to a thread for it takes longer than to read it.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        file = open_in_root(fd, name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - a descriptor
            data = stream.read(DOCKERFILE_MAX + 1)
    except IsADirectoryError:
        os.close(file)
        return None
    if len(data) > DOCKERFILE_MAX:
        raise BadDockerfile(f"{name} has more than {DOCKERFILE_MAX >> 20} MiB")
    return data


def _sources(plan: Plan) -> list[str]:
    """What the instructions take of the build context, as they are written."""
    found: list[str] = []
    for planned in plan.stages:
        for instruction in planned.instructions:
            if isinstance(instruction, i.Copy) and not instruction.from_:
                found += [one for one in instruction.sources if "://" not in one]
            elif isinstance(instruction, i.Run):
                found += [one.source or "/" for one in instruction.mounts if one.kind == "bind" and not one.from_]
    return found


def _wanted(found: Sequence[str]) -> Sequence[str]:
    """Paths and wildcards; none when everything may be."""
    paths = [posixpath.normpath("/" + one).lstrip("/") for one in found]
    # What variables and quotes stand for, and what triggers of the base image copy, is known when the step's turn has come.
    if "" in paths or any(not _AS_WRITTEN.isdisjoint(one) for one in found):
        return []
    return paths or ["."]
