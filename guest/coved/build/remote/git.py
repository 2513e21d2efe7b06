"""Trees of git repositories for builds (contexts, ADD): fetched without history, and kept by their commits.

The machine has no git(1): it is 45 MB, with a Perl. Nor is dulwich used: it takes objects of any size into memory, at its
server's word, and what a build needs of git is not much more than what it would take to hold that back.

What BuildKit does by way of git(1) and this does not: line endings and filters of ``.gitattributes``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from coved.build.errors import BuildError
from coved.build.files import places
from coved.build.files.places import OPEN_DIRECTORY, clean, open_exactly, split
from coved.build.remote import git_tree, git_wire
from coved.build.remote.downloads import Secret, basic, login, public
from coved.build.remote.git_budget import Budget
from coved.build.remote.git_pack import Pack
from coved.build.remote.git_url import GitRef, is_commit
from coved.build.remote.git_wire import HttpServer, Refs, Server, SocketServer, TcpServer
from coved.build.remote.holdings import Holding
from coved.build.remote.kept_trees import KeptTrees
from coved.errors import EngineError, no_room
from coved.registry import calls
from coved.registry import remote as web
from coved.registry.calls import in_call
from coved.registry.settings import Endpoint
from coved.registry.wire import origin
from coved.store.trees import remove_tree

if TYPE_CHECKING:
    from coved.registry import Registries
    from coved.registry.wire import Wire

TREES_MAX = 32
"""Checkouts that are kept, beside those in use."""
_SUBMODULES_DEEP = 10
_MODULES = ".gitmodules"
_MODULES_MAX = 1 << 20
_PART = re.compile(r'^\[submodule "(.+)"\]$')
_CHECKSUM = re.compile(r"[a-fA-F0-9]+")
_REACHABLE = ("allow-reachable-sha1-in-want", "allow-any-sha1-in-want")
_TIP = "allow-tip-sha1-in-want"

Meter = Callable[[int], None]
Agent = Callable[[str], AbstractAsyncContextManager[Path | None]]
"""``Client.ssh_agent``."""


@dataclass(frozen=True)
class GitTree:
    """There as long as the context that gave it is open. Everything belongs to root."""

    path: Path
    commit: str
    key: str
    """The same for the same files."""


@dataclass(frozen=True)
class _Goal:
    """What a ref comes to: ``object`` may be a tag, and then ``commit`` is what that is of, if the server said it."""

    object: str
    commit: str
    name: str = ""


class Repositories:
    """Belongs to the event loop; blocking work is done in threads.

    Args:
        directory: this class's alone.
    """

    def __init__(self, registries: Registries, directory: Path) -> None:
        self._registries = registries
        self._trees = KeptTrees(directory, TREES_MAX)

    async def entries(self) -> list[Holding]:
        """Raises OSError."""
        return await self._trees.entries()

    async def remove(self, ids: Iterable[str]) -> None:
        """Those of them that no build uses."""
        await self._trees.remove(ids)

    @contextlib.asynccontextmanager
    async def tree(
        self, ref: GitRef, *, keep_git_dir: bool = False, checksum: str = "", secret: Secret | None = None,
        agent: Agent | None = None, meter: Meter = lambda done: None,
    ) -> AsyncIterator[GitTree]:  # fmt: skip
        """The files of a commit.

        Args:
            keep_git_dir: with a ``.git``; what the ref itself says counts more.
            checksum: how the commit must begin, beside what the ref says.
            secret: tells what authorizes (GIT_AUTH_TOKEN, GIT_AUTH_HEADER, with .host behind it or not: without one it is meant
                for this repository's server, and those of its submodules that are others never learn of it).
            agent: for a repository that is reached over SSH, and for its submodules.
            meter: told of the bytes that have come.

        Raises BuildError in BuildKit's words.
        """
        keep = ref.keep_git_dir if ref.keep_git_dir is not None else keep_git_dir
        wanted = {one for one in (checksum, ref.checksum) if one}
        if len(wanted) > 1:
            raise BuildError(f'checksum mismatch "{checksum}" != "{ref.checksum}"')
        expected = "".join(wanted)
        if expected and not _CHECKSUM.fullmatch(expected):
            raise BuildError(f"invalid checksum {expected} for Git URL, expected hex commit hash")
        fetch = _Fetch(self._registries, ref, expected, secret, agent, meter)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(fetch.close)
            try:
                goal = await fetch.goal()
                key = fetch.key(goal, keep=keep)
                kept = await stack.enter_async_context(
                    self._trees.held(
                        key,
                        lambda place: fetch.checked_out(goal, place, keep=keep),
                        f"git snapshot for {public(ref.remote)}#{ref.ref}",
                    )
                )
                commit = await asyncio.to_thread((kept / "commit").read_text)
            except EngineError as error:
                raise BuildError(f"failed to load cache key: {error}") from error
            except OSError as error:
                words = f"failed to checkout remote {public(ref.remote)}: {places.describe(error)}"
                raise no_room(error) or BuildError(f"failed to load cache key: {words}") from error
            yield GitTree(kept / "tree", commit, f"git:{key}")


class _Fetch:
    """One repository, as long as it is asked something."""

    def __init__(
        self, registries: Registries, ref: GitRef, checksum: str, secret: Secret | None, agent: Agent | None, meter: Meter,
        above: _Fetch | None = None,
    ) -> None:  # fmt: skip
        self._registries = registries
        self._ref = ref
        self._checksum = checksum
        self._secret = secret
        self._agent = agent
        self._agents = contextlib.AsyncExitStack()
        self._meter = meter
        self._deep: int = above._deep + 1 if above is not None else 0
        self._budget: Budget = above._budget if above is not None else Budget()
        self._home: tuple[str, str, int] | None = above._home if above is not None else None
        """Where the repository that the user has named is, once it has been asked."""
        self._wire: Wire | None = None
        self._server: Server | None = None
        self._refs: Refs | None = None
        self._call = calls.Call()

    async def close(self) -> None:
        self._call.give_up()
        self._call.close()
        if self._wire is not None:
            self._wire.close()
        if isinstance(self._server, SocketServer):
            await asyncio.to_thread(self._server.close)
        await self._agents.aclose()

    def key(self, goal: _Goal, *, keep: bool) -> str:
        words = [goal.object if keep else goal.commit, clean(self._ref.subdir), str(self._ref.submodules)]
        words += [str(self._ref.commit_time), *([goal.name, public(self._ref.remote)] if keep else [])]
        # Submodules' addresses may be relative to the repository's.
        words.append(public(self._ref.remote))
        return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()

    async def goal(self) -> _Goal:
        """What the ref comes to; nobody is asked of a commit. Raises EngineError."""
        if is_commit(self._ref.ref):
            if not self._ref.ref.startswith(self._checksum.lower()):
                raise BuildError(f"expected checksum to match {self._checksum}, got {self._ref.ref}")
            return _Goal(self._ref.ref, self._ref.ref)
        if self._ref.fetch_by_commit:
            return self._pinned()
        refs = await self._asked()
        goal = _found(refs, self._ref.ref or refs.default)
        if self._checksum and not any(one.startswith(self._checksum.lower()) for one in (goal.object, goal.commit)):
            shown = " or ".join(dict.fromkeys((goal.object, goal.commit)))
            raise BuildError(f"expected checksum to match {self._checksum}, got {shown}")
        return goal

    def _pinned(self) -> _Goal:
        """The ref is only what the commit is called in the ``.git``."""
        if not self._checksum:
            raise BuildError("fetch-by-commit requires a checksum or a commit SHA ref")
        if not is_commit(self._checksum):
            raise BuildError(f'fetch-by-commit requires a full commit SHA checksum, got "{self._checksum}"')
        name = self._ref.ref
        if name and not name.startswith("refs/"):
            name = f"refs/heads/{name}"
        return _Goal(self._checksum, self._checksum, name)

    async def checked_out(self, goal: _Goal, place: Path, *, keep: bool) -> None:
        """Puts the files into ``place``/tree, and the commit's name into ``place``/commit."""
        refs = await self._asked()
        assert self._server is not None
        server = self._server
        source = place / "pack"
        loop = asyncio.get_running_loop()
        wants, depth = _wants(refs, goal)

        def tell(done: int) -> None:
            loop.call_soon_threadsafe(self._meter, done)

        def fetched() -> git_wire.Shallow:
            return server.fetch(wants, depth=depth, target=source, meter=tell)

        with self._naming():
            shallow = await in_call(fetched, self._call)

        def write() -> list[tuple[str, str, bytes]]:
            tree = place / "tree"
            tree.mkdir(mode=0o755)
            tree.chmod(0o755)
            wanted = _going_on(self._call)
            with contextlib.closing(Pack(source, wanted, self._budget)) as pack:
                checkout = git_tree.Checkout(pack, bytes.fromhex(goal.object), wanted, self._budget)
                time = checkout.time if self._ref.commit_time else None
                folder = clean(self._ref.subdir)
                checkout.write(checkout.subtree(folder), tree, time)
                if keep and not folder:
                    git_tree.keep(
                        tree / ".git", pack, source, checkout, head=bytes.fromhex(goal.object), ref=goal.name,
                        remote=public(self._ref.remote), shallow=shallow.commits,
                    )  # fmt: skip
                modules = self._modules(pack, checkout) if self._ref.submodules else []
            source.unlink(missing_ok=True)
            (place / "commit").write_text(checkout.commit.hex())
            return modules

        for path, url, object in await in_call(write, self._call):
            await self._submodule(place, path, url, object.hex())

    def _modules(self, pack: Pack, checkout: git_tree.Checkout) -> list[tuple[str, str, bytes]]:
        """Path in the tree, address and commit of each submodule that was checked out."""
        objects = {entry.path: entry.name for entry in checkout.entries if entry.status is None}
        if not objects:
            return []
        text = checkout.read(_MODULES, _MODULES_MAX)
        folder = clean(self._ref.subdir)
        modules = []
        for path, url in _parsed(text):
            inside = path.removeprefix(f"{folder}/") if folder else path
            if inside in objects and (not folder or path.startswith(f"{folder}/")):
                modules.append((inside, _address(self._ref.remote, url), objects[inside]))
        if missing := objects.keys() - {path for path, _, _ in modules}:
            raise BuildError(f"no url found for submodule path '{min(missing)}' in .gitmodules")
        return modules

    async def _submodule(self, place: Path, path: str, url: str, commit: str) -> None:
        if self._deep >= _SUBMODULES_DEEP:
            raise BuildError(f"submodules are nested more than {_SUBMODULES_DEEP} deep at {path}")
        ref = GitRef(url, ref=commit, commit_time=self._ref.commit_time)
        # Who is fetched from over HTTP says nothing that an agent should be asked for.
        agent = self._agent if _scheme(self._ref.remote) == "ssh" else None
        other = _Fetch(self._registries, ref, "", self._secret, agent, self._meter, self)
        inner = place / "module"
        try:
            self._budget.reach()
            await asyncio.to_thread(inner.mkdir)
            await other.checked_out(_Goal(commit, commit), inner, keep=False)
            await asyncio.to_thread(_moved, inner / "tree", place / "tree", path)
        except BuildError as error:
            raise BuildError(f"failed to update submodules for {public(self._ref.remote)}: {error}") from error
        finally:
            await other.close()
            await asyncio.to_thread(remove_tree, inner)

    async def _asked(self) -> Refs:
        if self._refs is None:
            with self._naming():
                server = self._server = await self._reached()
                self._refs = await in_call(server.refs, self._call)
        return self._refs

    async def _reached(self) -> Server:
        remote, scheme = self._ref.remote, _scheme(self._ref.remote)
        if scheme == "ssh":
            return await self._over_ssh(remote)
        if scheme == "git":
            return TcpServer(remote, self._budget)
        parts = urlsplit(remote)
        address = web.address(public(remote)).rstrip("/")
        if not self._deep:
            self._home = origin(address)
        told = login(parts.netloc) or await self._secrets(address)
        self._wire = await self._registries.wire(Endpoint(scheme, urlsplit(address).netloc))
        return HttpServer(self._wire, address, told, self._budget)

    async def _over_ssh(self, remote: str) -> Server:
        from coved.build.remote.git_ssh import AGENT, SshServer

        path = await self._agents.enter_async_context(self._agent(AGENT)) if self._agent is not None else None
        if path is None:
            raise BuildError(f'no SSH key "{AGENT}" forwarded from the client')
        return SshServer(remote, path, self._budget)

    async def _secrets(self, url: str) -> Mapping[str, str]:
        """A submodule's address is whatever its repository says: it may name a host without a certificate, or anybody's."""
        at_home = origin(url) == self._home
        if self._secret is None or not (at_home or url.startswith("https://")):
            return {}
        host = urlsplit(url).netloc
        for name, is_token in (("HEADER", False), ("TOKEN", True)):
            for suffix in (f".{host}", "") if at_home else (f".{host}",):
                value = await self._secret(f"GIT_AUTH_{name}{suffix}")
                if value is not None:
                    text = value.decode("latin-1").strip()
                    return {"Authorization": basic(f"x-access-token:{text}") if is_token else text}
        return {}

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except EngineError as error:
            raise BuildError(f"failed to fetch remote {public(self._ref.remote)}: {error}") from error
        except TimeoutError:
            raise BuildError(f"failed to fetch remote {public(self._ref.remote)}: i/o timeout") from None


def _going_on(call: calls.Call) -> Callable[[], bool]:
    def wanted() -> bool:
        call.check()
        return True

    return wanted


def _found(refs: Refs, ref: str) -> _Goal:
    """A whole name, or a branch's, or a tag's, in that order."""
    short = ref.removeprefix("refs/")
    for name in (
        f"refs/{short}", f"refs/heads/{ref.removeprefix('refs/heads/')}", f"refs/tags/{ref.removeprefix('refs/tags/')}"
    ):  # fmt: skip
        object = refs.names.get(name, "")
        if ref and is_commit(object):
            return _Goal(object, refs.names.get(f"{name}^{{}}", object), name)
    raise BuildError(f'repository does not contain ref {ref or "HEAD"}, output: ""')


def _wants(refs: Refs, goal: _Goal) -> tuple[list[str], int]:
    """What to ask for, and how deep: of a server that gives no commit but those it names, all there is."""
    named = goal.object in refs.names.values()
    if named or any(one in refs.capabilities for one in _REACHABLE):
        return [goal.object], 1
    heads = {object for name, object in refs.names.items() if name.startswith(("refs/heads/", "refs/tags/"))}
    return sorted(object for object in heads if is_commit(object)) or [goal.object], 0


def _parsed(text: bytes) -> list[tuple[str, str]]:
    """Paths and addresses of a .gitmodules (gitmodules(5))."""
    modules: list[dict[str, str]] = []
    for line in text.decode("utf-8", "surrogateescape").splitlines():
        line = line.strip()
        if _PART.match(line):
            modules.append({})
        elif modules and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            modules[-1][name.strip().lower()] = value.strip().strip('"')
    return [(clean(one["path"]), one["url"]) for one in modules if one.get("path") and one.get("url")]


def _address(remote: str, url: str) -> str:
    """A submodule's; one that begins with a dot is relative to the repository's."""
    if not url.startswith(("./", "../")):
        return url
    if "://" not in remote:
        host, _, path = remote.partition(":")
        return f"{host}:{'/' if path.startswith('/') else ''}{clean(f'{path}/{url}')}"
    # Of SSH the user belongs to the place, and is nobody's secret.
    parts = urlsplit(remote if _scheme(remote) == "ssh" else public(remote))
    return urlunsplit(parts._replace(path=f"/{clean(f'{parts.path}/{url}')}"))


def _scheme(remote: str) -> str:
    return remote.partition("://")[0] if "://" in remote else "ssh"


def _moved(tree: Path, target: Path, path: str) -> None:
    """Puts a submodule's files in the place of the empty folder that stands for it."""
    folder, name = split(path)
    root = os.open(target, OPEN_DIRECTORY)
    try:
        parent = open_exactly(root, folder, OPEN_DIRECTORY)
        try:
            os.rmdir(name, dir_fd=parent)
            os.rename(tree, name, dst_dir_fd=parent)
        finally:
            os.close(parent)
    finally:
        os.close(root)
