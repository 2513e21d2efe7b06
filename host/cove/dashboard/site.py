"""Which address answers what, and what all answers have in common."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus

from wsproto.frame_protocol import CloseReason

from cove.dashboard import docker_proxy, exec_terminal, refusal
from cove.dashboard.doorkeeper import HOW, Doorkeeper
from cove.dashboard.engine import Engine
from cove.dashboard.http import Answer, Gone, Http, Request, reply, reply_json
from cove.dashboard.refusal import Refused
from cove.dashboard.static import Files
from cove.dashboard.websocket import Framed
from cove.errors import CoveError

log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
COMMON = (
    ("Content-Security-Policy", POLICY), ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"), ("Cache-Control", "no-store"),
)  # fmt: skip
Handler = Callable[[Answer], Awaitable[None]]


class Site:
    """`handlers` by method and path below the base, such as "GET api/machine". `used` is called when somebody who was let in comes, and
    goes."""

    def __init__(
        self, doorkeeper: Doorkeeper, engine: Engine, files: Files, handlers: dict[str, Handler], used: Callable[[int], None],
        logins: docker_proxy.Logins,
    ) -> None:  # fmt: skip
        self._doorkeeper = doorkeeper
        self._engine = engine
        self._files = files
        self._handlers = handlers
        self._used = used
        self._logins = logins
        self._inside: dict[str, set[asyncio.Task[None]]] = {}
        """Connections that are being answered, by the cookies of their sessions."""
        doorkeeper.ended = self._put_out

    def _put_out(self, cookie: str) -> None:
        for task in self._inside.get(cookie, ()):
            task.cancel()

    async def respond(self, http: Http) -> None:
        """Answer one request. Raises `Gone`."""
        http.common = COMMON
        try:
            self._doorkeeper.check_origin(http.request)
            if http.request.path == "/open":
                cookie = self._doorkeeper.open(http.request)
                await reply(http, 303, [("Location", self._doorkeeper.base), ("Set-Cookie", cookie)], b"")
                return
            session = self._doorkeeper.check_cookie(http.request)
            if not http.request.path.startswith(self._doorkeeper.base):
                raise Refused(404, "there is no such page", HOW)
        except Refused as refused:
            await _refuse_plainly(http, refused)
            return
        http.connection.let_in()
        with self._held(session):
            await self._let_in(http, http.request.below(self._doorkeeper.base))

    @contextlib.contextmanager
    def _held(self, session: str) -> Iterator[None]:
        """Something is answered for this session."""
        task = asyncio.current_task()
        assert task is not None
        tasks = self._inside.setdefault(session, set())
        tasks.add(task)
        self._used(1)
        try:
            yield
        finally:
            self._used(-1)
            tasks.discard(task)
            if not tasks:
                self._inside.pop(session, None)

    async def _let_in(self, http: Http, request: Request) -> None:
        if not request.upgrade:
            http.request = request
            await _telling(http, self._answer)
        elif request.path.startswith("/api/exec/") and request.path.endswith("/ws"):
            try:
                await exec_terminal.answer(http, request.path.split("/")[3], self._engine)
            except Refused as refused:
                await reply_json(http, refused.shown(), refused.status)
        else:
            await self._in_frames(http, request)

    async def _in_frames(self, http: Http, request: Request) -> None:
        framed = Framed(http)
        try:
            await framed.accept()
        except Refused as refused:
            await reply_json(http, refused.shown(), refused.status)
            return
        framed.request = request
        whole = False
        try:
            await _telling(framed, self._answer)
            whole = True
        finally:
            await framed.close(CloseReason.NORMAL_CLOSURE if whole else CloseReason.INTERNAL_ERROR)

    async def _answer(self, answer: Answer) -> None:
        """Raises `Refused`, `CoveError`, `Gone`."""
        path = answer.request.path
        if path.startswith("/docker/"):
            answer.request = answer.request.below("/docker/")
            await docker_proxy.answer(answer, self._engine, self._logins)
        elif path.startswith("/api/"):
            handler = self._handlers.get(f"{answer.request.method} {path[1:]}")
            if handler is None:
                raise Refused(404, f"there is no {answer.request.method} {path[1:]}")
            await handler(answer)
        else:
            await self._files.answer(answer, path[1:])


async def _telling(answer: Answer, handler: Handler) -> None:
    """Errors become answers. Raises `Gone`, also when it is too late for that."""
    try:
        await handler(answer)
        return
    except Refused as error:
        refused = error
    except CoveError as error:
        refused = refusal.of(error)
    except (Gone, asyncio.CancelledError):
        raise
    except Exception as error:
        log.exception("%s %s failed", answer.request.method, answer.request.path)
        refused = Refused(500, f"this is a bug in Cove: {type(error).__name__}: {error}", "its log has more of it")
    if answer.begun:
        raise Gone
    await reply_json(answer, refused.shown(), refused.status)


async def _refuse_plainly(http: Http, refused: Refused) -> None:
    """For who has not been let in, in words: it may be a user with an old address."""
    words = f"{refused.status} {HTTPStatus(refused.status).phrase}: {refused.message}\n{refused.hint}\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")]
    with contextlib.suppress(Gone):
        await reply(http, refused.status, headers, words.encode())
