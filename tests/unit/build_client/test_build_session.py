"""What the client of a build serves beside its files: secrets, its SSH agent, its accounts, an archive from stdin."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cove.build import ssh
from cove.build.secrets import LIMIT, Secret, located
from cove.build.session import Offer, Session
from coved.buildkit import messages as m
from coved.grpc.client import Channel
from coved.grpc.status import Code, GrpcError
from engine_side import calling


def asked(offer: Offer, ask: Callable[[Channel], Awaitable[None]]) -> None:
    async def run() -> None:
        async with calling(Session(offer).services) as channel:
            await ask(channel)

    asyncio.run(run())


def test_a_session_says_what_it_serves() -> None:
    session = Session(Offer(archive=io.BytesIO()), "context:1")
    head = dict(session.headers())
    assert head["X-Docker-Expose-Session-Uuid"] == session.id
    assert head["X-Docker-Expose-Session-Sharedkey"] == "context:1"
    methods = [value for name, value in session.headers() if name == "X-Docker-Expose-Session-Grpc-Method"]
    assert "/moby.upload.v1.Upload/Pull" in methods
    assert "/moby.buildkit.secrets.v1.Secrets/GetSecret" in methods
    assert not any("FileSync" in method or "FileSend" in method or "SSH" in method for method in methods)


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").write_bytes(b"a\x00b")
    monkeypatch.setenv("TOKEN", "from env")
    offer = Offer(secrets={"f": located(Secret("f", str(tmp_path / "s"))), "TOKEN": located(Secret("TOKEN"))})
    offer.secrets["gone"] = located(Secret("gone", str(tmp_path / "s")))

    async def ask(channel: Channel) -> None:
        async def secret(id: str) -> bytes:
            return (await channel.unary(m.GET_SECRET, m.GetSecretRequest(id))).data

        assert await secret("f") == b"a\x00b"
        assert await secret("TOKEN") == b"from env"
        with pytest.raises(GrpcError) as caught:
            await secret("other")
        assert (caught.value.code, caught.value.message) == (Code.NOT_FOUND, "secret other: not found")
        (tmp_path / "s").write_bytes(b"x" * (LIMIT + 1))
        with pytest.raises(GrpcError, match="too big"):
            await secret("gone")

    asked(offer, ask)


def test_secrets_that_are_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="secret missing ID"):
        located(Secret(""))
    with pytest.raises(ValueError, match=r"^failed to stat nope: stat nope: no such file or directory$"):
        located(Secret("x", "nope"))
    (tmp_path / "big").write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(ValueError, match=r"secret x too big\. max size 500KB"):
        located(Secret("x", str(tmp_path / "big")))


def test_accounts() -> None:
    told: list[str] = []
    offer = Offer(
        account=lambda host: ("joe", f"pass for {host}") if host == "r:5000" else ("", ""), shared=told.append
    )

    async def ask(channel: Channel) -> None:
        for _ in range(2):
            answer = await channel.unary(m.CREDENTIALS, m.CredentialsRequest("r:5000"))
            assert (answer.username, answer.secret) == ("joe", "pass for r:5000")
        assert await channel.unary(m.CREDENTIALS, m.CredentialsRequest("elsewhere")) == m.CredentialsResponse()
        assert (await channel.unary(m.HEALTH_CHECK, m.HealthCheckRequest())).status == 1

    asked(offer, ask)
    assert told == ["r:5000"]


def test_an_archive_is_given_once() -> None:
    offer = Offer(archive=io.BytesIO(b"x" * 200_000))
    id = offer.archive_id

    async def ask(channel: Channel) -> None:
        async def pulled(path: str) -> bytes:
            data = b""
            async with channel.open(m.PULL, metadata=[("urlpath", path), ("urlhost", "buildkit-session")]) as call:
                await call.end()
                async for message in call:
                    data += message.data
            return data

        with pytest.raises(GrpcError, match="no http response from session for other"):
            await pulled("/other")
        assert await pulled(f"/{id}") == b"x" * 200_000
        with pytest.raises(GrpcError, match="no http response"):
            await pulled(f"/{id}")

    asked(offer, ask)


def message(kind: int, body: bytes = b"") -> bytes:
    return (1 + len(body)).to_bytes(4, "big") + bytes([kind]) + body


def test_an_agent_is_asked_to_sign_and_nothing_else(tmp_path: Path) -> None:
    """A build must not take keys out of the agent, put any in, or lock it."""
    seen: list[bytes] = []
    path = str(tmp_path / "agent")

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(head, "big"))
                seen.append(body)
                writer.write(message(14 if body[0] == 13 else 12, b"k" * 100_000))
        except asyncio.IncompleteReadError:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(agent, path)
        offer = Offer(agents={"default": ssh.Agent("default", path)})
        async with calling(Session(offer).services) as channel:
            await channel.unary(m.CHECK_AGENT, m.CheckAgentRequest())
            with pytest.raises(GrpcError, match="unset ssh forward key other"):
                await channel.unary(m.CHECK_AGENT, m.CheckAgentRequest("other"))
            async with channel.open(m.FORWARD_AGENT, metadata=[("buildkit.ssh.id", "default")]) as call:
                everything = (
                    message(11) + message(17, b"new key") + message(19) + message(13, b"sign") + message(27, b"e")
                )
                for at in range(0, len(everything), 3):
                    await call.send(m.BytesMessage(everything[at : at + 3]))
                await call.end()
                answers = b""
                async for part in call:
                    answers += part.data
        server.close()
        big = b"k" * 100_000
        refused = message(5)
        assert answers == message(12, big) + refused + refused + message(14, big) + refused

    asyncio.run(run())
    assert seen == [b"\x0b", b"\x0dsign"]


def test_a_message_without_end_is_no_message_for_an_agent(tmp_path: Path) -> None:
    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(agent, str(tmp_path / "agent"))
        offer = Offer(agents={"default": ssh.Agent("default", str(tmp_path / "agent"))})
        async with calling(Session(offer).services) as channel:
            async with channel.open(m.FORWARD_AGENT) as call:
                await call.send(m.BytesMessage(b"\xff\xff\xff\xff\x0b"))
                with pytest.raises(GrpcError, match="too long"):
                    await call.one()
        server.close()

    asyncio.run(run())


def test_which_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(ValueError, match="invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set"):
        ssh.located("default", ())
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    assert ssh.located("default", ()) == ssh.Agent("default", "/run/agent")
    with pytest.raises(ValueError, match="stat /nope: no such file or directory"):
        ssh.located("x", ["/nope"])
    (tmp_path / "id_ed25519").write_text("key")
    with pytest.raises(ValueError, match="no agent's socket: add the key to an agent"):
        ssh.located("x", [str(tmp_path / "id_ed25519")])
