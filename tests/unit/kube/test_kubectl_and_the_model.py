"""kubectl before the model of an API server: that the model is what another client of Kubernetes' takes for one, and that kubectl takes
what Cove writes, and finds what Cove has made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.kube.deploy import applying, down
from cove.kube.deploy.cluster import connect
from cove.kube.generate import compose, manifests, written
from cove.kube.generate.binds import Binds
from cove.kube.generate.manifests import Options, Route
from model_cluster import Model, serving

Kubectl = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = shutil.which("kubectl") or ""
LIMIT_S = 60.0
CONFIG: dict[str, Any] = {
    "name": "shop",
    "services": {
        "web": {
            "image": "nginx", "ports": [{"target": 80, "published": "8080"}], "environment": {"N": "5", "E": "1e3"},
            "configs": [{"source": "c", "target": "/c"}], "secrets": [{"source": "s"}], "deploy": {"replicas": 2},
            "volumes": [{"type": "volume", "source": "data", "target": "/data"}], "healthcheck": {"test": ["CMD", "true"]},
        },
        "migrate": {"image": "migrate", "restart": "no"},
    },
    "configs": {"c": {"content": "1"}}, "secrets": {"s": {"content": "2"}}, "volumes": {"data": None},
}  # fmt: skip

pytestmark = pytest.mark.skipif(not PROGRAM, reason="there is no kubectl")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Model, Path]]:
    with serving(tmp_path) as (model, kubeconfig):
        model.token = ""
        yield model, kubeconfig


@pytest.fixture
def kubectl(place: tuple[Model, Path], tmp_path: Path) -> Kubectl:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "--kubeconfig", str(place[1]), "--cache-dir", str(tmp_path / "cache"), *words],
            env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip

    return run


def objects() -> list[dict[str, Any]]:
    application = compose.application(CONFIG, "", Binds("refuse"))
    return manifests.objects(application, Options(routes=(Route("shop.example", "web"),)))


@pytest.mark.parametrize("words", [("create", "--dry-run=client"), ("apply", "--server-side")])
def test_kubectl_takes_what_is_written(kubectl: Kubectl, tmp_path: Path, words: tuple[str, ...]) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(written.documents(objects()))
    done = kubectl(*words, "--validate=false", "--filename", str(file), "--output", "name")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [
        "configmap/shop-config-c", "secret/shop-secret-s", "persistentvolumeclaim/data", "service/web", "job.batch/migrate",
        "deployment.apps/web", "ingress.networking.k8s.io/shop",
    ]  # fmt: skip


def test_kubectl_finds_what_was_deployed_and_nothing_after_it_was_removed(
    place: tuple[Model, Path], kubectl: Kubectl
) -> None:
    cluster = connect(str(place[1]), "", "")
    applying.apply(cluster, "shop", objects(), lambda text: None, LIMIT_S)
    done = kubectl("rollout", "status", "deployment/web", f"--timeout={LIMIT_S:.0f}s")
    assert (done.returncode, done.stdout) == (0, 'deployment "web" successfully rolled out\n')
    every = "configmaps,deployments,ingresses,jobs,persistentvolumeclaims,pods,secrets,services"
    ours = ("get", every, "--selector", "cove.dev/application=shop", "--output", "name", "--ignore-not-found")
    found = set(kubectl(*ours).stdout.split())
    assert {"configmap/cove-shop", "deployment.apps/web", "ingress.networking.k8s.io/shop", "service/web"} <= found
    assert sum(name.startswith("pod/web-") for name in found) == 2
    down.down(cluster, "shop", volumes=True, report=lambda text: None, limit_s=LIMIT_S)
    done = kubectl(*ours)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_kubectl_has_set_is_a_conflict_for_cove_and_the_other_way_round(
    place: tuple[Model, Path], kubectl: Kubectl, tmp_path: Path
) -> None:
    cluster = connect(str(place[1]), "", "")
    applying.apply(cluster, "shop", objects(), lambda text: None, LIMIT_S)
    file = tmp_path / "web.yaml"
    file.write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 7\n"
        "  selector: {matchLabels: {app.kubernetes.io/name: web, cove.dev/application: shop}}\n"
        "  template:\n    metadata: {labels: {app.kubernetes.io/name: web, cove.dev/application: shop}}\n    spec:\n"
        "      containers: [{name: web, image: nginx}]\n"
    )
    words = ("apply", "--server-side", "--validate=false", "--filename", str(file))
    done = kubectl(*words)
    assert done.returncode == 1
    assert 'conflict with "cove": .spec.replicas' in done.stderr
    assert kubectl(*words, "--force-conflicts").returncode == 0
    assert place[0].get("Deployment", "web")["spec"]["replicas"] == 7
