"""`cove kube play` on an engine of this computer: it is the client that is tested, and the engine is the same in the VM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

pytestmark = [pytest.mark.root, pytest.mark.native]

Play = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = [sys.executable, "-m", "cove", "kube", "play"]
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
        command = [*COMMAND, *words, str(file)]
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


def ended_with(client: Any, name: str) -> int:
    return int(client.containers.get(name).attrs["State"]["ExitCode"])


def in_container(client: Any, name: str, *words: str) -> str:
    code, output = client.containers.get(name).exec_run([*words])
    assert code == 0, output
    return str(output.decode())


def health(client: Any, name: str) -> str:
    """The state after the first check that has ended."""
    for event in client.events(decode=True, since=0, filters={"container": name, "event": "health_status"}):
        return str(event["status"])
    return ""


def test_a_pod_shares_network_volumes_and_settings(play: Play, docker_client: Any) -> None:
    done = play(POD, "--json")
    assert done.returncode == 0, done.stderr
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


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  type: NodePort
  selector: {app: hello}
  ports: [{port: 80, targetPort: web, nodePort: 30080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: busybox
        command: [sh, -c, "mkdir /www; hostname > /www/index.html; httpd -p 8080 -h /www; trap exit TERM; sleep 3600 & wait"]
        ports: [{name: web, containerPort: 8080}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: ask}
spec:
  completions: 2
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers:
      - name: ask
        image: busybox
        command:
        - sh
        - -c
        - |
          for name in hello hello.default.svc.cluster.local; do
            until wget -q -O - http://$name 2>/dev/null; do sleep 0.2; done
          done
          nslookup hello | grep -c 'Address.*172\\|Address.*192\\|Address.*10\\.'
"""


def test_a_service_is_a_name_and_a_port_and_a_job_runs_to_its_end(play: Play, docker_client: Any, engine: Any) -> None:
    done = play(SERVICE, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (job,) = told["jobs"]
    assert (job["done"], job["succeeded"], job["failures"]) == (True, 2, 0)
    assert "leads to pod hello-1 alone, not to hello-2" in done.stderr
    ports = {pod["name"]: pod["ports"] for pod in told["pods"]}
    assert [each["port"] for each in ports["hello-1"]] == ["8080/tcp"]
    assert ports["hello-1"][0]["address"].endswith(":30080") and ports["hello-2"] == []
    words = engine.in_network(
        "curl", "-sS", "--retry", "60", "--retry-delay", "1", "--retry-all-errors", "http://127.0.0.1:30080"
    )
    assert subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S).stdout == "hello-1\n"
    said = docker_client.containers.get("ask-1-ask").logs().decode().splitlines()
    assert {*said[:2]} <= {"hello-1", "hello-2"}
    # The pods of a job have ended, and are still there to be looked at; the others go on.
    states = {each.name: each.status for each in docker_client.containers.list(all=True)}
    assert states["ask-1"] == states["ask-2-ask"] == "exited"
    assert states["hello-1-web"] == states["hello-2"] == "running"
    assert [ended_with(docker_client, each) for each in ("ask-1", "ask-2")] == [0, 0]

    again = play(SERVICE)
    assert again.returncode == 1 and "the play kp is there already, with 4 pods" in again.stderr
    before = docker_client.containers.get("hello-1").id
    again = play(SERVICE, "--replace", "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert docker_client.containers.get("hello-1").id != before
    assert play(SERVICE, "--down").returncode == 0
    assert left(docker_client) == []


FAILING = """
apiVersion: batch/v1
kind: Job
metadata: {name: fails}
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: Never
      containers: [{name: it, image: busybox, command: [sh, -c, "echo oh no; exit 3"]}]
"""


def test_a_job_that_fails_too_often_is_told_with_its_status(play: Play, docker_client: Any) -> None:
    done = play(FAILING, "--json")
    assert done.returncode == 1
    (job,) = json.loads(done.stdout)["jobs"]
    assert (job["done"], job["succeeded"], job["failures"], job["exit_code"]) == (False, 0, 2, 3)
    assert "fails-1-it ended with status 3; its last words:\n  oh no\n" in done.stderr
    assert done.stderr.endswith("cove: job fails has failed: its last status is 3\n")
    assert (ended_with(docker_client, "fails-1"), ended_with(docker_client, "fails-1-it")) == (0, 3)


ODD = """
apiVersion: v1
kind: Pod
metadata: {name: odd}
spec:
  restartPolicy: Never
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: beside
    image: busybox
    restartPolicy: Always
    command: [sh, -c, "sleep 1; touch /fast/ready; sleep 3600"]
    startupProbe: {exec: {command: [test, -e, /fast/ready]}, periodSeconds: 1, failureThreshold: 60}
    volumeMounts: [{name: fast, mountPath: /fast}]
  containers:
  - name: main
    image: busybox
    args: [sh, -c, "test -e /fast/ready && pidof sleep && id -u && grep Cap /proc/self/status && exec sleep 3600"]
    securityContext: {runAsUser: 1234, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts:
    - {name: fast, mountPath: /fast}
    - {name: disk, mountPath: /disk, subPath: a/b}
  volumes:
  - {name: fast, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: disk, emptyDir: {}}
"""


def test_a_sidecar_is_waited_for_until_it_has_started(play: Play, docker_client: Any) -> None:
    done = play(ODD)
    assert done.returncode == 0, done.stderr
    in_container(docker_client, "odd-main", "touch", "/disk/mine")
    assert "tmpfs" in in_container(docker_client, "odd-main", "grep", " /fast ", "/proc/mounts")
    assert in_container(docker_client, "odd", "ls", "/volumes/disk/a/b") == "mine\n"
    said = docker_client.containers.get("odd-main").logs().decode()
    assert "1234" in said and "CapEff:\t0000000000000000" in said
    assert play(ODD, "--down").returncode == 0 and left(docker_client) == []


INIT = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kp-new}
spec: {}
---
apiVersion: v1
kind: Pod
metadata: {name: never}
spec:
  restartPolicy: Never
  initContainers: [{name: init, image: busybox, command: [sh, -c, "echo I cannot; exit 4"]}]
  containers: [{name: main, image: busybox}]
