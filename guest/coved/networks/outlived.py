"""Which of the sandboxes on record are still there when an engine takes over from one that has ended or was killed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from coved.networks.catalog import Catalog
from coved.networks.kernel import Kernel
from coved.networks.model import Endpoint
from coved.networks.records import Record, Records


async def sort(
    records: Records, catalog: Catalog, kernel: Kernel, running: Collection[str]
) -> tuple[list[Record], list[Record]]:
    """Those that go on, with the connections that were made, and those of which what is left is to be taken away.

    Args:
        running: ids of the containers that run.

    Raises:
        EngineError: the kernel does not say. OSError: what a sandbox is now cannot be written down.
    """
    alive: list[Record] = []
    stale: list[Record] = []
    links = await kernel.run(kernel.datapath.links)
    for record in records.load():
        # A connection is noted before it is made: an engine that was killed in between has told nobody of it.
        made = tuple([one for one in record.endpoints if await _is_made(kernel, record, one, links)])
        if made != record.endpoints and record.container_id in running:
            record = replace(record, endpoints=made)
            records.save(record)
        known = all(endpoint.network_id in catalog for endpoint in record.endpoints)
        there = not record.has_namespace or await kernel.run(kernel.datapath.has_namespace, record.container_id)
        (alive if record.container_id in running and known and there else stale).append(record)
    return alive, stale


async def _is_made(kernel: Kernel, record: Record, endpoint: Endpoint, links: Collection[str]) -> bool:
    if endpoint.host_interface:
        return endpoint.host_interface in links
    return await kernel.run(kernel.datapath.has_device, record.container_id, endpoint)
