"""BuildKit's client, as far as tests need it: the calls that buildx makes, and the session that it serves."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from coved.buildkit import diffcopy
from coved.buildkit.departing import Departing
from coved.buildkit.messages import (
    CHECK_AGENT,
    CREDENTIALS,
    FILE_SEND_STREAM,
    FILE_SEND_TREE,
    FILE_SYNC,
    FORWARD_AGENT,
    FRONTEND_SOLVE,
    GET_SECRET,
    PING,
    PULL,
    RETURN,
    SOLVE,
    STATUS,
    BytesMessage,
    CheckAgentRequest,
    CheckAgentResponse,
    CredentialsRequest,
    CredentialsResponse,
    Exporter,
    FrontendSolveRequest,
    GetSecretRequest,
    GetSecretResponse,
    Packet,
    PingRequest,
    ReturnRequest,
    SolveRequest,
    SolveResponse,
    Stat,
    StatusRequest,
    StatusResponse,
)
from coved.dockerfile.ignore import Matcher
from coved.grpc.call import Call
from coved.grpc.client import Channel
from coved.grpc.server import Services
from coved.grpc.status import Code, GrpcError, Status

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Holdings:
    """What the client of a build has, and what it has been given."""

    trees: Mapping[str, Path] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    credentials: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    agent: Callable[[bytes], bytes] | None = None
    """Answers what is written to the agent's socket."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """By their names; each can be had once."""
    received: Path | None = None
    archive: bytearray = field(default_factory=bytearray)
    asked: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    """Trees that were asked for, with all metadata."""
    transferred: int = 0
    """Bytes of files."""


class SessionServer:
    """Serves a session."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self.services = Services()
        self.services.stream(FILE_SYNC, self._sync)
        self.services.unary(GET_SECRET, self._secret)
        self.services.unary(CREDENTIALS, self._credentials)
        self.services.stream(PULL, self._pull)
        if holdings.agent is not None:
            self.services.unary(CHECK_AGENT, self._check)
            self.services.stream(FORWARD_AGENT, self._forward)
        if holdings.received is not None:
            self.services.stream(FILE_SEND_TREE, self._take_tree)
        else:
            self.services.stream(FILE_SEND_STREAM, self._take_archive)

    async def _sync(self, call: Call[Packet, Packet]) -> None:
        metadata = [*call.metadata]
        name = dict(metadata)["dir-name"]
        self._holdings.asked.append((name, metadata))
        if name not in self._holdings.trees:
            raise GrpcError(Code.NOT_FOUND, f'no access allowed to dir "{name}"')
        wanted = {value for key, value in metadata if key == "followpaths"}
        holdings = self._holdings
        excluded = Matcher(value for key, value in metadata if key == "exclude-patterns")

        class Chosen(Departing):
            def entries(self) -> Iterator[Stat]:
                self.numbers: list[int] = []
                for number, each in enumerate(super().entries()):
                    under = (f"{each.path}/".startswith(f"{path}/") for path in wanted)
                    asked = wanted <= {"."} or any(under)
                    if asked and not excluded.matches(each.path):
                        self.numbers.append(number)
                        yield each

            def open(self, number: int) -> int:
                fd = super().open(self.numbers[number])
                holdings.transferred += os.fstat(fd).st_size
                return fd

        await diffcopy.send(call, Chosen(holdings.trees[name]))

    async def _secret(self, request: GetSecretRequest, call: object) -> GetSecretResponse:
        if request.id not in self._holdings.secrets:
            raise GrpcError(Code.NOT_FOUND, f"secret {request.id}: not found")
        return GetSecretResponse(self._holdings.secrets[request.id])

    async def _credentials(self, request: CredentialsRequest, call: object) -> CredentialsResponse:
        return CredentialsResponse(*self._holdings.credentials.get(request.host, ("", "")))

    async def _pull(self, call: Call[BytesMessage, BytesMessage]) -> None:
        upload = self._holdings.uploads.pop(dict(call.metadata)["urlpath"].removeprefix("/"))
        for at in range(0, len(upload), 4096):
            await call.send(BytesMessage(upload[at : at + 4096]))

    async def _check(self, request: CheckAgentRequest, call: object) -> CheckAgentResponse:
        if request.id != "default":
            raise GrpcError(Code.UNKNOWN, f"unset ssh forward key {request.id}")
        return CheckAgentResponse()

    async def _forward(self, call: Call[BytesMessage, BytesMessage]) -> None:
        assert self._holdings.agent is not None
        assert dict(call.metadata)["buildkit.ssh.id"] == "default"
        async for message in call:
            await call.send(BytesMessage(self._holdings.agent(message.data)))

    async def _take_tree(self, call: Call[Packet, Packet]) -> None:
        assert self._holdings.received is not None
        spare = self._holdings.received.with_name("spare")
        spare.mkdir(exist_ok=True)
        await diffcopy.receive(call, self._holdings.received, spare, lambda _: None)

    async def _take_archive(self, call: Call[BytesMessage, BytesMessage]) -> None:
        async for message in call:
            self._holdings.archive += message.data


@dataclass
class Outcome:
    response: SolveResponse
    status: list[StatusResponse]

    @property
    def names(self) -> list[str]:
        """Of the steps, in the order in which they were first told of."""
        return [*dict.fromkeys(vertex.name for message in self.status for vertex in message.vertexes)]

    @property
    def output(self) -> bytes:
        return b"".join(log.msg for message in self.status for log in message.logs)


async def build(
    channel: Channel, session: str, attributes: Mapping[str, str], exporters: Sequence[Exporter] = (Exporter("moby"),)
) -> Outcome:
    """As buildx does it. Raises GrpcError."""
    ref = uuid4().hex
    solving = asyncio.create_task(
        channel.unary(
            SOLVE,
            SolveRequest(ref=ref, session=session, frontend_attrs={**attributes}, exporters=[*exporters]),
        )
    )
    following = asyncio.create_task(follow(channel, ref))
    metadata = [("buildkit-controlapi-buildid", ref)]
    try:
        pong = await channel.unary(PING, PingRequest(), metadata=metadata)
        assert "return" in [each.id for each in pong.frontend_api_caps if each.enabled]
        try:
            request = FrontendSolveRequest(frontend="dockerfile.v0", frontend_opt={**attributes})
            solved = await channel.unary(FRONTEND_SOLVE, request, metadata=metadata)
            returned = ReturnRequest(solved.result)
        except GrpcError as error:
            returned = ReturnRequest(error=Status(error.code, error.message))
        await channel.unary(RETURN, returned, metadata=metadata)
        return Outcome(await solving, await following)
    finally:
        solving.cancel()
        following.cancel()
        await asyncio.gather(solving, following, return_exceptions=True)


async def follow(channel: Channel, ref: str) -> list[StatusResponse]:
    async with channel.open(STATUS) as call:
        await call.send(StatusRequest(ref), end=True)
        return [message async for message in call]


@asynccontextmanager
async def hijacked(
    path: str, headers: Sequence[tuple[str, str]], socket_path: Path
) -> AsyncIterator[tuple[Streams, bytes]]:
    """A connection that the engine behind a unix socket has given away, and what came with the answer."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, str(socket_path))
    reader, writer = await asyncio.open_connection(sock=connection)
    lines = [f"POST {path} HTTP/1.1", "Host:", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), head
    try:
        yield (reader, writer), b""
    finally:
        writer.close()
