"""The engine's end of the link."""

from __future__ import annotations

from coved.link.protocol import PortForward, Reply


class LinkClient:
    """Requests to the host and what it pushes. Construct, set the hooks, then ``start()`` once the API answers."""

    async def publish(self, port: PortForward) -> Reply:
        raise NotImplementedError

    async def unpublish(self, port: PortForward) -> Reply:
        raise NotImplementedError
