"""An application is removed: what its record lists and its labels say, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

from cove.errors import CoveError
from cove.kube.deploy import record as records
from cove.kube.deploy.cluster import Cluster, Object, Refused
from cove.kube.deploy.gone import wait_gone
from cove.kube.deploy.record import Entry, Record

CLAIM = "PersistentVolumeClaim"
_OF_EVERY_NAMESPACE = {
    ("configmaps", "kube-root-ca.crt"),
    ("serviceaccounts", "default"),
}
"""What a cluster makes in each namespace by itself."""
_TRACES = {"endpoints", "endpointslices", "events", "leases"}
"""What is there because of others, which count, or ends by itself."""
_MEASURES = "metrics.k8s.io"
"""A group whose objects are what others are measured to use."""

Report = Callable[[str], None]


def down(
    cluster: Cluster, application: str, *, volumes: bool, report: Report, limit_s: float
) -> tuple[list[Entry], list[Entry]]:
    """What was removed, and what of the application stays. Raises `CoveError`."""
    deadline = time.monotonic() + limit_s
    record = records.read(cluster, application)
    if record is None:
        raise CoveError(
            f"there is no application {application} in namespace {cluster.namespace} of {cluster.context}",
            "name its namespace with --namespace, its cluster with --context",
        )
    chosen = [one for one in reversed(record.entries) if volumes or one.kind != CLAIM]
    kept = [one for one in record.entries if one not in chosen]
    found: list[Object] = []
    for one in chosen:
        there = cluster.get(one.kind, one.name)
        if there is None:
            continue
        if not records.is_ours(there, application):
            report(f"{one} is not of the application any more, and stays")
            continue
        # Foreground: a Deployment is gone when its pods are.
        cluster.delete(there, "Foreground")
        found.append(there)
    wait_gone(cluster, found, max(1.0, deadline - time.monotonic()))
    removed = [records.entry(one) for one in found]
    for one in removed:
        report(f"{one} removed")
    if kept:
        records.write(cluster, application, Record(tuple(kept), record.made_namespace))
        report(f"{', '.join(map(str, kept))}: kept, with what is in them; --volumes removes them")
        return removed, kept
    own = cluster.get("ConfigMap", records.name(application))
    if own is not None:
        cluster.delete(own)
    if record.made_namespace and (gone := _namespace(cluster, application, report, deadline)):
        removed.append(gone)
    return removed, kept


def _namespace(cluster: Cluster, application: str, report: Report, deadline: float) -> Entry | None:
    """Remove it when it was made for the application and nobody has put anything else there."""
    found = cluster.get("Namespace", cluster.namespace)
    if found is None or not records.is_ours(found, application):
        return None
    if others := _others(cluster, application):
        report(f"Namespace {cluster.namespace} stays: it has {', '.join(others)}, which Cove has not made")
        return None
    cluster.delete(found)
    wait_gone(cluster, [found], max(1.0, deadline - time.monotonic()))
    report(f"Namespace {cluster.namespace} removed")
    return records.entry(found)


def _others(cluster: Cluster, application: str) -> list[str]:
    """Whatever is in the namespace, of all kinds that the cluster has."""
    found: list[str] = []
    for group, resource in _resources(cluster):
        if resource in _TRACES:
            continue
        path = f"{group}/namespaces/{cluster.namespace}/{resource}"
        try:
            items = cluster.ask("get", path).get("items") or ()
        except Refused as refused:
            # Whoever may not see what is there may not say that nothing is.
            found.append(f"{resource} ({refused.message})")
            continue
        for item in items:
            metadata = item["metadata"]
            owned = bool(metadata.get("ownerReferences"))
            own = records.is_ours(item, application)
            if not owned and not own and (resource, metadata["name"]) not in _OF_EVERY_NAMESPACE:
                found.append(f"{resource}/{metadata['name']}")
    return found


def _resources(cluster: Cluster) -> list[tuple[str, str]]:
    """(path of the group's version, name) of each kind of object that a namespace can have."""
    groups = ["/api/v1"]
    for group in cluster.ask("get", "/apis").get("groups") or ():
        if group["name"] != _MEASURES:
            groups.append(f"/apis/{group['preferredVersion']['groupVersion']}")
    made = []
    for group in groups:
        for one in cluster.ask("get", group).get("resources") or ():
            if one.get("namespaced") and "list" in (one.get("verbs") or ()) and "/" not in one["name"]:
                made.append((group, str(one["name"])))
    return made
