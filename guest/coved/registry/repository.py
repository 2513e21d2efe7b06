"""One repository of one registry (OCI distribution spec 1.1, "API"). Every method blocks, and belongs in a ``calls.Call``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urljoin, urlsplit, urlunsplit

from coved.images import documents, reference
from coved.registry import calls
from coved.registry.auth import Authorizer
from coved.registry.credentials import Credentials
from coved.registry.errors import BadStatus, Refused, RegistryError
from coved.registry.settings import Endpoint
from coved.registry.wire import DOCUMENT_MAX, Response, Wire, origin

MANIFEST_TYPES = (
    documents.DOCKER_MANIFEST, documents.DOCKER_INDEX, documents.OCI_INDEX, documents.OCI_MANIFEST,
)  # fmt: skip
_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_CHUNK = 1024 * 1024
_TAGS_MAX = 100_000
_PAGES_MAX = 1000
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")
_UPLOADED = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_PART = 64 * 1024 * 1024
"""Bytes of a layer in one PATCH: what is lost at most when a connection breaks."""

Count = Callable[[int], None]
"""Told how many bytes there are by now."""


@dataclass(frozen=True)
class Described:
    """A manifest or an index as a registry has it. ``data`` is None when only its head was asked for."""

    digest: str
    media_type: str
    size: int
    data: bytes | None = None


class BlobMissing(RegistryError):
    """The registry does not have a blob."""


class Repository:
    """``path`` is the repository's name without its registry; ``actions`` are ``pull``, or ``push,pull``."""

    def __init__(self, wire: Wire, endpoint: Endpoint, path: str, credentials: Credentials, actions: str) -> None:
        self.endpoint = endpoint
        self.path = path
        self._wire = wire
        self._base = f"{endpoint.url}/v2/{path}"
        self.auth = Authorizer(wire, endpoint, credentials, [f"repository:{path}:{actions}"])

    def close(self) -> None:
        """Lets go of connections that nobody uses. Those in use end with their answers."""
        self._wire.close()

    # -- manifests and tags

    def head(self, tag: str) -> Described:
        """What a tag points to. Raises RegistryError."""
        response = self._send("HEAD", f"{self._base}/manifests/{tag}", _accepting())
        digest = response.headers.get("docker-content-digest", "")
        if response.ok and reference.is_digest(digest):
            response.done()
            return Described(digest, _media_type(response), response.length or 0)
        response.done()
        # What is wrong is said only where there is a body; and some registries know no HEAD.
        return self.manifest(tag)

    def manifest(self, name: str) -> Described:
        """By tag or digest, with its content, which is verified. Raises RegistryError."""
        response = self._send("GET", f"{self._base}/manifests/{name}", _accepting())
        if not response.ok:
            raise response.error()
        data = response.document(DOCUMENT_MAX)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        expected = name if reference.is_digest(name) else response.headers.get("docker-content-digest", digest)
        if reference.is_digest(expected) and expected != digest:
            raise RegistryError(f"manifest verification failed for digest {expected}", again=False)
        media_type = _media_type(response)
        if media_type in _SCHEMA_1:
            raise RegistryError(SCHEMA_1_WORDS, again=False, status=400)
        return Described(digest, media_type, len(data), data)

    def put_manifest(self, name: str, media_type: str, data: bytes) -> None:
        response = self._send("PUT", f"{self._base}/manifests/{name}", {"Content-Type": media_type}, data)
        if not response.ok:
            raise response.error()
        response.done()

    def tags(self) -> list[str]:
        """All of them. Raises RegistryError."""
        tags: list[str] = []
        url = f"{self._base}/tags/list"
        for _ in range(_PAGES_MAX):
            response = self._send("GET", url)
            if not response.ok:
                raise response.error()
            link = response.headers.get("link", "")
            try:
                found = json.loads(response.document())["tags"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise RegistryError(f"the registry's list of tags cannot be read: {url}", again=False) from None
            tags += [tag for tag in found or () if isinstance(tag, str) and reference.is_tag(tag)]
            if not link or len(tags) > _TAGS_MAX:
                return tags[:_TAGS_MAX]
            url = urljoin(url, link.partition(";")[0].strip().strip("<>"))
        return tags

    # -- blobs, down

    def document(self, digest: str, limit: int) -> bytes:
        """A small blob, verified. Raises RegistryError."""
        response = self._blob(digest, {})
        data = response.document(limit)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise RegistryError(f"image config verification failed for digest {digest}", again=False)
        return data

    def fetch(self, download: Download, count: Count) -> None:
        """Goes on with a download to its end, and verifies it. Raises RegistryError; what has come stays in ``download``."""
        offset = download.done
        response = self._blob(download.digest, {"Range": f"bytes={offset}-"} if offset else {})
        with response:
            if offset:
                part = _RANGE.fullmatch(response.headers.get("content-range", ""))
                if response.status != 206 or part is None or int(part[1]) != offset:
                    download.restart()
            expected = None if response.length is None else download.done + response.length
            download.total = download.size or expected or 0
            while data := response.read(_CHUNK):
                download.write(data)
                count(download.done)
            if expected is not None and download.done < expected:
                raise RegistryError("unexpected EOF")
            download.verify(resumed=bool(offset))

    def _blob(self, digest: str, headers: dict[str, str]) -> Response:
        response = self._send("GET", f"{self._base}/blobs/{digest}", headers)
        if response.ok:
            return response
        if response.status == 404:
            response.done()
            raise BlobMissing("unknown blob", again=False)
        if response.status == 416:
            response.done()
            raise RegistryError("the registry cannot go on where the connection broke")
        raise response.error()

    # -- blobs, up

    def has_blob(self, digest: str) -> int | None:
        """The blob's size, None when it is not there. Raises RegistryError."""
        response = self._send("HEAD", f"{self._base}/blobs/{digest}")
        response.done()
        if response.ok:
            return response.length or 0
        if response.status == 404:
            return None
        raise response.error()

    def start_upload(self) -> str:
        """Where to send a blob. Raises RegistryError."""
        location = self._post({})
        if location is None:
            raise RegistryError("the registry says that it has what it has not been told of", again=False)
        return location

    def mount(self, digest: str, source: str) -> str | None:
        """Takes a blob over from another repository of this registry: None when that is done, else where to send it."""
        return self._post({"mount": digest, "from": source}, f"repository:{source}:pull")

    def _post(self, query: dict[str, str], scope: str = "") -> str | None:
        url = f"{self._base}/blobs/uploads/" + (f"?{urlencode(query)}" if query else "")
        response = self._send("POST", url, {"Content-Length": "0"}, b"", scope=scope)
        if response.status == 201 and query:
            response.done()
            return None
        if response.status != 202:
            raise response.error()
        return self._location(response)

    def upload(self, location: str, file: IO[bytes], size: int, digest: str, count: Count) -> None:
        """Sends a blob piece by piece; a piece whose connection breaks is gone on with where the registry has it.

        Raises RegistryError.
        """
        offset, tries = 0, 0
        while offset < size:
            end = min(offset + _PART, size)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(end - offset),
                "Content-Range": f"{offset}-{end - 1}",
            }
            try:
                response = self._send("PATCH", location, headers, _piece(file, offset, end, count))
                if response.status == 416:
                    raise RegistryError("the registry has another part of the layer")
                if not response.ok:
                    raise _upload_error(response)
                location = self._location(response)
                offset, tries = end, 0
            except Refused:
                raise
            except RegistryError as error:
                tries += 1
                if tries > 3 or not error.again:
                    raise
                location, offset = self._uploaded(location, error)
        query = urlencode({"digest": digest})
        parts = urlsplit(location)
        url = urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))
        response = self._send("PUT", url, {"Content-Length": "0", "Content-Type": "application/octet-stream"}, b"")
        if not response.ok:
            raise _upload_error(response)
        response.done()

    def _uploaded(self, location: str, error: RegistryError) -> tuple[str, int]:
        """Where to go on, and with what, after ``error``, which is raised when the registry does not say."""
        response = self._send("GET", location)
        if response.status != 204:
            response.done()
            raise error
        found = _UPLOADED.fullmatch(response.headers.get("range", ""))
        done = 0 if found is None or found[1] == "0" else int(found[1]) + 1
        return self._location(response), done

    def cancel_upload(self, location: str) -> None:
        self._send("DELETE", location).done()

    def _location(self, response: Response) -> str:
        response.done()
        location = urljoin(response.url, response.headers.get("location", ""))
        if not response.headers.get("location"):
            raise RegistryError("the registry does not say where to send a blob", again=False)
        if urlsplit(response.url).scheme == "https" and urlsplit(location).scheme != "https":
            # Registries behind a proxy that ends TLS do not know better; their address is the one that was asked.
            parts = urlsplit(location)
            secure = urlunsplit(parts._replace(scheme="https"))
            if parts.netloc != urlsplit(response.url).netloc or origin(secure) != origin(self.endpoint.url):
                raise RegistryError("the registry asks for blobs to be sent without TLS", again=False)
            location = secure
        return location

    # -- requests

    def _send(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: Any = None, *, scope: str = ""
    ) -> Response:
        def authorize(target: str) -> dict[str, str]:
            return self.auth.headers(target, scope)

        response = self._wire.send(method, url, headers=headers, body=body, authorize=authorize)
        if response.status == 401 and (body is None or isinstance(body, bytes)) and self.auth.forget_token():
            response.done()
            response = self._wire.send(method, url, headers=headers, body=body, authorize=authorize)
        return response


