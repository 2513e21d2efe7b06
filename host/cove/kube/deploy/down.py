"""An application is removed: what its record lists and its labels say, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

from cove.errors import CoveError
from cove.kube.deploy import record as records
from cove.kube.deploy.cluster import Cluster, Object, Refused
from cove.kube.deploy.gone import wait_gone
from cove.kube.deploy.record import Entry, Record
from cove.kube.shown import inset

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
            inset(f"there is no application {application} in namespace {cluster.namespace} of {cluster.context}"),
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
    if record.made_namespace and (gone := _namespace(cluster, application, report, deadline)):
        return [*removed, gone], kept
    # Last: as long as it is there, `down` can be run again.
    own = cluster.get("ConfigMap", records.name(application))
    if own is not None:
        cluster.delete(own)
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
    """Whatever is in the namespace, of all kinds that the cluster has, but for the record: what was listed there has gone before. Labels
    do not count, which copies have as well; what something else there owns goes untold."""
    resources, found = _resources(cluster)
    expected = {*_OF_EVERY_NAMESPACE, ("configmaps", records.name(application))}
    there: list[tuple[str, Object]] = []
    for group, resource in resources:
        if resource in _TRACES:
            continue
        path = f"{group}/namespaces/{cluster.namespace}/{resource}"
        try:
            items = cluster.ask("get", path).get("items") or ()
        except Refused as refused:
            # Whoever may not see what is there may not say that nothing is.
            found.append(f"{resource} ({refused.message})")
            continue
        there += [(resource, one["metadata"]) for one in items if (resource, one["metadata"]["name"]) not in expected]
    seen = {metadata["uid"] for _, metadata in there}
    for resource, metadata in there:
        if not any(owner["uid"] in seen for owner in metadata.get("ownerReferences") or ()):
            found.append(f"{resource}/{metadata['name']}")
    return found


def _resources(cluster: Cluster) -> tuple[list[tuple[str, str]], list[str]]:
    """(path of the group's version, name) of each kind of object that a namespace can have, and the versions that do not tell theirs.
    A kind may be of one version of its group alone, which need not be the preferred one."""
    versions = [("", "/api/v1")]
    for group in cluster.ask("get", "/apis").get("groups") or ():
        if group["name"] != _MEASURES:
            versions += [(group["name"], f"/apis/{one['groupVersion']}") for one in group["versions"]]
    made: dict[tuple[str, str], str] = {}
    hidden = []
    for group, path in versions:
        try:
            resources = cluster.ask("get", path).get("resources") or ()
        except Refused as refused:
            hidden.append(f"what is of {path} ({refused.message})")
            continue
        for one in resources:
            if one.get("namespaced") and "list" in (one.get("verbs") or ()) and "/" not in one["name"]:
                made.setdefault((group, str(one["name"])), path)
    return [(path, resource) for (_, resource), path in made.items()], hidden
