"""Searching an index (Docker's registry API V1, ``GET /v1/search``)."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from coved.errors import InvalidParameter
from coved.filters import Filters
from coved.images.hub import INDEX_HOST
from coved.images.reference import DEFAULT_DOMAIN
from coved.registry.auth import Authorizer
from coved.registry.calls import in_call
from coved.registry.credentials import Credentials
from coved.registry.errors import RegistryError
from coved.registry.settings import Endpoint
from coved.registry.wire import Wire

if TYPE_CHECKING:
    from coved.registry.manager import Registries

log = logging.getLogger(__name__)

_LIMIT = 25
_FILTERS = frozenset({"is-automated", "is-official", "stars"})


async def search(
    registries: Registries, term: str, limit: int, filters: Filters, credentials: Credentials
) -> list[dict[str, Any]]:
    """What fits, as ``GET /images/search`` gives it. Raises RegistryError, ``InvalidParameter``."""
    filters.validate(_FILTERS)
    if filters.flag("is-automated", default=False):
        return []  # registries mark no image so any more
    if "://" in term:
        raise InvalidParameter(f"invalid repository name: repository name ({term}) should not have a scheme")
    stars = _stars(filters)
    host, remote = _split(term)
    limit = limit or _LIMIT
    if not 1 <= limit <= 100:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, 100]")
    query = urlencode({"q": remote, "n": limit})
    wire, endpoint = await _endpoint(registries, host)
    try:
        document = await in_call(lambda: _ask(wire, endpoint, query, credentials))
    finally:
        wire.close()
    found = document.get("results") if isinstance(document, dict) else None
    results = [_result(one) for one in found or () if isinstance(one, dict)]
    if "is-official" in filters:
        official = filters.flag("is-official", default=False)
        results = [one for one in results if one["is_official"] is official]
    return [one for one in results if one["star_count"] >= stars]


def _ask(wire: Wire, endpoint: Endpoint, query: str, credentials: Credentials) -> Any:
    url = f"{endpoint.url}/v1/search?{query}"
    headers: dict[str, str] = {}
    if credentials.identity_token and credentials.username:
        auth = Authorizer(wire, endpoint, credentials, ["registry:catalog:search"], offline=True)
        auth.ping()
        headers = auth.headers(f"{endpoint.url}/v2/")
    elif credentials.username and endpoint.scheme == "https":
        headers = {"Authorization": Authorizer(wire, endpoint, credentials).basic()}
    response = wire.send("GET", url, authorize=lambda target: headers if target == url else {})
    if response.status != 200:
        response.done()
        raise RegistryError(f"Unexpected status code {response.status}")
    try:
        return json.loads(response.document())
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"error decoding registry search results: {error}") from None


async def _endpoint(registries: Registries, host: str) -> tuple[Wire, Endpoint]:
    """Where an index answers: TLS first, and plain HTTP only where a registry may be insecure."""
    if host == DEFAULT_DOMAIN:
        endpoint = Endpoint("https", INDEX_HOST)
        return await registries.wire(endpoint), endpoint
    failures: list[RegistryError] = []
    endpoints = await in_call(lambda: registries.settings.endpoints(host, mirrors=False))
    for endpoint in endpoints:
        wire = await registries.wire(endpoint)
        try:
            await in_call(lambda wire=wire, one=endpoint: wire.send("GET", f"{one.url}/v1/_ping").done())  # type: ignore[misc]
            return wire, endpoint
        except RegistryError as error:
            wire.close()
            failures.append(error)
    if len(failures) == 1:
        raise InvalidParameter(
            f"invalid registry endpoint {endpoints[0].url}/v1/: {failures[0]}. If this private registry supports only HTTP or "
            f"HTTPS with an unknown CA certificate, please add `--insecure-registry {host}` to the daemon's arguments. In the "
            "case of HTTPS, if you have access to the registry's CA certificate, no need for the flag; simply place the CA "
            f"certificate at /etc/docker/certs.d/{host}/ca.crt"
        )
    raise InvalidParameter(
        f'invalid registry endpoint "http://{host}/v1/". HTTPS attempt: {failures[0]}. HTTP attempt: {failures[-1]}'
    )


def _split(term: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return DEFAULT_DOMAIN, term.removeprefix("library/")
    if first in (DEFAULT_DOMAIN, INDEX_HOST):
        return DEFAULT_DOMAIN, rest.removeprefix("library/")
    return first, rest


def _stars(filters: Filters) -> int:
    least = 0
    for text in filters.get("stars"):
        if not text.lstrip("+-").isdigit() or len(text) > 18:
            raise InvalidParameter(
                f"invalid filter 'stars={text[:64]}': strconv.Atoi: parsing \"{text[:64]}\": invalid syntax"
            )
        least = max(least, int(text))
    return least


def _result(fields: dict[str, Any]) -> dict[str, Any]:
    stars = fields.get("star_count")
    return {
        "star_count": stars if isinstance(stars, int) else 0,
        "is_official": fields.get("is_official") is True,
        "name": str(fields.get("name") or ""),
        "is_automated": False,
        "description": str(fields.get("description") or ""),
    }
