"""The registry domain: what the API asks of registries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coved.current_outside import CurrentOutside
from coved.errors import EngineError, Forbidden, InvalidParameter
from coved.events import Events
from coved.filters import Filters
from coved.images import Images, platforms, reference
from coved.images.documents import Platform
from coved.images.reference import DEFAULT_DOMAIN, Reference
from coved.outside import Outside
from coved.registry.credentials import Credentials
from coved.registry.settings import Endpoint, Settings
from coved.store.database import Database

if TYPE_CHECKING:
    from coved.registry.progress import Report
    from coved.registry.repository import Repository
    from coved.registry.sources import Sources
    from coved.registry.transfers import Transfers
    from coved.registry.wire import Wire

Published = Callable[[int], tuple[str, int] | None]
"""Given a TCP port of the computer that people use, the container's address and port that it leads to, if any."""


class Registries:
    """Belongs to the event loop. What it needs is imported when it is first used."""

    def __init__(
        self,
        database: Database,
        events: Events,
        images: Images,
        spool: Path,
        settings: Settings,
        published: Published = lambda _: None,
        outside: CurrentOutside | None = None,
    ) -> None:
        """``spool``: a folder, on the images' file system, that is emptied at each start; ``outside``: proxies and authorities."""
        self._outside = outside or CurrentOutside(Outside())
        self.settings = settings
        self._database = database
        self._events = events
        self._images = images
        self._spool = spool
        self._published = published
        self._sources: Sources | None = None
        self._transfers: Transfers | None = None

    async def close(self) -> None:
        if self._transfers is not None:
            await self._transfers.close()

    def describe(self) -> dict[str, Any]:
        """``RegistryConfig`` of ``GET /info``."""
        mirrors = list(self.settings.mirrors)
        hub = {"Name": DEFAULT_DOMAIN, "Mirrors": mirrors, "Secure": True, "Official": True}
        hosts = [one for one in self.settings.insecure_registries if "/" not in one]
        others = {one: {"Name": one, "Mirrors": [], "Secure": False, "Official": False} for one in hosts}
        return {
            "InsecureRegistryCIDRs": [str(network) for network in self.settings.networks],
            "IndexConfigs": {DEFAULT_DOMAIN: hub, **others},
            "Mirrors": mirrors or None,
        }

    async def pull(self, name: Reference, platform: str, credentials: Credentials, report: Report) -> None:
        """Brings an image, or all of a repository's when ``name`` has neither tag nor digest.

        Args:
            platform: ``os[/architecture[/variant]]``; "" is this machine's.

        Raises EngineError in dockerd's words.
        """
        from coved.registry import starter
        from coved.registry.attempts import over_endpoints
        from coved.registry.errors import RegistryError, pull_error
        from coved.registry.pull import Pull

        _check_name(name)
        if name.digest:
            name = Reference(name.domain, name.path, "", name.digest)
        if starter.has(self._images, name, platform):
            await starter.pull(self._images, report)
            self._event("pull", name)
            return
        self.settings.allowed.check("pulling from", name.domain)
        sources, transfers = self._parts()

        async def attempt(endpoint: Endpoint) -> None:
            repository = await self.repository(endpoint, name, credentials, "pull")
            try:
                await Pull(self._images, sources, transfers, repository, name, platform, report).run()
            finally:
                repository.close()

        try:
            await over_endpoints(self.settings, name.domain, attempt, mirrors=True)
        except RegistryError as error:
            if error.status == 400:
                raise InvalidParameter(str(error)) from error
            raise pull_error(error, name.familiar_repository, name.familiar) from error
        self._event("pull", name)
        if platform and (name.tag or name.digest):
            # An image for one platform alone comes whatever was asked for; as in dockerd, that is said in the end.
            self._images.get(name.familiar, Platform(*platforms.parse(platform)))

    async def push(
        self, name: Reference, credentials: Credentials, report: Report, platform: Platform | None = None
    ) -> None:
        """Sends an image, or all of a repository's when ``name`` has no tag. Raises EngineError in dockerd's words.

        Args:
            platform: of several that have the name, the one for this; None is this machine's.
        """
        from coved.registry.attempts import over_endpoints
        from coved.registry.progress import message
        from coved.registry.push import Push, names_of

        self.settings.allowed.check("pushing to", name.domain)
        sources, transfers = self._parts()
        report(message(f"The push refers to repository [{name.repository}]"))
        if not names_of(self._images, name):
            raise EngineError(f"An image does not exist locally with the tag: {name.familiar_repository}")

        async def attempt(endpoint: Endpoint) -> None:
            repository = await self.repository(endpoint, name, credentials, "push,pull")
            try:
                await Push(self._images, sources, transfers, repository, name, report, platform).run()
            finally:
                repository.close()

        await over_endpoints(self.settings, name.domain, attempt, mirrors=False)
        self._event("push", name)

    async def repository(
        self, endpoint: Endpoint, name: Reference, credentials: Credentials, actions: str
    ) -> Repository:
        """A repository whose registry answers. Raises RegistryError."""
        from coved.registry.calls import in_call
        from coved.registry.repository import Repository

        wire = await self.wire(endpoint)
        repository = Repository(wire, endpoint, name.path, credentials, actions)
        try:
            await in_call(repository.auth.ping)
        except BaseException:
            repository.close()
            raise
        return repository

    async def log_in(self, credentials: Credentials) -> str:
        """Checks a name and a password; gives the token to keep instead of them, "" when the registry has none to give.

        Raises EngineError: ``LoginRefused`` (401) when they are wrong.
        """
        from coved.registry.login import log_in

        return await log_in(self, credentials)

    async def search(self, term: str, limit: int, filters: Filters, credentials: Credentials) -> list[dict[str, Any]]:
        """What a registry's index has to offer. Raises EngineError."""
        from coved.registry.search import search

        return await search(self, term, limit, filters, credentials)

    async def inspect(self, name: Reference, credentials: Credentials) -> dict[str, Any]:
        """What a name stands for, as ``GET /distribution/{name}/json`` tells it. Raises EngineError."""
        from coved.registry.inspect import inspect

        _check_name(name)
        return await inspect(self, name.tagged(), credentials)

    async def wire(self, endpoint: Endpoint) -> Wire:
        """Raises ``InvalidParameter`` when the registry's certificates are not in order."""
        from coved.registry import proxies, tls
        from coved.registry.calls import in_call
        from coved.registry.wire import Wire, origin

        addresses: dict[tuple[str, int], tuple[str, int]] = {}
        _, host, port = origin(endpoint.url)
        if host == "localhost" or host.startswith("127."):
            # The registry may run in a container here: people call it what it is called on their own computer.
            target = self._published(port)
            if target is not None:
                addresses[(host, port)] = target
        outside = self._outside.now
        context = await in_call(lambda: tls.context(endpoint, self.settings.certificates, outside.authorities))
        return Wire(
            context,
            addresses=addresses,
            proxy=lambda url: proxies.chosen(outside, url),
            proxy_context=lambda: tls.context(Endpoint("https", ""), (), outside.authorities),
        )

    def _parts(self) -> tuple[Sources, Transfers]:
        if self._sources is None or self._transfers is None:
            from coved.registry.sources import Sources
            from coved.registry.transfers import Transfers

            self._sources, self._transfers = Sources(self._database), Transfers(self._images, self._spool)
        return self._sources, self._transfers

    def _event(self, action: str, name: Reference) -> None:
        self._events.publish("image", action, name.familiar, {"name": name.familiar_repository})


def _check_name(name: Reference) -> None:
    if name.familiar_repository == "scratch":
        raise Forbidden("'scratch' is a reserved name")


def pull_name(image: str, tag: str) -> Reference:
    """What ``fromImage`` and ``tag`` name: the tag may be a digest; none means all tags. Raises InvalidParameter."""
    name = reference.parse(image.removesuffix(":"))
    if not tag:
        return name
    if reference.is_digest(tag):
        return Reference(name.domain, name.path, "", tag)
    if not reference.is_tag(tag):
        raise InvalidParameter("invalid tag format")
    return Reference(name.domain, name.path, tag)
