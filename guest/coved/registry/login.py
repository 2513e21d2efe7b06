"""Logging in: a name and a password are tried, and exchanged for a token where the registry has one."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from coved.errors import InvalidParameter
from coved.images.hub import INDEX_HOST
from coved.registry.auth import Authorizer
from coved.registry.calls import in_call
from coved.registry.credentials import Credentials
from coved.registry.errors import NotAuthorized, Refused, RegistryError
from coved.registry.settings import Endpoint

if TYPE_CHECKING:
    from coved.registry.manager import Registries

_HOST = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")

log = logging.getLogger(__name__)


async def log_in(registries: Registries, credentials: Credentials) -> str:
    """The identity token, "" for none. Raises RegistryError, with the status 401 when the registry refuses them."""
    host = _host(credentials.server)
    endpoints = await in_call(lambda: registries.settings.endpoints(host, mirrors=False))
    last: RegistryError | None = None
    for endpoint in endpoints:
        try:
            return await _try(registries, endpoint, credentials)
        except RegistryError as error:
            if error.status == 401:
                raise
            log.info("trying the next endpoint after %s: %s", endpoint.url, error)
            last = error
    raise last or RegistryError(f"no endpoints found for {host}")


async def _try(registries: Registries, endpoint: Endpoint, credentials: Credentials) -> str:
    wire = await registries.wire(endpoint)
    url = f"{endpoint.url}/v2/"

    def work() -> str:
        auth = Authorizer(wire, endpoint, credentials, offline=True)
        auth.ping()
        try:
            response = wire.send("GET", url, authorize=auth.headers)
        except NotAuthorized as error:
            cause = error.__cause__
            if isinstance(cause, Refused) and not cause.listed and cause.code == "UNAUTHORIZED":
                error.status = 401
            raise
        response.done()
        if response.status != 200:
            reason = HTTPStatus(response.status).phrase if response.status in HTTPStatus._value2member_map_ else ""
            raise RegistryError(f"login attempt to {url} failed with status: {response.status} {reason}".rstrip())
        return auth.identity_token

    try:
        return await in_call(work)
    finally:
        wire.close()


def _host(server: str) -> str:
    if not server:
        return INDEX_HOST
    try:
        host = urlsplit(server if server.startswith(("https://", "http://")) else f"https://{server}").netloc
    except ValueError:
        host = ""
    if not _HOST.fullmatch(host):
        raise InvalidParameter(f"unable to parse server address: {server[:200]!a}")
    return host
