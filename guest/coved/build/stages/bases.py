"""The images that stages are based on, or copy from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from coved.build.client import Client
from coved.build.errors import BuildError
from coved.build.vertices import Doing, Part, Vertices
from coved.errors import EngineError, NotFound
from coved.images import Image, Images, reference
from coved.images.documents import Platform
from coved.images.reference import Reference
from coved.registry import Registries
from coved.registry.credentials import Credentials

_ID = re.compile("sha256:[0-9a-f]{64}|[0-9a-f]{12}|[0-9a-f]{64}")
"""Ids as they are shown; of other beginnings of ids some are words."""
_DESERTED = "image {} was removed during the build"


class Bases:
    """Of one build: an image is looked up once, so that all its stages have the same.

    Args:
        pull: whether images are looked for in their registries although they are here.
    """

    def __init__(self, images: Images, registries: Registries, client: Client, vertices: Vertices, pull: bool) -> None:
        self._images = images
        self._registries = registries
        self._client = client
        self._vertices = vertices
        self._pull = pull
        self._found: dict[tuple[str, Platform | None], asyncio.Task[Image]] = {}

    async def find(self, text: str, platform: Platform | None) -> Image:
        """An image by the name that a Dockerfile has for it, pulled when it is not here; without a platform any that is here, or
        this machine's from its registry. Raises BuildError."""
        key = (text, platform)
        if key not in self._found:
            self._found[key] = asyncio.get_running_loop().create_task(self._find(text, platform))
        return await asyncio.shield(self._found[key])

    def local(self, text: str) -> Image:
        """An image that is here. Raises NotFound, InvalidParameter."""
        return self._images.get(text)

    async def close(self) -> None:
        """Ends pulls that are still under way."""
        for task in self._found.values():
            task.cancel()
        await asyncio.gather(*self._found.values(), return_exceptions=True)

    async def _find(self, text: str, platform: Platform | None) -> Image:
        try:
            name = reference.parse(text).tagged()
        except EngineError as error:
            raise BuildError(f'failed to parse stage name "{text}": {error}') from None
        await self._images.ready()
        with self._vertices.doing(f"[internal] load metadata for {name}") as doing:
            local = self._local(text, name, platform)
            if local is not None and not self._pull:
                return local.intact()
            try:
                await self._registries.pull(
                    Reference(name.domain, name.path, "" if name.digest else name.tag, name.digest),
                    str(platform or ""), await self._credentials(name.domain), _reporting(doing),
                )  # fmt: skip
            except EngineError as error:
                raise BuildError(f"failed to resolve source metadata for {name}: {error}") from error
        found = self._local(text, name, platform)
        if found is None:
            raise BuildError(_DESERTED.format(text))
        return found.intact()

    def _local(self, text: str, name: Reference, platform: Platform | None) -> Image | None:
        for one in (str(name), text) if _ID.fullmatch(text) else (str(name),):
            try:
                return self._images.get(one, platform)
            except NotFound:
                continue
        return None

    async def _credentials(self, domain: str) -> Credentials:
        host = "https://index.docker.io/v1/" if domain == reference.DEFAULT_DOMAIN else domain
        user, secret = await self._client.credentials(host)
        if user:
            return Credentials(user, secret)
        return Credentials(identity_token=secret)


def _reporting(doing: Doing) -> Callable[[dict[str, Any]], None]:
    """Pull messages as parts of a step."""
    parts: dict[str, Part] = {}

    def report(message: dict[str, Any]) -> None:
        id, status = message.get("id"), message.get("status")
        if not isinstance(id, str) or not isinstance(status, str):
            return
        if id not in parts:
            parts[id] = doing.begin(id, f"pulling {id}")
        detail = message.get("progressDetail") or {}
        if status == "Downloading":
            parts[id].tell(detail.get("current") or 0, detail.get("total") or 0)
        elif status in ("Pull complete", "Already exists"):
            parts[id].done()

    return report
