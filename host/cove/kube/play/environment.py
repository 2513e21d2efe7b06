"""The environment of a container, and `$(NAME)` in what is said of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cove.kube.play.configs import Configs
from cove.kube.play.fields import Fields
from cove.kube.play.plan import POD_IP

_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*\Z")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]\Z")


@dataclass(frozen=True, slots=True)
class Facts:
    """What containers may ask about their pod."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account: str


def expanded(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` by its value, where there is one; `$$` is `$`."""
    return _REFERENCE.sub(lambda found: "$" if found[0] == "$$" else known.get(found[1], found[0]), text)


def read(container: Fields, facts: Facts, configs: Configs) -> dict[str, str]:
    made: dict[str, str] = {}
    for source in container.each("envFrom"):
        prefix = source.text("prefix")
        for kind, name in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if reference := source.inner(name):
                for key, data in (_looked_up(reference, kind, facts, configs) or {}).items():
                    if _NAME.match(prefix + key):
                        made[prefix + key] = _text(reference, key, data)
                    else:
                        reference.note(f"{reference.path}: {prefix + key!r} is no name of a variable, and left out")
    for variable in container.each("env"):
        name = variable.text("name", needed=True)
        if not _NAME.match(name):
            variable.wrong(f"{variable.path}: {name!r} is no name of a variable")
        elif value_from := variable.inner("valueFrom"):
            if variable.has("value"):
                variable.ignore("value")
                variable.wrong(f"{variable.path}: value and valueFrom exclude each other")
            value = _value_from(value_from, facts, configs)
            if value is not None:
                made[name] = value
        else:
            made[name] = expanded(variable.text("value"), made)
    return made


def _looked_up(reference: Fields, kind: str, facts: Facts, configs: Configs) -> dict[str, bytes] | None:
    name, optional = reference.text("name", needed=True), reference.flag("optional")
    found = configs.get(kind, facts.namespace, name)
    if found is None and not optional and name:
        reference.wrong(
            f"{reference.path}: there is no {kind} {name}" + (" (--configmap FILE)" if kind == "ConfigMap" else "")
        )
    return found


def _value_from(source: Fields, facts: Facts, configs: Configs) -> str | None:
    for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if reference := source.inner(field):
            key, optional = reference.text("key", needed=True), reference.flag("optional")
            found = _looked_up(reference, kind, facts, configs)
            if found is not None and key not in found and not optional:
                reference.wrong(f"{reference.path}: {kind} {reference.text('name')} has no key {key}")
            return None if found is None or key not in found else _text(reference, key, found[key])
    if reference := source.inner("fieldRef"):
        reference.ignore("apiVersion")
        return _fact(reference, reference.text("fieldPath", needed=True), facts)
    return None


def _fact(reference: Fields, path: str, facts: Facts) -> str | None:
    known = {
        "metadata.name": facts.name,
        "metadata.namespace": facts.namespace,
        "spec.serviceAccountName": facts.service_account,
        "status.podIP": POD_IP,
        "status.podIPs": POD_IP,
    }
    if path in known:
        return known[path]
    if keyed := _KEYED.match(path):
        return (facts.labels if keyed[1] == "labels" else facts.annotations).get(keyed[2], "")
    reference.cannot(f"{reference.path}: fieldPath {path} is not supported")
    return None


def _text(reference: Fields, key: str, data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        reference.wrong(f"{reference.path}: {key} is no text: it cannot be a variable")
        return ""
    return text
