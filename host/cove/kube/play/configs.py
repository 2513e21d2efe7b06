"""ConfigMaps and Secrets: named bytes."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from cove.kube.play.fields import Fields

MAX_BYTES = 1 << 20
"""Of one ConfigMap or Secret, as Kubernetes has it."""


@dataclass
class Configs:
    """By kind, namespace and name."""

    known: dict[tuple[str, str, str], dict[str, bytes]] = field(default_factory=dict)

    def get(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        return self.known.get((kind, namespace, name))

    def read(self, kind: str, namespace: str, name: str, fields: Fields) -> None:
        fields.ignore("immutable", "type", "status")
        data = _decoded(fields, "binaryData" if kind == "ConfigMap" else "data")
        data |= {
            key: text.encode() for key, text in fields.strings("data" if kind == "ConfigMap" else "stringData").items()
        }
        if sum(map(len, data.values())) > MAX_BYTES:
            fields.wrong("more than 1 MiB of data, which is the most")
        for key in data:
            if "/" in key or key in ("", ".", ".."):
                fields.wrong(f"{key!r} is no key")
        self.known[kind, namespace, name] = data


def _decoded(fields: Fields, name: str) -> dict[str, bytes]:
    found = {}
    for key, text in fields.strings(name).items():
        try:
            found[key] = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            fields.wrong(
                f"{name}.{key} is not base64" + (" (plain text goes into stringData)" if name == "data" else "")
            )
    return found
