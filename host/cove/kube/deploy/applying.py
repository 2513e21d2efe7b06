"""Objects go into a cluster: by server-side apply, in order, recorded before they are there, and without touching what is others'."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence

from cove.errors import CoveError
from cove.kube.deploy import record as records
from cove.kube.deploy.cluster import CONFLICT, FORBIDDEN, Cluster, Object, Refused
from cove.kube.deploy.gone import wait_gone
from cove.kube.deploy.record import Entry, Record
from cove.kube.generate.manifests import labels

TEMPLATE = "cove.dev/template"
"""An annotation of a pod's template: a digest of it, by which pods are known that are of it."""

Report = Callable[[str], None]


def apply(
    cluster: Cluster, application: str, objects: Sequence[Object], report: Report, limit_s: float
) -> list[Object]:
    """The objects as they are in the cluster. Raises `CoveError`."""
    objects = [_placed(one, cluster.namespace) for one in objects]
    made_namespace = _make_namespace(cluster, application, report)
    before = records.read(cluster, application) or Record()
    _refuse_others(cluster, application, objects)
    wanted = [records.entry(one) for one in objects]
    kept = before.made_namespace or made_namespace
    records.write(cluster, application, Record(records.joined(before.entries, wanted), kept))
    applied = [_applied(cluster, one, report, limit_s) for one in objects]
    left = []
    for one in before.entries:
        if one in wanted:
            continue
        if one.kind == "PersistentVolumeClaim":
            report(f"{one} is not of the application any more, and stays: cove kube down --volumes removes it")
            left.append(one)
        else:
            _remove(cluster, application, one, report)
    records.write(cluster, application, Record(records.joined(wanted, left), kept))
    return applied


def _placed(made: Object, namespace: str) -> Object:
    """In its namespace, and its pods marked."""
    made = copy.deepcopy(made)
    made["metadata"]["namespace"] = namespace
    if made["kind"] == "Deployment":
        # Said, though it is the default: what is set by default cannot be taken back for `Recreate`.
        some = {"maxSurge": "25%", "maxUnavailable": "25%"}
        made["spec"].setdefault("strategy", {"type": "RollingUpdate", "rollingUpdate": some})
    template = made.get("spec", {}).get("template") if made["kind"] in ("Deployment", "Job") else None
    if template is not None:
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:32]
        template["metadata"].setdefault("annotations", {})[TEMPLATE] = digest
    return made


def _make_namespace(cluster: Cluster, application: str, report: Report) -> bool:
    """Whether it was not there, or has been made for the application before: who was interrupted has recorded nothing of it."""
    try:
        if (found := cluster.get("Namespace", cluster.namespace)) is not None:
            return records.is_ours(found, application)
    except Refused as refused:
        if refused.status == FORBIDDEN:
            return False  # whoever may not see namespaces has been given this one
        raise
    metadata = {"name": cluster.namespace, "labels": labels(application)}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    report(f"Namespace {cluster.namespace} created")
    return True


def _refuse_others(cluster: Cluster, application: str, objects: Sequence[Object]) -> None:
    """Raises `CoveError` when something of the same name is there that is not the application's."""
    taken = []
    for one in objects:
        found = cluster.get(one["kind"], one["metadata"]["name"])
        if found is not None and not records.is_ours(found, application):
            taken.append(str(records.entry(one)))
    if taken:
        raise CoveError(
            f"namespace {cluster.namespace} has what is not of the application {application}: {', '.join(taken)}",
            "choose another namespace with --namespace; nothing has been changed",
        )


def _applied(cluster: Cluster, made: Object, report: Report, limit_s: float) -> Object:
    _remove_unchangeable(cluster, made, report, limit_s)
    try:
        applied = cluster.apply(made)
    except Refused as refused:
        if refused.status != CONFLICT:
            raise CoveError(f"{records.entry(made)}: {refused.message}") from refused
        raise CoveError(
            f"{records.entry(made)}: somebody else has set what Cove would change\n{refused.message}",
            "give these fields back, or set them in what is deployed as they are there",
        ) from refused
    report(f"{records.entry(made)} applied")
    return applied


def _remove_unchangeable(cluster: Cluster, made: Object, report: Report, limit_s: float) -> None:
    """What the API does not let become what it is to be: another one takes its place."""
    if made["kind"] not in _UNCHANGEABLE:
        return
    found = cluster.get(made["kind"], made["metadata"]["name"])
    if found is None or not _UNCHANGEABLE[made["kind"]](found, made):
        return
    report(f"{records.entry(made)} is made anew")
    cluster.delete(found, "Foreground")
    wait_gone(cluster, [found], limit_s)


def _is_another_job(found: Object, job: Object) -> bool:
    """Or one that has failed, and does not try again however often it is applied."""
    if any(one["type"] == "Failed" and one["status"] == "True" for one in _conditions(found)):
        return True
    if (found["spec"].get("completions") or 1) != (job["spec"].get("completions") or 1):
        return True
    annotations = found["spec"]["template"]["metadata"].get("annotations") or {}
    return bool(annotations.get(TEMPLATE) != job["spec"]["template"]["metadata"]["annotations"][TEMPLATE])


def _conditions(found: Object) -> Sequence[Object]:
    return (found.get("status") or {}).get("conditions") or ()


def _has_other_address(found: Object, service: Object) -> bool:
    return (found["spec"].get("clusterIP") == "None") is not (service["spec"].get("clusterIP") == "None")


_UNCHANGEABLE: dict[str, Callable[[Object, Object], bool]] = {"Job": _is_another_job, "Service": _has_other_address}


def _remove(cluster: Cluster, application: str, one: Entry, report: Report) -> None:
    found = cluster.get(one.kind, one.name)
    if found is not None and records.is_ours(found, application):
        cluster.delete(found)
        report(f"{one} removed: it is not of the application any more")
