"""Files that builds fetch (ADD, contexts), kept for as long as their servers say that they are the same (ETag, RFC 9110)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import posixpath
import re
import secrets
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from coved.build.errors import BuildError
from coved.build.remote.holdings import Holding
from coved.errors import EngineError, no_room
from coved.registry import remote
from coved.registry.calls import in_call
from coved.registry.settings import Endpoint
from coved.store.trees import sync

if TYPE_CHECKING:
    from coved.registry import Registries
    from coved.registry.wire import Response, Wire

Meter = Callable[[int, int], None]
"""Told of the bytes that have come, and of how many there will be, or 0."""
Secret = Callable[[str], Awaitable[bytes | None]]
"""``Client.secret``."""

BYTES_MAX = 4 << 30
"""Of files that are kept, beside those that are in use."""
FILES_MAX = 1000
FILE_MAX = 32 << 30
"""Bytes of one: a server need not ever come to an end."""
_CHUNK = 256 * 1024
_TOLD_EVERY = 1 << 20
_NO_NAME = "__unnamed__"
_ALGORITHM = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*")
_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEXADECIMAL = re.compile(r"[a-f0-9]+")


@dataclass(frozen=True)
class Download:
    """There as long as the context that gave it is open. Its mode is 0600, and its time what the server says, or 1970."""

    path: Path
    name: str
    """What a copy of it in a folder is called."""
    digest: str
    """"sha256:<hex>" of its content."""
    modified: int
    """Seconds since the epoch."""


def check_checksum(text: str) -> None:
    """Of ADD --checksum; "" is none. Raises BuildError in the words of Go's digest package."""
    if not text:
        return
    algorithm, colon, digits = text.partition(":")
    if not colon or not _ALGORITHM.fullmatch(algorithm):
        raise BuildError("invalid checksum digest format")
    length = _LENGTHS.get(algorithm)
    if length is None:
        raise BuildError("unsupported digest algorithm")
    if len(digits) != length:
        raise BuildError("invalid checksum digest length")
    if not _HEXADECIMAL.fullmatch(digits):
        raise BuildError("invalid checksum digest format")


def file_name(url: str) -> str:
    """What ADD calls what it fetches."""
    try:
        name = posixpath.basename(unquote(urlsplit(url).path).rstrip("/"))
    except ValueError:
        return _NO_NAME
    return name if name not in ("", ".", "..") and "\0" not in name else _NO_NAME


@dataclass(frozen=True)
class _Known:
    """Of one URL."""

    digest: str
    modified: int
    size: int
    etag: str
    url: str
    """Without who asks."""
    created_ns: int
    uses: int = 0

    @property
    def file(self) -> str:
        """Content and time make the file; two URLs may have one."""
        return f"{self.digest.removeprefix('sha256:')}.{self.modified}"


