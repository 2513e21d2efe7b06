"""Telling a registry who asks: Basic (RFC 7617), and the tokens of the distribution project's specification.

Only the registry's own origin is ever told; where it redirects to is not. The realm of a challenge is told a name and a
password, as the specification wants it, and only over TLS when the registry itself is reached so.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit, urlunsplit

from coved.registry.credentials import Credentials
from coved.registry.errors import RegistryError
from coved.registry.settings import Endpoint
from coved.registry.wire import Wire, origin

_CLIENT = "docker"
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_TOKEN_DOCUMENT_MAX = 1024 * 1024
_LIFETIME_MIN_S = 60
_LIFETIME_MAX_S = 24 * 3600


class Authorizer:
    """For one registry and one purpose. ``ping`` first. For threads."""

    def __init__(
        self,
        wire: Wire,
        endpoint: Endpoint,
        credentials: Credentials,
        scopes: Sequence[str] = (),
        *,
        offline: bool = False,
    ) -> None:
        """``offline``: asks for a token that outlives this, too (``identity_token``)."""
        self._wire = wire
        self._endpoint = endpoint
        self._origin = origin(endpoint.url)
        self._credentials = credentials
        self._scopes = list(scopes)
        self._offline = offline
        self._challenges: list[tuple[str, dict[str, str]]] = []
        self._lock = threading.Lock()
        self._token = ""
        self._expires = 0.0
        self.identity_token = credentials.identity_token
        self.key = f"{endpoint.url} {' '.join(scopes)} {hash(credentials)}"
        """Equal for those who may have the same."""

    def ping(self) -> None:
        """Learns what the registry wants to know. Raises RegistryError when it cannot be reached."""
        response = self._wire.send("GET", f"{self._endpoint.url}/v2/")
        self._challenges = response.challenges if response.status == 401 else []
        response.done()

    def headers(self, url: str, scope: str = "") -> dict[str, str]:
        """For ``wire.Authorize``. ``scope``: one more than the usual, such as that of a repository to mount from."""
        if origin(url) != self._origin:
            return {}
        if self._credentials.registry_token:
            token = self._credentials.registry_token
            return {"Authorization": f"Bearer {token}"} if self._challenges and _TOKEN.fullmatch(token) else {}
        for scheme, parameters in self._challenges:
            if scheme == "bearer":
                return {"Authorization": f"Bearer {self._bearer(parameters, scope)}"}
        if any(scheme == "basic" for scheme, _ in self._challenges):
            if not self._credentials.username:
                raise RegistryError("no basic auth credentials", again=False)
            return {"Authorization": self.basic()}
        return {}

    def forget_token(self) -> bool:
        """After a 401: the token may have been taken back. False when there was none that could be got anew."""
        with self._lock:
            had, self._token, self._expires = bool(self._token), "", 0.0
            return had

    def basic(self) -> str:
        """The value of ``Authorization`` that is a name and a password."""
        pair = f"{self._credentials.username}:{self._credentials.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    def _bearer(self, parameters: dict[str, str], scope: str) -> str:
        with self._lock:
            extra = bool(scope) and scope not in self._scopes
            if self._token and not extra and time.monotonic() < self._expires:
                return self._token
            scopes = [*self._scopes, scope] if extra else self._scopes
            token, lifetime = self._fetch(parameters, scopes)
            if not extra:
                self._token, self._expires = token, time.monotonic() + lifetime
            return token

    def _fetch(self, parameters: dict[str, str], scopes: list[str]) -> tuple[str, float]:
        realm = parameters.get("realm", "")
        if not realm:
            raise RegistryError("no realm specified for token auth challenge", again=False)
        secret = bool(self._credentials.password or self.identity_token)
        if secret and not self._endpoint.insecure and urlsplit(realm).scheme != "https":
            raise RegistryError(
                f"the registry asks for the password to be sent to {realm[:200]!a} without TLS", again=False
            )
        service = parameters.get("service", "")
        document = self._oauth(realm, service, scopes) if self.identity_token else self._get(realm, service, scopes)
        refresh = document.get("refresh_token")
        if isinstance(refresh, str) and _TOKEN.fullmatch(refresh):
            self.identity_token = refresh
        token = document.get("access_token") or document.get("token")
        if not isinstance(token, str) or not token:
            raise RegistryError("authorization server did not include a token in the response", again=False)
        if not _TOKEN.fullmatch(token):
            raise RegistryError("authorization server gave a token that cannot be sent", again=False)
        lifetime = document.get("expires_in")
        seconds = lifetime if isinstance(lifetime, int | float) else 0
        return token, min(max(seconds, _LIFETIME_MIN_S), _LIFETIME_MAX_S) * 0.9

    def _oauth(self, realm: str, service: str, scopes: list[str]) -> dict[str, object]:
        form = {
            "scope": " ".join(scopes), "service": service, "client_id": _CLIENT, "grant_type": "refresh_token",
            "refresh_token": self.identity_token,
        }  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._answer("POST", realm, headers, urlencode(form).encode())

    def _get(self, realm: str, service: str, scopes: list[str]) -> dict[str, object]:
        query: list[tuple[str, str]] = []
        if service:
            query.append(("service", service))
        query += [("scope", scope) for scope in scopes]
        if self._offline:
            query += [("offline_token", "true"), ("client_id", _CLIENT)]
        headers: dict[str, str] = {}
        if self._credentials.username and self._credentials.password:
            query.append(("account", self._credentials.username))
            headers["Authorization"] = self.basic()
        parts = urlsplit(realm)
        given = f"{parts.query}&" if parts.query else ""
        return self._answer(
            "GET", urlunsplit(parts._replace(query=given + urlencode(query), fragment="")), headers, None
        )

    def _answer(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> dict[str, object]:
        told = {name: value for name, value in headers.items() if name == "Authorization"}
        others = {name: value for name, value in headers.items() if name != "Authorization"}
        first = origin(url)
        response = self._wire.send(
            method, url, headers=others, body=body, authorize=lambda target: told if origin(target) == first else {}
        )
        if not response.ok:
            raise response.error()
        try:
            document = json.loads(response.document(_TOKEN_DOCUMENT_MAX))
        except (ValueError, RecursionError) as error:
            raise RegistryError(f"unable to decode token response: {error}", again=False) from None
        if not isinstance(document, dict):
            raise RegistryError("unable to decode token response: it is no object", again=False)
        return document
