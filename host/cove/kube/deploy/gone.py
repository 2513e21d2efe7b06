"""The end of objects that have been deleted, which the cluster tells."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cove.errors import CoveError
from cove.kube.deploy.cluster import AGAIN_S, GONE, Cluster, Object, Refused


def wait_gone(cluster: Cluster, objects: Sequence[Object], limit_s: float) -> None:
    """Raises `CoveError` when one of them is still there after the time."""
    deadline = time.monotonic() + limit_s
    for one in objects:
        _wait(cluster, one, deadline)


def _wait(cluster: Cluster, one: Object, deadline: float) -> None:
    kind, name, uid = one["kind"], one["metadata"]["name"], one["metadata"]["uid"]
    query = {"fieldSelector": f"metadata.name={name}"}
    while True:
        found = cluster.ask("get", cluster.path(kind), query)
        if not any(each["metadata"]["uid"] == uid for each in found.get("items") or ()):
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise CoveError(
                f"{kind} {name} is still there: the cluster has not removed it within the time",
                f"see what holds it: kubectl describe {kind.lower()} {name} --namespace {cluster.namespace}",
            )
        try:
            for event in cluster.watch(kind, query, found["metadata"]["resourceVersion"], left):
                if event["type"] == "DELETED" and event["object"]["metadata"]["uid"] == uid:
                    return
        except Refused as refused:
            if refused.status != GONE:
                raise
        time.sleep(min(AGAIN_S, max(0.0, deadline - time.monotonic())))
