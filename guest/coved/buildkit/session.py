"""A client's session: the engine calls the client for what only it has. Builds share one; each has a ``BuildClient`` of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote_plus

from coved.build.cache.contexts import Contexts
from coved.build.client import Meter, Tree
from coved.build.files.incoming import Incoming
from coved.build.stages.inputs import IGNORE
from coved.buildkit import diffcopy
from coved.buildkit.agent import forward
from coved.buildkit.departing import Departing
from coved.buildkit.messages import (
    CHECK_AGENT,
    CREDENTIALS,
    FILE_SEND_STREAM,
    FILE_SEND_TREE,
    FILE_SYNC,
    GET_SECRET,
    PULL,
    BytesMessage,
    CheckAgentRequest,
    CredentialsRequest,
    GetSecretRequest,
)
from coved.buildkit.patience import answer
from coved.errors import EngineError, NotFound, Unavailable, no_room
from coved.grpc.call import Call
from coved.grpc.client import Channel
from coved.grpc.status import Code, GrpcError
from coved.images import hub

ANSWER_S = 60.0
"""How long a client has for a short answer; somebody may have to unlock a keychain for it."""
_CHUNK = 64 * 1024
_NOT_THERE = (Code.NOT_FOUND, Code.UNIMPLEMENTED)
_HUB = {hub.INDEX_SERVER: hub.REGISTRY_HOST}
"""What BuildKit calls it."""


class Session:
    """One client. Every method raises EngineError when it does not answer, or has gone."""

    def __init__(
        self, channel: Channel, id: str, shared_key: str, *, contexts: Contexts, archives: Incoming, sockets: Path
    ) -> None:
        """
        Args:
            shared_key: the same for later sessions with the same files; "" for none.
            sockets: a folder that nobody else can look into.
        """
        self.id = id
        self._channel = channel
        self._shared_key = shared_key
        self._contexts = contexts
        self._archives = archives
        self._sockets = sockets
        self._stack = AsyncExitStack()
        self._uploading = asyncio.Lock()
        self._uploaded: dict[str, Path] = {}

    @property
    def context(self) -> str:
        """What the folder is called that the client builds, "" when it does not tell: keys are of that and of a digest."""
        name, _, digest = self._shared_key.rpartition(":")
        return name if digest else ""

    async def wait_lost(self) -> None:
        """Returns when the client has gone."""
        await self._channel.wait_lost()

    async def close(self) -> None:
        """Ends all that is under way, and removes what was kept for this session's builds."""
        await self._channel.close()
        await self._stack.aclose()

    @asynccontextmanager
    async def tree(
        self, name: str, theirs: str, *, excludes: Sequence[str], only: Sequence[str], meter: Meter
    ) -> AsyncIterator[Tree]:
        """A tree of the client's, which it calls ``theirs``; the build, ``name``."""
        async with self._folder(name, theirs, only) as (path, spare, key):
            metadata = [("dir-name", theirs), *_patterns(excludes, only)]
            with _told():
                async with self._channel.open(FILE_SYNC, metadata=_encoded(metadata)) as call:
                    await diffcopy.receive(call, path, spare, meter)
            yield Tree(path, key())

    @asynccontextmanager
    async def _folder(
        self, name: str, theirs: str, only: Sequence[str]
    ) -> AsyncIterator[tuple[Path, Path, Callable[[], str]]]:
        """A tree and an empty folder beside it; to be asked for the tree's key once the tree is whole."""
        # What says how to build is sent each time, as BuildKit has it: one Dockerfile may have another's size and time.
        kept = self._shared_key and name != "dockerfile" and [*only] != [IGNORE]
        key = "\0".join([self._shared_key, name, theirs, only[0] if len(only) == 1 else ""]) if kept else ""
        async with self._contexts.use(key, name) as folder:
            path, spare = folder.path / "tree", folder.path / "spare"
            path.mkdir(mode=0o755, exist_ok=True)
            spare.mkdir(mode=0o700, exist_ok=True)

            def whole() -> str:
                folder.whole = True
                return folder.identity if key else ""

            yield path, spare, whole

    async def unpacked(self, archive: str, meter: Meter) -> Path:
        """What is in an archive, which the client can send once only, for as long as the session lives."""
        async with self._uploading:
            if archive not in self._uploaded:
                path = self._stack.enter_context(self._archives.folder())
                metadata = [("urlpath", f"/{archive}"), ("urlhost", "buildkit-session")]
                with _told():
                    async with self._channel.open(PULL, metadata=metadata) as call:
                        await call.end()
                        await self._archives.unpack(_counted(call, meter), path)
                self._uploaded[archive] = path
            return self._uploaded[archive]

    # -- the rest of coved.build.client.Client, which is the same for every build

    async def secret(self, id: str) -> bytes | None:
        with _told():
            try:
                return (await self._channel.unary(GET_SECRET, GetSecretRequest(id), timeout=ANSWER_S)).data
            except GrpcError as error:
                if error.code in _NOT_THERE:
                    return None
                raise

    @asynccontextmanager
    async def ssh_agent(self, id: str) -> AsyncIterator[Path | None]:
        with _told():
            try:
                await self._channel.unary(CHECK_AGENT, CheckAgentRequest(id), timeout=ANSWER_S)
                there = True
            except GrpcError as error:
                # buildx says it without a code: there is none of that id, or none at all.
                if error.code not in (*_NOT_THERE, Code.UNKNOWN):
                    raise
                there = False
        if not there:
            yield None
            return
        async with forward(self._channel, id, self._sockets) as path:
            yield path

    async def credentials(self, host: str) -> tuple[str, str]:
        with _told():
            try:
                request = CredentialsRequest(_HUB.get(host, host))
                reply = await self._channel.unary(CREDENTIALS, request, timeout=ANSWER_S)
            except GrpcError as error:
                if error.code in _NOT_THERE:
                    return "", ""
                raise
        return reply.username, reply.secret

    async def receive_tar(self, output: int, chunks: AsyncIterator[bytes]) -> None:
        with _told():
            async with self._channel.open(FILE_SEND_STREAM, metadata=_exporter(output)) as call:
                async for chunk in chunks:
                    for at in range(0, len(chunk), _CHUNK):
                        await call.send(BytesMessage(chunk[at : at + _CHUNK]))
                await call.end()
                while await answer(call.several()):
                    pass

    async def receive_tree(self, output: int, path: Path, subfolders: Mapping[str, Path] | None = None) -> None:
        with _told():
            async with self._channel.open(FILE_SEND_TREE, metadata=_exporter(output)) as call:
                await diffcopy.send(call, Departing(path, subfolders))


