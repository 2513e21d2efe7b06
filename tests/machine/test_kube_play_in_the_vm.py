"""`cove kube play` in the VM: what hangs on its kernel, its controllers, and its ways to this computer's folders and ports. All else is in
tests/engine/test_kube_play.py, on an engine of this computer."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

PORT = 18086
MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: kp-vm}
spec:
  selector: {matchLabels: {app: kp-vm}}
  template:
    metadata: {labels: {app: kp-vm}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - name: first
        image: busybox
        command: [sh, -c, "cat /settings/greeting /here/word > /shared/index.html"]
        volumeMounts:
        - {name: settings, mountPath: /settings}
        - {name: here, mountPath: /here}
        - {name: shared, mountPath: /shared}
      containers:
      - name: server
        image: busybox
        command: [httpd, -f, -p, "8080", -h, /shared]
        resources: {limits: {memory: 64Mi, cpu: 100}}
        volumeMounts: [{name: shared, mountPath: /shared}]
      volumes:
      - {name: settings, configMap: {name: settings}}
      - {name: here, hostPath: {path: FOLDER, type: Directory}}
      - {name: shared, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: LoadBalancer, selector: {app: kp-vm}, ports: [{port: NUMBER, targetPort: 8080}]}
"""


@pytest.fixture
def file(machine: Any) -> Iterator[Path]:
    """A manifest in the user's home, which the machine sees."""
    folder = Path(machine.environment["HOME"]) / "kp-vm"
    folder.mkdir()
    (folder / "word").write_text(" from here")
    made = folder / "kp-vm.yaml"
    made.write_text(MANIFEST.replace("FOLDER", str(folder)).replace("NUMBER", str(PORT)))
    yield made
    machine.cove("kube", "play", "--down", "--volumes", str(made))


def test_a_deployment_is_on_localhost_with_this_computers_files_and_the_kernels_limits(
    machine: Any, file: Path
) -> None:
    told = json.loads(machine.cove("kube", "play", "--json", str(file)).stdout)
    assert told["pods"][0]["containers"] == ["kp-vm-1-server"]
    server = ("exec", "kp-vm-1-server")
    machine.docker(*server, "sh", "-c", "until wget -q -O /dev/null http://127.0.0.1:8080/; do :; done")
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=60) as answer:
        assert answer.read() == b"hello from here"
    name = machine.docker(*server, "wget", "-q", "-O", "-", f"http://front.default.svc.cluster.local:{PORT}/").stdout
    assert name == "hello from here"
    assert machine.docker(*server, "cat", "/sys/fs/cgroup/memory.max").stdout.strip() == str(64 << 20)
    assert machine.docker(*server, "sh", "-c", "mount | grep ' /shared '").stdout.startswith("tmpfs on /shared")
    machine.cove("kube", "play", "--down", str(file))
    label = "label=io.cove.kube.play=kp-vm"
    for words in (("ps", "-aq"), ("network", "ls", "-q"), ("volume", "ls", "-q")):
        assert machine.docker(*words, "--filter", label).stdout == ""
