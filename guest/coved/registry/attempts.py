"""From one endpoint of a registry to the next: mirrors before the registry itself, TLS before plain HTTP."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from coved.registry.calls import in_call
from coved.registry.errors import BadStatus, Refused, RegistryError
from coved.registry.pull import ImageConfigError
from coved.registry.settings import Endpoint, Settings

log = logging.getLogger(__name__)


async def over_endpoints(
    settings: Settings, domain: str, attempt: Callable[[Endpoint], Awaitable[None]], *, mirrors: bool
) -> None:
    """Until one does it. Raises what the last of them raised, or the first whose answer is an answer."""
    endpoints = await in_call(lambda: settings.endpoints(domain, mirrors=mirrors))
    tls: set[str] = set()
    last: RegistryError | None = None
    for endpoint in endpoints:
        if endpoint.scheme != "https" and endpoint.host in tls:
            continue  # it speaks TLS, so nobody is to make us speak without
        try:
            await attempt(endpoint)
            return
        except RegistryError as error:
            if not _goes_on(error, endpoint):
                raise
            if error.spoke and endpoint.scheme == "https":
                tls.add(endpoint.host)
            # That a registry that may be without TLS has none is the rule.
            usual = endpoint.scheme == "https" and endpoint.insecure and not error.spoke
            level = logging.DEBUG if usual else logging.INFO
            following = "trying the next endpoint" if endpoint is not endpoints[-1] else "there is no other endpoint"
            log.log(level, "%s after %s: %s", following, endpoint.url, error)
            last = error
    raise last or RegistryError(f"no endpoints found for {domain}")


def _goes_on(error: RegistryError, endpoint: Endpoint) -> bool:
    if error.status == 400:
        return False
    if isinstance(error, Refused | ImageConfigError) and not isinstance(error, BadStatus):
        return endpoint.mirror
    return True
