"""The user's SSH agent for `RUN --mount=type=ssh` (moby.sshforward.v1): a build may ask it to sign, and nothing else.

A message of the agent's protocol is 4 bytes of length and then as many, the first of which says what it is
(draft-ietf-sshm-ssh-agent, sections 3 and 5). Answers come in the order of the requests.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coved.buildkit.messages import BytesMessage
from coved.grpc.call import Call
from coved.grpc.status import Code, GrpcError

REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
FAILURE = b"\x00\x00\x00\x01\x05"
LIMIT = 256 * 1024
"""Bytes of one message; OpenSSH's own limit."""
CHUNK = 32 * 1024


@dataclass(frozen=True)
class Agent:
    """What is forwarded under `id`: the socket at `path`."""

    id: str
    path: str


def located(id: str, paths: Sequence[str]) -> Agent:
    """Raises `ValueError` when there is no agent to forward, in the words of BuildKit's clients where they have any."""
    if not paths:
        path = os.environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise ValueError("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
        return Agent(id, path)
    if len(paths) > 1:
        raise ValueError("only one socket is allowed")
    try:
        mode = Path(paths[0]).stat().st_mode
    except OSError as error:
        raise ValueError(f"stat {paths[0]}: {(error.strerror or str(error)).lower()}") from None
    if not stat.S_ISSOCK(mode):
        raise ValueError(f"{paths[0]} is no agent's socket: add the key to an agent (ssh-add) and forward that")
    return Agent(id, paths[0])


async def forward(call: Call[BytesMessage, BytesMessage], agent: Agent) -> None:
    """Serve one connection to the agent. Raises `GrpcError`."""
    if sys.platform == "win32":
        raise GrpcError(Code.UNAVAILABLE, "SSH agents cannot be forwarded from Windows")
    try:
        reader, writer = await asyncio.open_unix_connection(agent.path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise GrpcError(Code.UNAVAILABLE, f"failed to connect to {agent.path}: {reason}") from None
    buffer = bytearray()
    try:
        async for message in call:
            buffer += message.data
            while (request := _taken(buffer)) is not None:
                answer = FAILURE
                if request[4:5] and request[4] in (REQUEST_IDENTITIES, SIGN_REQUEST):
                    writer.write(request)
                    await writer.drain()
                    head = await reader.readexactly(4)
                    answer = head + await reader.readexactly(_length(head))
                for at in range(0, len(answer), CHUNK):
                    await call.send(BytesMessage(answer[at : at + CHUNK]))
    except (OSError, asyncio.IncompleteReadError):
        raise GrpcError(Code.UNAVAILABLE, "the SSH agent does not answer any more") from None
    finally:
        writer.close()


def _taken(buffer: bytearray) -> bytes | None:
    """The first message of `buffer`, which is taken away; None when it has not come whole."""
    if len(buffer) < 4 or len(buffer) < 4 + _length(buffer):
        return None
    end = 4 + _length(buffer)
    message = bytes(buffer[:end])
    del buffer[:end]
    return message


def _length(head: bytes | bytearray) -> int:
    length = int.from_bytes(head[:4], "big")
    if length > LIMIT:
        raise GrpcError(Code.INVALID_ARGUMENT, "a message for the SSH agent is too long")
    return length
