"""What a client serves while its build runs (BuildKit's session): its files, secrets, agents and accounts, and the places
where results go.
"""

from __future__ import annotations

import asyncio
import posixpath
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from coved.buildkit import messages as m
from coved.grpc.call import Call
from coved.grpc.method import Method
from coved.grpc.server import Services
from coved.grpc.status import Code, GrpcError

from cove.build import secrets as secret_files
from cove.build import sender, ssh
from cove.build.receiver import Output, Raw
from cove.build.secrets import Secret
from cove.build.tree import Tree

CHUNK = 64 * 1024
SERVING = 1
_FILE_SEND = Method(m.FILE_SEND_TREE.path, Raw, Raw)


@dataclass
class Offer:
    """All that the client of one build has."""

    trees: dict[str, Tree] = field(default_factory=dict)
    """By their names: "context", "dockerfile", and those of --build-context."""
    secrets: dict[str, Secret] = field(default_factory=dict)
    agents: dict[str, ssh.Agent] = field(default_factory=dict)
    outputs: dict[int, Output] = field(default_factory=dict)
    """By the numbers of the exporters."""
    archive: BinaryIO | None = None
    """A context that is read once, under `archive_id`."""
    archive_id: str = field(default_factory=lambda: secrets.token_hex(12))
    account: Callable[[str], tuple[str, str]] = lambda _: ("", "")
    """User and password for a registry's host; blocks. What it raises is told to nobody."""
    shared: Callable[[str], None] = lambda _: None
    """Told of each host whose account is given."""


class Session:
    """One session: an id by which the engine finds it, and what it serves."""

    def __init__(self, offer: Offer, key: str = "") -> None:
        self.id = secrets.token_hex(13)
        self._key = key
        self._offer = offer
        self._given: set[str] = set()
        self.services = Services()
        self.methods: list[str] = []
        self._serve()

    def headers(self) -> list[tuple[str, str]]:
        """Of the request that opens it."""
        head = [
            ("X-Docker-Expose-Session-Uuid", self.id),
            ("X-Docker-Expose-Session-Name", "cove"),
            ("X-Docker-Expose-Session-Sharedkey", self._key),
        ]
        return head + [("X-Docker-Expose-Session-Grpc-Method", path) for path in self.methods]

    def _serve(self) -> None:
        offer = self._offer
        self._unary(m.HEALTH_CHECK, self._health)
        self._unary(m.CREDENTIALS, self._credentials)
        self._unary(m.GET_SECRET, self._secret)
        if offer.trees:
            self._stream(m.FILE_SYNC, self._files)
        if offer.agents:
            self._unary(m.CHECK_AGENT, self._check_agent)
            self._stream(m.FORWARD_AGENT, self._agent)
        if offer.outputs:
            self._stream(_FILE_SEND, self._output)
        if offer.archive is not None:
            self._stream(m.PULL, self._archive)

    def _unary(self, method: Method[Any, Any], answer: Any) -> None:
        self.services.unary(method, answer)
        self.methods.append(method.path)

    def _stream(self, method: Method[Any, Any], answer: Any) -> None:
        self.services.stream(method, answer)
        self.methods.append(method.path)

    async def _health(self, _: m.HealthCheckRequest, call: object) -> m.HealthCheckResponse:
        return m.HealthCheckResponse(SERVING)

    async def _credentials(self, request: m.CredentialsRequest, call: object) -> m.CredentialsResponse:
        user, secret = await asyncio.to_thread(self._offer.account, request.host)
        if secret and request.host not in self._given:
            self._given.add(request.host)
            self._offer.shared(request.host)
        return m.CredentialsResponse(user, secret)

    async def _secret(self, request: m.GetSecretRequest, call: object) -> m.GetSecretResponse:
        secret = self._offer.secrets.get(request.id)
        if secret is None:
            raise GrpcError(Code.NOT_FOUND, f"secret {request.id}: not found")
        try:
            return m.GetSecretResponse(await asyncio.to_thread(secret_files.read, secret))
        except (OSError, ValueError) as error:
            raise GrpcError(Code.UNKNOWN, str(error)) from None

    async def _files(self, call: Call[m.Packet, m.Packet]) -> None:
        await sender.send(call, self._offer.trees)

    async def _check_agent(self, request: m.CheckAgentRequest, call: object) -> m.CheckAgentResponse:
        self._agent_of(request.id)
        return m.CheckAgentResponse()

    async def _agent(self, call: Call[m.BytesMessage, m.BytesMessage]) -> None:
        await ssh.forward(call, self._agent_of(_first(call, "buildkit.ssh.id")))

    def _agent_of(self, id: str) -> ssh.Agent:
        agent = self._offer.agents.get(id or "default")
        if agent is None:
            raise GrpcError(Code.UNKNOWN, f"unset ssh forward key {id or 'default'}")
        return agent

    async def _output(self, call: Call[Raw, Raw]) -> None:
        text = _first(call, "buildkit-attachable-exporter-id")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        output = self._offer.outputs.get(number)
        if output is None:
            raise GrpcError(Code.UNKNOWN, f"exporter {number} not found")
        await output.receive(call)

    async def _archive(self, call: Call[m.BytesMessage, m.BytesMessage]) -> None:
        id = posixpath.basename(_first(call, "urlpath"))
        archive = self._offer.archive
        if archive is None or id != self._offer.archive_id:
            raise GrpcError(Code.UNKNOWN, f"no http response from session for {id}")
        self._offer.archive = None
        while data := await asyncio.to_thread(_read, archive):
            await call.send(m.BytesMessage(data))


def _first(call: Call[Any, Any], name: str) -> str:
    return next((value for key, value in call.metadata if key == name), "")


def _read(archive: BinaryIO) -> bytes:
    """What there is, up to a chunk: a pipe that gives little must not make the engine wait for more."""
    read = getattr(archive, "read1", archive.read)
    data: bytes = read(CHUNK)
    return data
