"""What the official schemas, and kubectl, say of manifests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from cove.kube.generate import written

VERSIONS = ("1.27", "1.33")
"""Of Kubernetes: an old one and a new one."""


def check(objects: Iterable[Mapping[str, Any]]) -> None:
    """Raise for what is not exactly as the schemas say: no unknown field, no wrong type, nothing missing."""
    for one in objects:
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)


def read(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def kubectl() -> str | None:
    return shutil.which("kubectl")


def check_by_kubectl(objects: Iterable[dict[str, Any]], folder: Path) -> None:
    """Without a server kubectl reads those that have pods into Kubernetes' own types, and knows how all others are to be read."""
    program = kubectl()
    assert program is not None
    objects = list(objects)
    for name, some, words in (
        ("all.yaml", objects, ["label", "cove.dev/tried=yes"]),
        ("pods.yaml", [one for one in objects if one["kind"] in ("Deployment", "Job")], ["set", "image", "*=other"]),
    ):
        if not some:
            continue
        file = folder / name
        file.write_text(written.documents(some))
        done = subprocess.run(
            [program, *words, "--local", "--filename", str(file), "--output", "name"],
            env={**os.environ, "KUBECONFIG": os.devnull},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == len(some)
