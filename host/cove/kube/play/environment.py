"""The environment of a container, and `$(NAME)` in what is said of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cove.kube.play.configs import Configs
from cove.kube.play.fields import Fields
from cove.kube.play.plan import POD_IP

MAX_WORD = 128 << 10
"""Linux' MAX_ARG_STRLEN."""
MAX_ENVIRONMENT = 2 << 20
"""What Linux gives to a program at the most, its arguments included."""
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
    """`$(NAME)` by its value, where there is one; `$$` is `$`. Raises `ValueError` for more than a program can be given."""
    pieces, size, end = [], 0, 0
    for found in _REFERENCE.finditer(text):
        pieces += [text[end : found.start()], "$" if found[0] == "$$" else known.get(found[1], found[0])]
        size, end = size + len(pieces[-1]) + len(pieces[-2]), found.end()
        if size > MAX_WORD:
            break
    if size + len(text) - end > MAX_WORD:
        raise ValueError(f"is longer than {MAX_WORD >> 10} KiB, which is the most that a program can be given")
    return "".join([*pieces, text[end:]])


class _TooMuch(Exception):
    """More variables than a program can be given."""


class _Variables(dict[str, str]):
    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def __setitem__(self, name: str, value: str) -> None:
        self._size += len(name) + len(value)
        if self._size > MAX_ENVIRONMENT:
            raise _TooMuch
        super().__setitem__(name, value)


def read(container: Fields, facts: Facts, configs: Configs) -> dict[str, str]:
    made = _Variables()
    try:
        for source in container.each("envFrom"):
            _from(source, facts, configs, made)
        for variable in container.each("env"):
            _variable(variable, facts, configs, made)
    except _TooMuch:
        container.wrong(
            f"{container.path}: more than {MAX_ENVIRONMENT >> 20} MiB of variables, which no program can be given"
        )
    return made


def static(container: Fields) -> dict[str, str]:
    """What Kubernetes knows where it has but the manifest: values as they are written, and empty ones for `valueFrom`."""
    return {each.text("name"): each.text("value") for each in container.each("env")}


def _from(source: Fields, facts: Facts, configs: Configs, made: dict[str, str]) -> None:
    prefix = source.text("prefix")
    for kind, name in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
        if reference := source.inner(name):
            for key, data in (_looked_up(reference, kind, facts, configs) or {}).items():
                if _NAME.match(prefix + key):
                    made[prefix + key] = _text(reference, key, data)
                else:
                    reference.note(f"{reference.path}: {prefix + key!r} is no name of a variable, and left out")


def _variable(variable: Fields, facts: Facts, configs: Configs, made: dict[str, str]) -> None:
    name = variable.text("name", needed=True)
    if not _NAME.match(name):
        variable.wrong(f"{variable.path}: {name!r} is no name of a variable")
    elif source := variable.inner("valueFrom"):
        if variable.has("value"):
            variable.ignore("value")
            variable.wrong(f"{variable.path}: value and valueFrom exclude each other")
        value = _value_from(source, facts, configs)
        if value is not None:
            made[name] = value
    else:
        try:
            made[name] = expanded(variable.text("value"), made)
        except ValueError as error:
            variable.wrong(f"{variable.path}.value {error}")


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
