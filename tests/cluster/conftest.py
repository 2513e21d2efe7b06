"""A control plane for all of these tests, and for each of them a namespace of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import control_plane
import node as nodes
import pytest
from cove.kube.deploy import applying, down
from cove.kube.deploy.cluster import Cluster, connect
from cove.kube.deploy.record import Entry
from cove.kube.deploy.rollout import Rollout
from cove.kube.generate import compose, manifests
from cove.kube.generate.binds import Binds
from cove.kube.generate.manifests import Options
from kubernetes import client, config

Object = dict[str, Any]

PROGRAMS = Path(os.environ.get("COVE_TEST_CONTROL_PLANE") or Path(__file__).parents[2] / "build" / "kubernetes")
LIMIT_S = 120.0
_NUMBERS = itertools.count(1)


@dataclass
class Place:
    """A namespace, and Cove in it."""

    kubeconfig: Path
    namespace: str
    node: nodes.Node
    api: Any
    said: list[str] = field(default_factory=list)

    def cluster(self) -> Cluster:
        return connect(str(self.kubeconfig), "", self.namespace)

    def deploy(self, config: Object, options: Options | None = None) -> list[Object]:
        made = compose.application(config, "", Binds("refuse"))
        objects = manifests.objects(made, options or Options())
        return applying.apply(self.cluster(), made.name, objects, self.said.append, LIMIT_S)

    def roll_out(self, applied: list[Object], limit_s: float = LIMIT_S) -> list[str]:
        return Rollout(self.cluster(), "shop", applied, self.said.append).wait(limit_s)

    def down(self, *, volumes: bool = False) -> tuple[list[Entry], list[Entry]]:
        return down.down(self.cluster(), "shop", volumes=volumes, report=self.said.append, limit_s=LIMIT_S)

    def get(self, kind: str, name: str) -> Object:
        found = self.cluster().get(kind, name)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def has(self, kind: str, name: str) -> bool:
        return self.cluster().get(kind, name) is not None


def need(*names: str) -> None:
    """Who asks for these tests is not to be told that they passed."""
    if lacking := [name for name in names if not control_plane.has(PROGRAMS, name)]:
        pytest.fail(
            f"{PROGRAMS} has no {', '.join(lacking)}: COVE_TEST_CONTROL_PLANE names a folder that has (tests/README.md)"
        )


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    need(*control_plane.PROGRAMS)
    with control_plane.running(PROGRAMS, tmp_path_factory.mktemp("control-plane")) as found:
        yield found


@pytest.fixture(scope="session")
def controllers() -> None:
    """For what an API server alone does not do: pods, the ends of jobs, and the removal of what is owned."""
    need(control_plane.MANAGER)


@pytest.fixture(scope="session")
def node(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    with nodes.running(kubeconfig, tmp_path_factory.mktemp("node")) as made:
        yield made


@pytest.fixture
def new(kubeconfig: Path, node: nodes.Node) -> Iterator[Place]:
    """In a namespace that is not there."""
    place = Place(kubeconfig, f"test-{next(_NUMBERS)}", node, config.new_client_from_config(str(kubeconfig)))
    yield place
    node.behaviour.clear()


@pytest.fixture
def place(new: Place) -> Place:
    """In a namespace of somebody else's."""
    client.CoreV1Api(new.api).create_namespace({"metadata": {"name": new.namespace}})
    return new