class BuildClient:
    """``coved.build.client.Client`` of one build."""

    def __init__(
        self, session: Session, *, upload: str = "", names: Mapping[str, str], others: Mapping[str, Session]
    ) -> None:
        """
        Args:
            upload: the build context comes as an archive by this name, instead of as a tree.
            names: what the client calls its trees, where that is something else.
            others: who has trees that are not this session's, by the client's names for them.
        """
        self._session = session
        self._upload = upload
        self._names = names
        self._others = others
        self.secret = session.secret
        self.ssh_agent = session.ssh_agent
        self.credentials = session.credentials
        self.receive_tar = session.receive_tar
        self.receive_tree = session.receive_tree

    @asynccontextmanager
    async def tree(
        self, name: str, *, excludes: Sequence[str] = (), only: Sequence[str] = (), meter: Meter = lambda _: None
    ) -> AsyncIterator[Tree]:
        if self._upload and name == "context":
            # As BuildKit has it: whoever makes an archive has left out already what shall not be in it.
            yield Tree(await self._session.unpacked(self._upload, meter))
            return
        theirs = self._names.get(name, name)
        holder = self._others.get(theirs, self._session)
        async with holder.tree(name, theirs, excludes=excludes, only=only, meter=meter) as tree:
            yield tree


async def _counted(call: Call[BytesMessage, BytesMessage], meter: Meter) -> AsyncIterator[bytes]:
    total = 0
    while message := await answer(call.receive()):
        total += len(message.data)
        meter(total)
        yield message.data


def _exporter(output: int) -> list[tuple[str, str]]:
    return [("buildkit-attachable-exporter-id", str(output))]


def _patterns(excludes: Sequence[str], only: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from (("exclude-patterns", pattern) for pattern in excludes)
    yield from (("followpaths", path) for path in only)


def _encoded(metadata: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers are ASCII: when one value of a name is not, all of that name are escaped as in forms, and it is said that they are."""
    found = []
    escaped = {name for name, value in metadata if not value.isascii()}
    for name, value in metadata:
        text = quote_plus(os.fsencode(value)) if name in escaped else value
        found.append((name, text))
    return found + [(f"{name}-encoded", "1") for name in sorted(escaped)]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What can go wrong with a client, in the domain's errors."""
    try:
        yield
    except GrpcError as error:
        if error.code == Code.NOT_FOUND:
            raise NotFound(error.message) from error
        if error.code in (Code.UNAVAILABLE, Code.CANCELLED):
            raise Unavailable(f"the client of the build has gone: {error.message}") from error
        raise EngineError(error.message) from error
    except OSError as error:
        if (full := no_room(error)) is not None:
            raise full from error
        raise EngineError(f"failed to transfer files: {error}") from error