class Downloads:
    """Belongs to the event loop; blocking work is done in threads.

    Args:
        directory: this class's alone; what is in it may be removed while no engine runs.
    """

    def __init__(self, registries: Registries, directory: Path) -> None:
        self._registries = registries
        self._files = directory / "files"
        self._urls = directory / "urls"
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._used: Counter[str] = Counter()
        self._fetching: set[str] = set()
        """Keys of the URLs that are being asked for."""
        self._news = False
        self._tidying: asyncio.Future[None] | None = None

    @contextlib.asynccontextmanager
    async def file(
        self, url: str, *, name: str = "", checksum: str = "", secret: Secret | None = None, meter: Meter | None = None
    ) -> AsyncIterator[Download]:
        """A file of the web. With a ``checksum`` ("sha256:<hex>") that a file is known to have, nobody is asked.

        Args:
            name: what it is called instead of what the URL says.
            secret: tells what authorizes (HTTP_AUTH_TOKEN_host, HTTP_AUTH_HEADER_host).

        Raises BuildError in BuildKit's words.
        """
        check_checksum(checksum)
        key = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            while self._tidying is not None:  # what it removes, and what is found here, must not be the same
                await asyncio.wait([self._tidying])
            self._fetching.add(key)
            try:
                known = await self._known(key, url, checksum, secret, meter or (lambda done, total: None))
            except EngineError as error:
                raise BuildError(f"failed to load cache key: {error}") from error
            except OSError as error:
                raise no_room(error) or error from error
            finally:
                self._fetching.discard(key)
            self._used[known.file] += 1
        try:
            if checksum and known.digest != checksum:
                raise BuildError(f"digest mismatch for {url}: {known.digest} (expected: {checksum})")
            path = self._files / known.file
            yield Download(path, name or file_name(url), known.digest, known.modified)
        finally:
            self._used[known.file] -= 1
            self._used = +self._used
            if self._news and not self._fetching and self._tidying is None:
                self._news = False
                self._tidying = asyncio.ensure_future(asyncio.to_thread(self._trim, set(self._used)))
                self._tidying.add_done_callback(self._tidied)

    def _tidied(self, _: asyncio.Future[None]) -> None:
        self._tidying = None

    async def close(self) -> None:
        """Waits for what goes on in the background."""
        if self._tidying is not None:
            await asyncio.wait([self._tidying])

    async def entries(self) -> list[Holding]:
        """Of each URL. A file that two have counts for the one that was asked for last. Raises OSError."""
        found = []
        files: set[str] = set()
        for key, known, used_ns in reversed(await asyncio.to_thread(self._all)):
            size = known.size if known.file not in files else 0
            in_use = key in self._fetching or known.file in self._used
            description = f"http url {known.url}"
            found.append(Holding(key, description, size, known.created_ns, used_ns, known.uses, in_use))
            files.add(known.file)
        return found

    async def remove(self, ids: Iterable[str]) -> None:
        """Those of them that no build uses. Files go when nothing is being fetched that could come to be the same. Raises OSError."""
        while self._tidying is not None:
            await asyncio.wait([self._tidying])
        gone = [key for key in ids if key not in self._fetching]
        self._news = bool(self._fetching)
        work = asyncio.to_thread(self._remove, gone, set(self._used), tidy=not self._fetching)
        self._tidying = asyncio.ensure_future(work)
        self._tidying.add_done_callback(self._tidied)
        await asyncio.shield(self._tidying)

    async def _known(self, key: str, url: str, checksum: str, secret: Secret | None, meter: Meter) -> _Known:
        before = await asyncio.to_thread(self._read, key)
        if before is not None and checksum and before.digest == checksum:
            await asyncio.to_thread(self._write, key, before)
            return before
        address, told = _address(url)
        told |= await _told(address, secret)
        parts = urlsplit(address)
        wire = await self._registries.wire(Endpoint(parts.scheme, parts.netloc))
        loop = asyncio.get_running_loop()

        def tell(done: int, total: int) -> None:
            loop.call_soon_threadsafe(meter, done, total)

        try:
            known = await in_call(lambda: self._fetched(wire, address, told, before, tell))
        finally:
            wire.close()
        await asyncio.to_thread(self._write, key, known)
        self._news = True
        return known

    # -- in threads

    def _fetched(self, wire: Wire, url: str, told: Mapping[str, str], before: _Known | None, tell: Meter) -> _Known:
        from coved.registry.wire import origin

        headers = {"If-None-Match": before.etag} if before is not None and before.etag else {}
        # Whoever a server redirects to learns nothing of who asks.
        response = wire.send(
            "GET", url, headers=headers, authorize=lambda to: dict(told) if origin(to) == origin(url) else {}
        )
        with response:
            if before is not None and before.etag:
                same = _tag(response.headers.get("etag", "")) == _tag(before.etag)
                if response.status == 304 or (response.ok and same):
                    return before
            if not response.ok:
                raise BuildError(f"invalid response status {response.status}")
            return self._saved(url, response, tell)

    def _saved(self, url: str, response: Response, tell: Meter) -> _Known:
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._files / f".{secrets.token_hex(8)}"
        whole = hashlib.sha256()
        done, told, total = 0, 0, response.length or 0
        if total > FILE_MAX:
            raise BuildError(f'Get "{url}": the file is larger than {FILE_MAX} bytes')
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", 0) as file:
                while data := response.read(_CHUNK):
                    if done + len(data) > FILE_MAX:
                        raise BuildError(f'Get "{url}": the file is larger than {FILE_MAX} bytes')
                    whole.update(data)
                    file.write(data)
                    done += len(data)
                    if done - told >= _TOLD_EVERY:
                        told = done
                        tell(done, total)
            if done < total:
                raise BuildError(f'Get "{url}": unexpected EOF')
            tell(done, total)
            etag, modified = response.headers.get("etag", ""), _time(response.headers.get("last-modified", ""))
            known = _Known(f"sha256:{whole.hexdigest()}", modified, done, etag, url, time.time_ns())
            os.utime(new, (modified, modified))
            sync(new)  # what is noted of a URL must not name what a power cut has emptied
            new.rename(self._files / known.file)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        return known

    def _read(self, key: str) -> _Known | None:
        """What is known of a URL, of which there is the file as well."""
        try:
            known = _Known(**json.loads((self._urls / key).read_text()))
            size = (self._files / known.file).stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        return known if size == known.size else None

    def _write(self, key: str, known: _Known) -> None:
        """Also when it is as before: who was used last is the last to go."""
        self._urls.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._urls / f".{secrets.token_hex(8)}"
        try:
            new.write_text(json.dumps(asdict(replace(known, uses=known.uses + 1))))
            new.rename(self._urls / key)
        except OSError:  # then it is fetched again
            with contextlib.suppress(OSError):
                new.unlink()

    def _all(self) -> list[tuple[str, _Known, int]]:
        """Keys, what is known, and when it was used, the least recently used first."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self._urls.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    used_ns = path.stat().st_mtime_ns
                    if known := self._read(path.name):
                        found.append((path.name, known, used_ns))
        return sorted(found, key=lambda one: one[2])

    def _remove(self, keys: Iterable[str], used: Collection[str], *, tidy: bool) -> None:
        for key in keys:
            known = self._read(key)
            if known is None or known.file not in used:
                (self._urls / key).unlink(missing_ok=True)
        if tidy:
            self._trim(used)

    def _trim(self, used: Collection[str]) -> None:
        """Removes what is too much, and files that no URL has any more."""
        with contextlib.suppress(OSError):
            urls = sorted(self._urls.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            kept: set[str] = set()
            size = 0
            for number, path in enumerate(urls):
                known = self._read(path.name)
                if known is not None and known.file not in kept:
                    size += known.size
                if known is None or size > BYTES_MAX or number >= FILES_MAX:
                    path.unlink()
                else:
                    kept.add(known.file)
            for file in self._files.iterdir():
                if file.name not in kept and file.name not in used:
                    file.unlink()


def _address(text: str) -> tuple[str, dict[str, str]]:
    """A URL without who asks, and the header that tells it. Raises EngineError."""
    return remote.address(public(text)), login(urlsplit(text).netloc)


def public(url: str) -> str:
    """A URL without what says who asks."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def login(netloc: str) -> dict[str, str]:
    """The header that tells who asks, when a URL's host has a user before it."""
    text, at, _ = netloc.rpartition("@")
    user, _, password = text.partition(":")
    return {"Authorization": basic(f"{unquote(user)}:{unquote(password)}")} if at else {}


def basic(text: str) -> str:
    """RFC 7617."""
    return f"Basic {base64.b64encode(text.encode('utf-8', 'surrogateescape')).decode()}"


async def _told(url: str, secret: Secret | None) -> dict[str, str]:
    """What the client's secrets say for a host."""
    if secret is None:
        return {}
    host = urlsplit(url).netloc
    if header := await secret(f"HTTP_AUTH_HEADER_{host}"):
        return {"Authorization": header.decode("latin-1").strip()}
    if token := await secret(f"HTTP_AUTH_TOKEN_{host}"):
        return {"Authorization": f"Bearer {token.decode('latin-1').strip()}"}
    return {}


def _tag(etag: str) -> str:
    """Weak ones are compared as if they were strong."""
    return etag.removeprefix("W/")


def _time(text: str) -> int:
    try:
        return max(0, min(int(parsedate_to_datetime(text).timestamp()), 2**33))
    except (ValueError, TypeError, OverflowError):
        return 0
