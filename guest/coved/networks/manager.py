"""The networks domain: networks, the sandboxes of containers, and published ports."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coved.networks.model import EndpointRequest, Sandbox, SandboxRequest, Settings

if TYPE_CHECKING:
    from coved.events import Events
    from coved.link.client import LinkClient
    from coved.store.database import Database


class Networks:
    """Creates and removes networks, and opens and closes the sandboxes of containers.

    Args:
        database: where network definitions are kept.
        events: told of create, connect, disconnect and destroy.
        state: directory that does not outlive a boot; ``netns/`` and ``sandboxes/`` are made in it.
        link: the way to the host that binds published ports; None binds them on this machine.
    """

    def __init__(self, database: Database, events: Events, state: Path, link: LinkClient | None = None) -> None:
        raise NotImplementedError

    async def start(self, running: Collection[str]) -> None:
        """Takes up the sandboxes of the containers ``running`` (ids), and removes what belongs to no container.

        Must have returned before any sandbox is opened.
        """

    async def close(self) -> None:
        """Lets go of threads and sockets. Sandboxes stay as they are, for the next engine."""

    async def open_sandbox(self, container_id: str, request: SandboxRequest) -> Sandbox:
        """Makes the network of a container that is about to start; its published ports answer when this returns.

        Raises:
            NotFound: a network does not exist.
            InvalidParameter, Forbidden, Conflict: an address cannot be had.
            EngineError: Docker's "driver failed programming external connectivity ..." when a port cannot be bound.
        """
        raise NotImplementedError

    async def close_sandbox(self, container_id: str) -> None:
        """Releases ports, addresses and the namespace; does nothing when no sandbox is open."""

    def settings(self, container_id: str, request: SandboxRequest | None = None) -> Settings:
        """NetworkSettings of a container; ``request`` describes it when its sandbox is not open."""
        raise NotImplementedError

    async def forget(self, container_id: str) -> None:
        """The container is removed: closes its sandbox, and drops networks it was connected to after its creation."""

    async def create(self, config: dict[str, Any]) -> str: ...

    async def connect(
        self, network: str, container_id: str, container_name: str, endpoint: EndpointRequest, running: bool
    ) -> None: ...

    async def disconnect(self, network: str, container_id: str, force: bool) -> None: ...
