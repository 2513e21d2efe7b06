"""Files from anywhere, for ``docker import URL``: dockerd fetches them itself (builder/remotecontext)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import quote, urldefrag, urlsplit

from coved.errors import InvalidParameter
from coved.registry.calls import Call, in_call
from coved.registry.errors import RegistryError
from coved.registry.progress import Meter, Report, message
from coved.registry.settings import Endpoint
from coved.registry.wire import Response

if TYPE_CHECKING:
    from coved.registry.manager import Registries

_CHUNK = 256 * 1024
_SHOWN_MAX = 4096
_STATUSES = (400, 401, 403, 404)
"""Which are the answer's own as well; any other is an error of ours (500)."""
_KEPT = "%/:?#[]@!$&'()*+,;=~"
_ESCAPE_IN_HOST = re.compile("%(?![89a-fA-F][0-9a-fA-F]).{0,2}")
"""What must not be in a host's name: Go's net/url takes escapes of bytes outside of ASCII only."""


def address(text: str) -> str:
    """What a client calls a file, as a URL. Raises InvalidParameter, RegistryError."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    url = urldefrag(quote(text if "://" in text else f"http://{text}", safe=_KEPT)).url
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it raises ValueError for one that is none
        if escape := _ESCAPE_IN_HOST.search(parts.netloc):
            raise ValueError(f'invalid URL escape "{escape[0]}"')
        parse_url(url)
    except (ValueError, LocationParseError) as error:
        raise InvalidParameter(f'parse "{url}": {error}') from None
    if parts.scheme not in ("http", "https"):
        raise RegistryError(f'Get "{url}": unsupported protocol scheme "{parts.scheme}"')
    if not parts.hostname:
        raise RegistryError(f'Get "{url}": http: no Host in request URL')
    if parts.username is not None:
        raise InvalidParameter("a user and a password in a URL are not supported")
    return url


@contextlib.asynccontextmanager
async def fetched(registries: Registries, url: str, report: Report) -> AsyncIterator[AsyncIterator[bytes]]:
    """A file as it comes. What goes wrong with the request is raised at once, what goes wrong later by the iterator.

    Args:
        url: as ``address`` gives it.

    Raises RegistryError in dockerd's words, with the status that it answers with.
    """
    parts = urlsplit(url)
    wire = await registries.wire(Endpoint(parts.scheme, parts.netloc))
    call = Call()
    try:
        response = await in_call(lambda: wire.send("GET", url), call)
        if response.status >= 400:
            raise await in_call(lambda: _refusal(url, response), call)
        report(message(f"Downloading from {url}"))
        yield _body(url, response, call, report)
    finally:
        call.give_up()
        call.close()
        wire.close()


async def _body(url: str, response: Response, call: Call, report: Report) -> AsyncIterator[bytes]:
    done, total = 0, response.length or 0
    meter = Meter(report, "Importing", "", total)
    while data := await in_call(lambda: response.read(_CHUNK), call):
        done += len(data)
        meter(done)
        yield data
    if done < total:
        raise RegistryError(f'Get "{url}": unexpected EOF')


def _refusal(url: str, response: Response) -> RegistryError:
    words = f"failed to GET {url} with status {response.status} {response.reason}"
    try:
        with response:
            said = response.read(_SHOWN_MAX).decode("utf-8", "replace").strip()
    except RegistryError:
        said = "error reading body"
    return RegistryError(f"{words}: {said}", status=response.status if response.status in _STATUSES else 500)
