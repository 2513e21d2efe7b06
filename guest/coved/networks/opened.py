"""The sandboxes that are open, by container."""

from __future__ import annotations

from typing import Any

from coved.networks.records import Record


class Opened(dict[str, Record]):
    """Counts its changes, so that what is made of it is known to be old. Changed by assignment and ``pop`` alone."""

    def __init__(self) -> None:
        super().__init__()
        self.generation = 0

    def __setitem__(self, container_id: str, record: Record) -> None:
        self.generation += 1
        super().__setitem__(container_id, record)

    def pop(self, container_id: str, *default: Any) -> Any:
        self.generation += 1
        return super().pop(container_id, *default)

    def address(self, container_id: str, network: str) -> str:
        """Where a container is on a network (its name) now; "" when it is not on it."""
        record = self.get(container_id)
        endpoints = record.endpoints if record is not None else ()
        return next((endpoint.address for endpoint in endpoints if endpoint.network_name == network), "")