"""


def test_an_init_container_that_fails_leaves_nothing(play: Play, docker_client: Any) -> None:
    done = play(INIT)
    assert done.returncode == 1
    assert "init container init of pod never ended with status 4; its last words:\n  I cannot" in done.stderr
    assert left(docker_client) == []


def test_what_is_interrupted_leaves_nothing(engine: Any, docker_client: Any, tmp_path: Path) -> None:
    file = tmp_path / "kp.yaml"
    file.write_text(INIT.replace("echo I cannot; exit 4", "sleep 3600").replace("{name: never}", "{name: slow}"))
    environment = {**os.environ, "COVE_HOST": engine.url}
    with subprocess.Popen([*COMMAND, str(file)], env=environment, stderr=subprocess.PIPE, text=True) as process:
        for event in docker_client.events(decode=True, since=0, filters={"container": "slow-init", "event": "start"}):
            assert event["Action"] == "start"
            break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    assert left(docker_client) == []


def test_a_hosts_path_of_another_kind_is_refused(play: Play, docker_client: Any, engine: Any, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: host}}
spec:
  containers: [{{name: main, image: busybox, volumeMounts: [{{name: it, mountPath: /it}}]}}]
  volumes: [{{name: it, hostPath: {{path: {tmp_path}/there, type: Directory}}}}]
"""
    done = play(text)
    assert (
        done.returncode == 1
        and f"kp.yaml:7: Pod host: spec.volumes[0].hostPath: {tmp_path}/there is no Directory" in done.stderr
    )
    assert left(docker_client) == []
    assert play(text.replace("Directory", "File"), "--start=false").returncode == 0
    assert {each.status for each in docker_client.containers.list(all=True, filters={"name": "^host"})} == {"created"}
    for path, kind in (("/dev/null", "CharDevice"), (str(engine.socket), "Socket"), (str(tmp_path), "Directory")):
        other = text.replace(f"{tmp_path}/there", path).replace("Directory", kind)
        assert play(other, "--start=false", "--replace").returncode == 0


def test_what_is_not_supported_is_named_before_anything_is_made(play: Play, docker_client: Any) -> None:
    text = POD.replace("kind: Pod\n", "kind: Pod\nspecial: 1\n").replace(
        "  terminationGrace", "  runtimeClassName: x\n  terminationGrace"
    )
    done = play(text)
    assert done.returncode == 1 and left(docker_client) == []
    assert "Pod web: special is not supported" in done.stderr
    assert "Pod web: spec.runtimeClassName is not supported" in done.stderr
    assert play(text, "--ignore-unsupported").returncode == 0


def test_containers_of_others_are_left_alone(play: Play, docker_client: Any, make: Any) -> None:
    other = make("sleep", "60")
    other.rename("never-main")
    done = play(INIT)
    assert done.returncode == 1 and "there is a container never-main already, which is not of this play" in done.stderr
    assert docker_client.containers.get("never-main").id == other.id