class Download:
    """A blob on its way into a file, verified as it comes. For one thread at a time."""

    def __init__(self, path: Path, digest: str, size: int) -> None:
        """``size``: what the manifest says, 0 when it says nothing."""
        self.path = path
        self.digest = digest
        self.size = size
        self.done = 0
        self.total = size
        self._hash = hashlib.sha256()
        self._file = path.open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Raises RegistryError when that is more than there should be, OSError."""
        if self.size and self.done + len(data) > self.size:
            raise self._wrong(again=False)
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.done += len(data)

    def restart(self) -> None:
        """What has come so far is thrown away."""
        self._file.seek(0)
        self._file.truncate()
        self.done = 0
        self._hash = hashlib.sha256()

    def verify(self, *, resumed: bool) -> None:
        """Raises RegistryError, with ``again`` when a resumption may be what has gone wrong."""
        if (self.size and self.done != self.size) or f"sha256:{self._hash.hexdigest()}" != self.digest:
            self.restart()
            raise self._wrong(again=resumed)

    def close(self) -> None:
        self._file.close()

    def _wrong(self, *, again: bool) -> RegistryError:
        return RegistryError(f"filesystem layer verification failed for digest {self.digest}", again=again)


SCHEMA_1_WORDS = (
    "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support is disabled by default "
    "and will be removed in an upcoming release. Suggest the author of the image to upgrade the image to the OCI Format or "
    "Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
)


def _accepting() -> dict[str, str]:
    return {"Accept": ", ".join(MANIFEST_TYPES)}


def _media_type(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip()


def _piece(file: IO[bytes], start: int, end: int, count: Count) -> Iterator[bytes]:
    file.seek(start)
    while start < end:
        calls.current().check()
        data = file.read(min(_CHUNK, end - start))
        if not data:
            raise RegistryError("a layer's file ended too early", again=False)
        start += len(data)
        yield data
        count(start)


def _upload_error(response: Response) -> RegistryError:
    if response.status == 404:
        response.done()
        return BadStatus("blob upload unknown", again=True)
    return response.error()


def path_quoted(name: str) -> str:
    """For a URL's path."""
    return quote(name, safe="/")
