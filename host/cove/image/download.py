"""Downloads files whose SHA-256 and size are known beforehand.

A file has its place in the cache only once it is complete and right: bytes are hashed as they arrive, go to a file of another name,
and are renamed at the end. `requests` takes proxies and certificate authorities from the environment, as people set them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cove.errors import CoveError
from cove.machine import space
from cove.machine.locks import FileLock

if TYPE_CHECKING:
    import requests

TIMEOUT_S = (15.0, 60.0)
"""Seconds to connect, and to wait for the next bytes."""
ATTEMPTS = 4
PARALLEL = 4
BUSY_S = 600.0
"""Seconds that another process may take for a file of the same lock."""
_CHUNK = 1 << 18


class Gone(CoveError):
    """The server does not have the file (404, 410)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have: `name` is what people are told it is."""

    name: str
    url: str
    sha256: str
    size: int


class Downloader:
    """Gets files into `directory`, each under its SHA-256. `advance` is told the number of new bytes, from any thread."""

    def __init__(
        self, directory: Path, advance: Callable[[int], None] = lambda _: None, *, retry_delay_s: float = 0.5
    ) -> None:
        self.directory = directory
        self._advance = advance
        self._retry_delay_s = retry_delay_s
        self._stop = threading.Event()
        self._local = threading.local()

    def path(self, sha256: str) -> Path:
        """Where the file of that SHA-256 is, or would be."""
        return self.directory / sha256

    def fetch_all(self, files: Sequence[Wanted]) -> list[Gone]:
        """Get all `files`, several at a time, and return an error for each that the server does not have.

        Raises the first other `CoveError`, after stopping what is under way; an interrupt stops it too.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        gone: list[Gone] = []
        with ThreadPoolExecutor(PARALLEL, "download") as pool:
            try:
                for future in as_completed([pool.submit(self.fetch, file) for file in files]):
                    try:
                        future.result()
                    except Gone as error:
                        gone.append(error)
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return gone

    def fetch(self, file: Wanted) -> Path:
        """Return the path of `file`, getting what is missing of it.

        Raises `Gone`, or `CoveError` when it does not come, or comes different from what the index says; then nothing is kept of it.
        """
        target = self.path(file.sha256)
        with lock_of(target) as lock:
            lock.acquire(BUSY_S, f"the download of {file.name}")
            return self._have(file, target)

    def _have(self, file: Wanted, target: Path) -> Path:
        if target.is_file():
            if _sha256(target) == file.sha256:
                with contextlib.suppress(OSError):
                    os.utime(target)  # who was used last is the last to go
                self._advance(file.size)
                return target
            target.unlink()  # damaged on this disk
        part = target.with_suffix(".part")
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt and self._stop.wait(self._retry_delay_s * 2**attempt):
                break
            try:
                problem = self._attempt(file, part)
            except OSError as error:  # requests' exceptions are OSErrors as well
                if space.is_full(error):
                    part.unlink(missing_ok=True)
                    raise space.full(self.directory, file.name) from error
                problem = _reason(error)
                continue
            if not problem:
                part.replace(target)
                return target
            part.unlink(missing_ok=True)
        raise CoveError(
            f"{file.name} could not be downloaded: {problem or 'interrupted'} ({file.url})",
            "check the connection and try again, or set COVE_DEBIAN_MIRROR to another mirror",
        )

    def get_small(self, name: str, url: str, limit: int) -> bytes:
        """Return the body of `url`, of at most `limit` bytes, whose contents the caller verifies. Raises `CoveError`."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self._retry_delay_s * 2**attempt)
            try:
                with self._session().get(url, stream=True, timeout=TIMEOUT_S) as response:
                    if response.status_code in (404, 410):
                        raise Gone(
                            f"{name} is not on the mirror ({url})", "set COVE_DEBIAN_MIRROR to a mirror that has it"
                        )
                    response.raise_for_status()
                    body = b""
                    for chunk in response.iter_content(_CHUNK):
                        body += chunk
                        if len(body) > limit:
                            raise CoveError(f"{name} is longer than {limit} bytes ({url})")
                    return body
            except OSError as error:
                problem = _reason(error)
        raise CoveError(
            f"{name} could not be downloaded: {problem} ({url})",
            "check the connection and try again, or set COVE_DEBIAN_MIRROR to another mirror",
        )

    def _attempt(self, file: Wanted, part: Path) -> str:
        """Continue `part` to the end; return what is wrong with the complete file, or nothing. Raises `OSError` for what may pass."""
        have = part.stat().st_size if part.is_file() else 0
        if have >= file.size:
            part.unlink()
            have = 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._session().get(file.url, stream=True, timeout=TIMEOUT_S, headers=headers) as response:
            if response.status_code in (404, 410):
                raise Gone(f"{file.name} is not on the mirror any more ({file.url})")
            if response.status_code == 416:
                return "its size is not what the index says"
            response.raise_for_status()
            if response.status_code != 206:
                have = 0
            digest = hashlib.sha256()
            if have:
                digest.update(part.read_bytes())
                self._advance(have)
            received = have
            good = False
            try:
                with part.open("ab" if have else "wb") as output:
                    for chunk in response.iter_content(_CHUNK):
                        if self._stop.is_set():
                            raise InterruptedError("interrupted")
                        if received + len(chunk) > file.size:
                            return f"it is longer than the {file.size} bytes that the index says"
                        output.write(chunk)
                        digest.update(chunk)
                        received += len(chunk)
                        self._advance(len(chunk))
                if received < file.size:
                    raise ConnectionError(f"the connection ended after {received} of {file.size} bytes")
                good = digest.hexdigest() == file.sha256
            finally:
                if not good:
                    self._advance(-received)  # another attempt counts them again
        return "" if good else "its SHA-256 is not what the index says: it is damaged or was tampered with"

    def _session(self) -> requests.Session:
        import requests

        # A session is not safe to share between threads.
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.headers["Accept-Encoding"] = "identity"
        return session


def lock_of(path: Path) -> FileLock:
    """For a file of a cache, which another process may be getting, or removing. There are no more than 256 of these, which stay."""
    return FileLock(path.parent.with_name(f"{path.parent.name}-locks") / path.name[:2])


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _reason(error: OSError) -> str:
    # requests wraps urllib3's error, which wraps http.client's or the system's: the innermost one is what helps.
    text = str(error) or type(error).__name__
    if match := re.search(r"IncompleteRead\((\d+) bytes read, (\d+) more expected\)", text):
        return f"the connection ended after {match[1]} of {int(match[1]) + int(match[2])} bytes"
    if match := re.search(r"\[Errno -?\d+\] ([^'\")]+)", text):
        return match[1]
    return text if len(text) < 300 else text[:300] + "..."