def test_pods_come_back_when_the_engine_starts_what_is_to_restart(own_engine: Any, tmp_path: Path) -> None:
    """As after a boot of the machine; with the port that leads to another in the pod."""
    file = tmp_path / "kp.yaml"
    file.write_text(SERVICE.partition("---\napiVersion: batch")[0])
    environment = {**os.environ, "COVE_HOST": own_engine.url}
    subprocess.run([*COMMAND, str(file)], env=environment, check=True, timeout=PATIENCE_S, capture_output=True)
    assert own_engine.process is not None
    own_engine.process.send_signal(signal.SIGTERM)
    own_engine.process.wait(60)
    own_engine.start()
    client = docker.DockerClient(own_engine.url, timeout=60)
    ask = "until wget -q -O - http://hello; do sleep 0.2; done"
    said = client.containers.run("busybox", ["sh", "-c", ask], network="kube-kp", remove=True)
    assert said in (b"hello-1\n", b"hello-2\n")
    names = ["hello-1", "hello-1-web", "hello-2", "hello-2-web"]
    deadline = time.monotonic() + PATIENCE_S
    while sorted(each.name for each in client.containers.list()) != names:
        assert time.monotonic() < deadline, client.containers.list(all=True)
        time.sleep(0.05)
    client.close()


WHOLE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {file.conf: "key = value"}
---
apiVersion: v1
kind: Pod
metadata: {name: whole}
spec:
  hostname: named
  dnsConfig: {nameservers: [192.0.2.53], searches: [example.test], options: [{name: ndots, value: "2"}]}
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 1
  securityContext:
    runAsUser: 1000
    runAsGroup: 1001
    runAsNonRoot: true
    supplementalGroups: [3000]
    fsGroup: 2000
    seccompProfile: {type: RuntimeDefault}
    sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]
  containers:
  - name: all
    image: busybox
    command: [sleep, "3600"]
    workingDir: /work
    tty: true
    stdin: true
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
      seccompProfile: {type: Unconfined}
    livenessProbe: {exec: {command: ["true"]}, initialDelaySeconds: 1, periodSeconds: 1}
    startupProbe: {tcpSocket: {port: 1}, failureThreshold: 30, periodSeconds: 1}
    volumeMounts:
    - {name: settings, mountPath: /etc/app.conf, subPath: file.conf}
    - {name: work, mountPath: /work}
  volumes:
  - {name: settings, configMap: {name: settings, defaultMode: 0440}}
  - {name: work, emptyDir: {}}
---
apiVersion: v1
kind: Pod
metadata: {name: hosts}
spec:
  hostNetwork: true
  hostPID: true
  hostIPC: true
  terminationGracePeriodSeconds: 1
  containers: [{name: all, image: busybox, command: [sleep, "3600"]}]
"""


def test_the_engine_takes_what_pods_say(play: Play, docker_client: Any, engine: Any) -> None:
    known = docker_client.info()
    limiting = known["MemoryLimit"] and known["CpuCfsQuota"] and known["CPUShares"]
    limits = "    resources: {limits: {memory: 64Mi, cpu: 500m}, requests: {memory: 32Mi, cpu: 250m}}\n"
    done = play(WHOLE.replace("    tty: true\n", f"    tty: true\n{limits}") if limiting else WHOLE)
    assert done.returncode == 0, done.stderr

    def told(*words: str) -> str:
        return in_container(docker_client, "whole-all", *words).strip().replace("\r", "")

    assert told("id") == "uid=1000 gid=1001 groups=1001,2000,3000"
    assert told("hostname") == "named" and told("pwd") == "/work"
    assert told("cat", "/etc/app.conf") == "key = value"
    assert told("stat", "-L", "-c", "%g %a", "/etc/app.conf") == "2000 440"
    assert told("stat", "-c", "%g %a", "/work") == "2000 2777"
    resolver = told("cat", "/etc/resolv.conf")
    assert "search example.test" in resolver and "options ndots:2" in resolver
    status = told("cat", "/proc/self/status")
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t0" in status
    assert told("sh", "-c", "touch /no 2>&1 || true").endswith("Read-only file system")
    assert "sleep infinity" in told("ps")
    assert health(docker_client, "whole-all") == "health_status: healthy"
    config = docker_client.containers.get("whole-all").attrs["HostConfig"]
    assert not limiting or (config["Memory"], config["NanoCpus"], config["CpuShares"]) == (64 << 20, 500_000_000, 256)
    namespaces = "for one in net ipc pid; do readlink /proc/self/ns/$one; done"
    of_container = in_container(docker_client, "hosts-all", "sh", "-c", namespaces)
    assert of_container.splitlines()[0] == engine.sh(f"readlink /proc/{engine.pid}/ns/net").strip()
    assert of_container.splitlines()[1:] == engine.sh("readlink /proc/self/ns/ipc /proc/self/ns/pid").split()
