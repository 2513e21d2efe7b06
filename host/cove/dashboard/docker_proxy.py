"""Docker's API for the page, streaming both ways. A client who leaves ends the engine's side at once, and the other way round."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote

import h11

from cove.agent.threads import abandonable
from cove.dashboard.engine import Engine, Exchange
from cove.dashboard.http import Answer, Gone, Headers, Request
from cove.dashboard.refusal import Refused

TOLD = ("content-type", "accept", "content-length", "transfer-encoding", "x-registry-auth", "x-registry-config")
"""Headers of the page that the engine gets: not its cookie, and nothing by which a connection becomes another."""
PASSED_ON = (
    "content-type",
    "content-length",
    "api-version",
    "ostype",
    "docker-experimental",
    "x-docker-container-path-stat",
)
"""Headers of the engine that the page gets: none that gives others a say."""
POLICY = "default-src 'none'; sandbox"
"""What comes from containers is no page, whatever it says that it is."""


Logins = Callable[[str], str]
"""X-Registry-Auth for the registry of an image of this name, "" for none. It may block."""
LOGIN_S = 30.0
"""For a credential helper, which may have to ask its user."""
_OF_REGISTRIES = re.compile(r"(?:/v[0-9.]+)?/images/(?:create|(?P<name>.+)/push)")


async def answer(answer: Answer, engine: Engine, logins: Logins) -> None:
    """Pass on a request, whose target is Docker's. Raises `Refused`, `Gone`."""
    login = await _login(answer.request, logins)
    exchange = await engine.connect()
    try:
        await _both_ways(answer, exchange, login)
    except (OSError, h11.RemoteProtocolError, h11.LocalProtocolError) as error:
        if answer.begun:
            raise Gone from None  # the page sees an answer that is cut short
        raise Refused(502, f"the engine ended the connection: {error or 'it did not answer'}") from None
    finally:
        exchange.close()


async def _login(request: Request, logins: Logins) -> Headers:
    """What the user has logged in with, which the page does not know, for what goes to a registry or comes from one. Raises `Refused`."""
    asked = _OF_REGISTRIES.fullmatch(request.path)
    if asked is None or request.method != "POST" or request.header("x-registry-auth") is not None:
        return ()
    image = unquote(asked["name"]) if asked["name"] else request.argument("fromImage")
    found = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOGIN_S):
            found = await abandonable(logins, image) if image else ""
    return [("X-Registry-Auth", found)] if found else ()


async def _both_ways(answer: Answer, exchange: Exchange, login: Headers) -> None:
    request = answer.request
    headers = [*_without_two_lengths((name, value) for name, value in request.headers if name in TOLD), *login]
    await exchange.ask(request.method, request.target, headers)
    upward, downward = asyncio.ensure_future(_up(answer, exchange)), asyncio.ensure_future(_down(answer, exchange))
    try:
        await asyncio.wait((upward, downward), return_when=asyncio.FIRST_COMPLETED)
        if not downward.done() and not isinstance(upward.exception(), OSError):
            upward.result()  # the client has left
            raise Gone
        # An engine that refuses a body says so, and does not read it.
        await downward
    finally:
        for each in (upward, downward):
            each.cancel()
        await asyncio.gather(upward, downward, return_exceptions=True)


async def _up(answer: Answer, exchange: Exchange) -> None:
    async for data in answer.body():
        await exchange.send(data)
    await exchange.end()
    await answer.gone()


async def _down(answer: Answer, exchange: Exchange) -> None:
    head = await exchange.head()
    await answer.begin(head.status_code, _headers(head))
    async for data in exchange.body():
        await answer.send(data)
    await answer.end()


def _without_two_lengths(headers: Iterable[tuple[str, str]]) -> Headers:
    """A length beside "chunked" does not count (RFC 9112, 6.3), and whoever goes by it sees another end than we do."""
    every = [*headers]
    chunked = any(name == "transfer-encoding" for name, _ in every)
    return [each for each in every if not (chunked and each[0] == "content-length")]


def _headers(head: h11.Response | h11.InformationalResponse) -> Headers:
    told = _without_two_lengths((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers)
    return [*((name, value) for name, value in told if name in PASSED_ON), ("Content-Security-Policy", POLICY)]
