"""Plans of manifests for the tests of `cove.kube.play`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cove.kube.play import documents, objects
from cove.kube.play.fields import Reading
from cove.kube.play.plan import Container, Plan, Pod
from cove.kube.play.problems import Problems

CONTAINER = "[{name: main, image: busybox}]"


def read(text: str, publish: Sequence[str] = (), configs: str = "") -> tuple[Plan, Problems]:
    reading = Reading()
    made = objects.plan(
        documents.read(text, "app.yaml"), documents.read(configs, "more.yaml"), "app", "/x/app.yaml", publish, reading
    )
    return made, reading.problems


def plan(text: str, **more: Any) -> Plan:
    """Of manifests with which nothing is wrong."""
    made, problems = read(text, **more)
    assert told(problems) == []
    return made


def told(problems: Problems) -> list[str]:
    return [str(each) for each in sorted([*problems.wrong, *problems.unsupported])]


def wrong(text: str, **more: Any) -> list[str]:
    return told(read(text, **more)[1])


def pod_text(spec: str, name: str = "web", labels: str = "{app: web}") -> str:
    """A Pod whose spec is these lines."""
    lines = "".join(f"  {line}\n" for line in spec.strip("\n").split("\n"))
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {labels}}}\nspec:\n{lines}---\n"


def pod(spec: str, more: str = "") -> Pod:
    return plan(pod_text(spec) + more).pods[0]


def container(fields: str, spec: str = "", more: str = "") -> Container:
    """The container `main` with these fields, as a flow mapping has them."""
    inner = f", {fields}" if fields else ""
    made: Container = pod(f"containers: [{{name: main, image: busybox{inner}}}]\n{spec}", more).containers[0]
    return made
