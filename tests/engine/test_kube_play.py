"""`cove kube play` on an engine of this computer: it is the client that is tested, and the engine is the same in the VM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.native]

Play = Callable[..., subprocess.CompletedProcess[str]]
PATIENCE_S = 120

POD = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello, page.txt: from the map}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: swordfish}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kp-data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  hostAliases: [{ip: 192.0.2.7, hostnames: [elsewhere]}]
  securityContext: {fsGroup: 2000}
  initContainers:
  - name: first
    image: busybox
    command: [sh, -c, "cat /settings/page.txt /keys/pass > /shared/index.html; id -g nobody > /data/first"]
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: data, mountPath: /data}
    - {name: settings, mountPath: /settings}
    - {name: keys, mountPath: /keys}
  containers:
  - name: server
    image: busybox
    command: [httpd, -f, -p, "8080", -h, /shared]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /index.html, port: http}, periodSeconds: 1}
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}]
  - name: client
    image: busybox
    command: [sh, -c, "$(GREETING)_it() { sleep 3600; }; touch /shared/by-nobody; trap exit TERM; sleep 3600 & wait"]
    securityContext: {runAsUser: 65534}
    env:
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: WORDS, value: $(GREETING) $(NONE) $$(GREETING)}
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: data, persistentVolumeClaim: {claimName: kp-data}}
  - {name: settings, configMap: {name: settings}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0400, items: [{key: password, path: pass}]}}
"""


@pytest.fixture
def play(engine: Any, tmp_path: Path, docker_client: Any) -> Iterator[Play]:
    """Plays, or ends, a manifest of the name kp.yaml; nothing of it is left after the test."""
    environment = {**os.environ, "COVE_HOST": engine.url}
    file = tmp_path / "kp.yaml"

    def run(text: str, *words: str) -> subprocess.CompletedProcess[str]:
        file.write_text(text)
        command = [sys.executable, "-m", "cove", "kube", "play", *words, str(file)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)

    yield run
    run("", "--down", "--volumes")
    assert not left(docker_client)


def left(client: Any) -> list[str]:
    """What is there of the play."""
    label = {"label": "io.cove.kube.play=kp"}
    found = [each.name for each in client.containers.list(all=True, filters=label)]
    found += [each.name for each in client.volumes.list(filters=label)]
    return found + [each.name for each in client.networks.list(filters=label)]


def in_container(client: Any, name: str, *words: str) -> str:
    code, output = client.containers.get(name).exec_run([*words])
    assert code == 0, output
    return str(output.decode())


def health(client: Any, name: str) -> str:
    """The state after the first check that has ended."""
    for event in client.events(decode=True, since=0, filters={"container": name, "event": "health_status"}):
        return str(event["status"])
    return ""


def test_a_pod_shares_network_volumes_and_settings(play: Play, docker_client: Any, engine: Any) -> None:
    done = play(POD, "--json")
    assert done.returncode == 0, done.stderr + engine.log()[-3000:]
    told = json.loads(done.stdout)
    assert told["play"] == "kp" and told["pods"][0]["containers"] == ["web-server", "web-client"]
    page = in_container(docker_client, "web-client", "wget", "-q", "-O", "-", "http://localhost:8080/index.html")
    assert page == "from the mapswordfish"
    assert in_container(docker_client, "web-server", "hostname") == "web\n"
    assert "192.0.2.7" in in_container(docker_client, "web-server", "cat", "/etc/hosts")
    assert in_container(docker_client, "web-server", "stat", "-c", "%u:%g %a", "/shared/by-nobody").startswith(
        "65534:2000"
    )
    environment = in_container(docker_client, "web-client", "env").splitlines()
    address = docker_client.containers.get("web").attrs["NetworkSettings"]["Networks"]["kube-kp"]["IPAddress"]
    assert {"PASSWORD=swordfish", f"ADDRESS={address}", "WORDS=hello $(NONE) $(GREETING)"} <= set(environment)
    assert health(docker_client, "web") == "health_status: healthy"
    ended = play(POD, "--down")
    assert ended.returncode == 0
    assert left(docker_client) == ["kp-data"]
