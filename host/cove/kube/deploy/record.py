"""What of a namespace is an application's: a ConfigMap lists it. `down` removes what is listed and labelled, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from cove.errors import CoveError
from cove.kube.deploy.cluster import KINDS, Cluster, Object
from cove.kube.generate.manifests import APPLICATION, MANAGED_BY, MANAGER, labels
from cove.plain import printable


class Entry(NamedTuple):
    kind: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.kind} {self.name}")


def entry(made: Object) -> Entry:
    return Entry(made["kind"], made["metadata"]["name"])


@dataclass(frozen=True)
class Record:
    entries: tuple[Entry, ...] = ()
    made_namespace: bool = False


def name(application: str) -> str:
    return f"cove-{application}"


def read(cluster: Cluster, application: str) -> Record | None:
    """None when there is none. Raises `CoveError` for one that is not ours, or cannot be read."""
    found = cluster.get("ConfigMap", name(application))
    if found is None:
        return None
    if not is_ours(found, application):
        raise CoveError(
            f"ConfigMap {name(application)} in namespace {cluster.namespace} is not a record of Cove's",
            "choose another name with --name",
        )
    try:
        data: dict[str, Any] = found["data"]
        entries = tuple(Entry(str(kind), str(own)) for kind, own in json.loads(data["objects"]))
        if unknown := {one.kind for one in entries} - set(KINDS):
            raise ValueError(f"unknown kinds {unknown}")
        return Record(entries, data.get("namespace") == "made")
    except (KeyError, ValueError, TypeError) as error:
        raise CoveError(
            f"ConfigMap {name(application)} in namespace {cluster.namespace} cannot be read: {error}"
        ) from error


def write(cluster: Cluster, application: str, record: Record) -> None:
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name(application), "namespace": cluster.namespace, "labels": labels(application)},
            "data": {
                "namespace": "made" if record.made_namespace else "found",
                "objects": json.dumps([list(one) for one in record.entries], indent=1),
            },
        }
    )


def is_ours(found: Object, application: str) -> bool:
    own = found["metadata"].get("labels") or {}
    return own.get(MANAGED_BY) == MANAGER and own.get(APPLICATION) == application


def joined(*parts: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(dict.fromkeys(one for part in parts for one in part))
