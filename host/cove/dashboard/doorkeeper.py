"""Who is let in: the browser of this user, and nobody else who can reach a port of 127.0.0.1.

That is everybody on this computer, every page that the browser shows, and, by way of the machine's gateway, every container. So all of
this must be right (docs/security.md): the Host header (DNS rebinding), Sec-Fetch-Site and Origin (other pages), the cookie, which only
who had a token of `cove dashboard` gets, and the secret first part of the path. Cookies are shared by all ports of a host (RFC 6265,
section 8.5): without that part the page of a container that is published on 127.0.0.1 would be sent ours.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cove.dashboard.refusal import Refused

if TYPE_CHECKING:
    from cove.dashboard.http import Request

COOKIE = "cove_dashboard"
TOKEN_S = 60.0
"""For a browser that has yet to start."""
MAX_TOKENS = 16
MAX_SESSIONS = 64
SAFE = ("GET", "HEAD")
HOW = "open the dashboard with: cove dashboard"


class Doorkeeper:
    def __init__(self, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._tokens: dict[str, float] = {}
        self._sessions: dict[str, str] = {}
        """Cookies, by the tokens that were taken for them."""
        self.ended: Callable[[str], None] = lambda _: None
        """Called with the cookie of a session that is over."""
        self.base = f"/{secrets.token_urlsafe(16)}/"
        """What the path of the page, and of all that it asks for, begins with."""

    def token(self) -> str:
        """For one opening of the page, soon."""
        now = self._clock()
        self._tokens = {token: until for token, until in self._tokens.items() if until > now}
        while len(self._tokens) >= MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        token = secrets.token_urlsafe(32)
        self._tokens[token] = now + TOKEN_S
        return token

    def check_origin(self, request: Request) -> None:
        """Raises `Refused` for what no page of ours, and no user who types an address, asks."""
        if request.only("host") not in self._hosts:
            raise Refused(421, "this is not the address of the dashboard", HOW)
        if request.header("sec-fetch-site") not in (None, "same-origin", "none"):
            raise Refused(403, "another page asks for this", HOW)
        origin = request.only("origin")
        if origin is None and (request.method not in SAFE or request.upgrade):
            raise Refused(403, "a request without an Origin changes nothing here", HOW)
        if origin is not None and origin != f"http://{request.only('host')}":
            raise Refused(403, "another page asks for this", HOW)

    def open(self, request: Request) -> str:
        """Take a token, which is of no use from then on, for the cookie's Set-Cookie header. Raises `Refused`.

        Does a token come twice, somebody has it who should not, and nobody can tell which of the two: what it has opened is ended.
        """
        if "prefetch" in (request.header("sec-purpose") or "") or request.method != "GET":
            raise Refused(403, "the dashboard is opened by its user, not in advance", HOW)
        given = request.query.get("token", "").encode()
        if spent := _equal(self._sessions, given):
            self._end(spent)
        found = _equal(self._tokens, given)
        if not found or self._tokens.pop(found) <= self._clock():
            raise Refused(401, "this way into the dashboard has been used already, or is too old", HOW)
        while len(self._sessions) >= MAX_SESSIONS:
            self._end(next(iter(self._sessions)))
        self._sessions[found] = secrets.token_urlsafe(32)
        return f"{COOKIE}={self._sessions[found]}; Path={self.base}; HttpOnly; SameSite=Strict"

    def _end(self, token: str) -> None:
        self.ended(self._sessions.pop(token))

    def check_cookie(self, request: Request) -> str:
        """The session's cookie. Raises `Refused` for who has not come in by `open`."""
        for pair in ";".join(request.all("cookie")).split(
            ";"
        ):  # others' may be anything: the library would give up at them
            name, _, value = pair.strip().partition("=")
            if name == COOKIE and (cookie := _equal(self._sessions.values(), value.encode())):
                return cookie
        raise Refused(401, "the dashboard does not know this browser", HOW)


def _equal(secret: Iterable[str], given: bytes) -> str:
    """Which of them was given, "" for none; how long that takes does not tell how much of it was right."""
    return "".join([one for one in secret if hmac.compare_digest(one.encode(), given)])
