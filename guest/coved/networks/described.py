"""An open sandbox as its container gets it: the namespace to join, its places, and the texts of its files."""

from __future__ import annotations

from pathlib import Path

from coved.networks import resolver
from coved.networks.model import Sandbox, SandboxRequest
from coved.networks.names import wanted
from coved.networks.opened import Opened
from coved.networks.records import Record


def describe(
    record: Record, request: SandboxRequest, opened: Opened, namespaces: Path, host_gateway: str, machine: str
) -> Sandbox:
    """The sandbox that ``record`` is; what it shares is that of another one.

    Args:
        opened: where the other one is, and those that this one is linked with.
        namespaces: directory where network namespaces are mounted.
        host_gateway: the address that users mean by ``host-gateway``.
        machine: that of the machine that users sit at; "" when it is this one.
    """
    owner, path = record, None
    if record.shares:
        owner = opened.get(record.shares, record)
    if owner.has_namespace:
        path = namespaces / owner.container_id
    host_mode = path is None
    addresses = [address for endpoint in owner.endpoints for address in endpoint.addresses]
    linked = [(opened.address(id, "bridge"), names) for id, names in request.linked]
    return Sandbox(
        container_id=record.container_id,
        netns_path=path,
        endpoints=owner.endpoints,
        ports=record.ports,
        resolv_conf=resolver.resolv_conf(request, host_mode=host_mode, names=wanted(owner)),
        hosts=resolver.hosts(
            request,
            addresses,
            host_gateway,
            [one for one in linked if one[0]],
            host_mode=host_mode,
            # dockerd, which runs on the user's own machine, has no such name.
            machine="" if wanted(owner) or owner.mode == "none" else machine,
        ),
    )
