"""What the engine is asked for: bodies of pods' own containers, and of those in them."""

from __future__ import annotations

from typing import Any

import pytest
from cove.kube.play.plan import POD_IP, Entry
from play_support import CONTAINER, container, plan, pod, pod_text, read, wrong

NS = 1_000_000_000
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: red, not-a-name!: x}
binaryData: {raw: /w==}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {password: c3dvcmRmaXNo}
stringData: {user: me}
---
"""


def test_a_pods_own_container_holds_what_the_others_share() -> None:
    made = pod(f"containers: {CONTAINER}")
    own, body = made.pause, made.containers[0].body
    assert (made.name, made.containers[0].name) == ("web", "web-main")
    assert own["HostConfig"]["NetworkMode"] == "kube-app" and own["HostConfig"]["IpcMode"] == "shareable"
    assert own["Hostname"] == "web"
    assert body["HostConfig"]["NetworkMode"] == body["HostConfig"]["IpcMode"] == "container:web"
    assert "PidMode" not in body["HostConfig"]
    labels = {"io.cove.kube.play": "app", "io.cove.kube.file": "/x/app.yaml", "io.cove.kube.pod": "web", "app": "web"}
    for each, role in ((own, "pod"), (body, "container")):
        assert {*labels.items(), ("io.cove.kube.role", role)} <= {*each["Labels"].items()}


def test_labels_of_the_manifest_do_not_replace_those_of_the_play() -> None:
    made = plan(pod_text(f"containers: {CONTAINER}", labels="{io.cove.kube.play: other}")).pods[0]
    assert made.pause["Labels"]["io.cove.kube.play"] == made.containers[0].body["Labels"]["io.cove.kube.play"] == "app"


@pytest.mark.parametrize(
    ("given", "docker"), [("", "always"), ("restartPolicy: OnFailure", "on-failure"), ("restartPolicy: Never", "no")]
)
def test_restart_policies(given: str, docker: str) -> None:
    made = pod(f"containers: {CONTAINER}\n{given}")
    assert made.containers[0].body["HostConfig"]["RestartPolicy"] == {"Name": docker}


def test_init_containers_and_sidecars() -> None:
    made = pod(
        f"""
initContainers:
- {{name: once, image: a}}
- {{name: beside, image: b, restartPolicy: Always, startupProbe: {{tcpSocket: {{port: 1}}, periodSeconds: 2}}}}
containers: {CONTAINER}
"""
    )
    once, beside = made.inits
    assert not once.sidecar and once.body["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert beside.sidecar and beside.body["HostConfig"]["RestartPolicy"] == {"Name": "always"}
    assert beside.startup is not None and beside.startup.in_pause and beside.startup.period_s == 2
    assert made.pause["Healthcheck"] == {"Test": ["NONE"]}
    assert (
        "an init container has no probes"
        in wrong(
            pod_text(
                f"initContainers: [{{name: a, image: a, livenessProbe: {{exec: {{command: [x]}}}}}}]\ncontainers: {CONTAINER}"
            )
        )[0]
    )


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("command: [a, b], args: [c]", {"Entrypoint": ["a", "b"], "Cmd": ["c"]}),
        ("command: [], args: []", {"Entrypoint": None, "Cmd": None}),
        ("args: [c]", {"Cmd": ["c"]}),
        ("workingDir: /w, tty: true, stdin: true, stdinOnce: true",
         {"WorkingDir": "/w", "Tty": True, "OpenStdin": True, "StdinOnce": True}),
        ("env: [{name: A, value: x}, {name: B, value: $(A)$(NO)$$(A)}], args: [$(B), '$$$(A)']",
         {"Env": ["A=x", "B=x$(NO)$(A)"], "Cmd": ["x$(NO)$(A)", "$x"]}),
        ("env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}], args: ['http://$(IP)']",
         {"Env": [f"IP={POD_IP}"], "Cmd": [f"http://{POD_IP}"]}),
        ("env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}]", {"Env": ["A=web"]}),
        ("env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: password}}}]", {"Env": ["A=swordfish"]}),
        ("env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: none, optional: true}}}]", {"Env": []}),
        ("env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: none, optional: true}}}]", {"Env": []}),
        ("envFrom: [{secretRef: {name: keys}, prefix: K_}], env: [{name: K_user, value: you}]",
         {"Env": ["K_password=swordfish", "K_user=you"]}),
        ("securityContext: {runAsUser: 5, runAsGroup: 6}", {"User": "5:6"}),
        ("securityContext: {runAsUser: 5}", {"User": "5"}),
    ],
)  # fmt: skip
def test_a_container_says(fields: str, body: dict[str, Any]) -> None:
    made = container(fields, more=CONFIG).body
    assert {key: made.get(key) for key in body} == body


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ("resources: {limits: {memory: 128Mi, cpu: 1500m}, requests: {memory: 64Mi, cpu: 250m}}",
         {"Memory": 128 << 20, "NanoCpus": 1_500_000_000, "MemoryReservation": 64 << 20, "CpuShares": 256}),
        ("resources: {requests: {cpu: 1m}}", {"CpuShares": 2}),
        ("resources: {limits: {cpu: 2}}", {"NanoCpus": 2_000_000_000}),
        ("resources: {limits: {memory: 100m, cpu: 0.1n}}", {"Memory": 1, "NanoCpus": 10_000_000}),
        ("securityContext: {privileged: true}", {"Privileged": True}),
        ("securityContext: {readOnlyRootFilesystem: true, capabilities: {add: [NET_ADMIN], drop: [ALL]}}",
         {"ReadonlyRootfs": True, "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"]}),
        ("securityContext: {allowPrivilegeEscalation: false, seccompProfile: {type: Unconfined}}",
         {"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]}),
        ("securityContext: {seccompProfile: {type: RuntimeDefault}}", {"SecurityOpt": None}),
    ],
)  # fmt: skip
def test_limits_and_privileges(fields: str, host: dict[str, Any]) -> None:
    made = container(fields).body["HostConfig"]
    assert {key: made.get(key) for key in host} == host


def test_what_a_pod_says_of_security_goes_for_its_containers() -> None:
    spec = "securityContext: {runAsUser: 5, fsGroup: 7, supplementalGroups: [8], runAsNonRoot: true, sysctls: [{name: a.b, value: '1'}]}"
    made = pod(f"containers: [{{name: a, image: a}}, {{name: b, image: b, securityContext: {{runAsUser: 9}}}}]\n{spec}")
    assert [each.body["User"] for each in made.containers] == ["5", "9"]
    assert made.containers[0].body["HostConfig"]["GroupAdd"] == ["8", "7"]
    assert made.pause["HostConfig"]["Sysctls"] == {"a.b": "1"}
    assert not made.containers[0].non_root
    assert pod(f"containers: {CONTAINER}\nsecurityContext: {{runAsNonRoot: true}}").containers[0].non_root


@pytest.mark.parametrize(
    ("spec", "own", "inner"),
    [
        ("hostNetwork: true", {"NetworkMode": "host"}, {"NetworkMode": "container:web"}),
        ("hostPID: true", {}, {"PidMode": "host"}),
        ("hostIPC: true", {"IpcMode": "host"}, {"IpcMode": "host"}),
        ("shareProcessNamespace: true", {"Init": True}, {"PidMode": "container:web"}),
        ("hostAliases: [{ip: 10.1.1.1, hostnames: [a, b]}]", {"ExtraHosts": ["a:10.1.1.1", "b:10.1.1.1"]}, {}),
        ("dnsConfig: {nameservers: [1.1.1.1], searches: [x.y], options: [{name: ndots, value: '2'}, {name: rotate}]}",
         {"Dns": ["1.1.1.1"], "DnsSearch": ["x.y"], "DnsOptions": ["ndots:2", "rotate"]}, {}),
    ],
)  # fmt: skip
def test_namespaces_and_names(spec: str, own: dict[str, Any], inner: dict[str, Any]) -> None:
    made = pod(f"containers: {CONTAINER}\n{spec}")
    for body, expected in ((made.pause, own), (made.containers[0].body, inner)):
        assert {key: body["HostConfig"].get(key) for key in expected} == expected


def test_a_hostname_and_a_grace_period() -> None:
    made = pod(f"containers: {CONTAINER}\nhostname: other\nsubdomain: sub\nterminationGracePeriodSeconds: 5")
    assert made.pause["Hostname"] == "other" and made.containers[0].body["StopTimeout"] == 5
    assert made.pause["NetworkingConfig"]["EndpointsConfig"]["kube-app"]["Aliases"] == ["other.sub"]


def test_an_own_command_is_a_containers_health() -> None:
    body = container(
        "livenessProbe: {exec: {command: [test, -e, /x]}, periodSeconds: 3, timeoutSeconds: 2, failureThreshold: 4}"
    ).body
    assert body["Healthcheck"]["Test"] == ["CMD", "test", "-e", "/x"]
    assert (body["Healthcheck"]["Interval"], body["Healthcheck"]["Retries"]) == (3 * NS, 4)


def test_what_is_asked_by_network_is_the_pods_health() -> None:
    made = pod(
        """
containers:
- name: a
  image: a
  ports: [{name: http, containerPort: 8080}]
  readinessProbe: {httpGet: {path: "/a?b=c d", port: http, httpHeaders: [{name: X, value: "y z"}]}, initialDelaySeconds: 5}
- name: b
  image: b
  livenessProbe: {tcpSocket: {port: 9}, periodSeconds: 2}
  startupProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 30}
"""
    )
    check = made.pause["Healthcheck"]
    assert check["Test"] == [
        "CMD-SHELL",
        "timeout 1 wget -q -Y off -O /dev/null --header 'X: y z' 'http://127.0.0.1:8080/a?b=c d' && timeout 1 nc 127.0.0.1 9 -e true",
    ]
    assert (check["Interval"], check["StartPeriod"]) == (2 * NS, 35 * NS)
    assert all("Healthcheck" not in each.body for each in made.containers)


def test_a_liveness_probe_is_noted_to_restart_nothing() -> None:
    _, problems = read(pod_text("containers: [{name: a, image: a, livenessProbe: {exec: {command: [x]}}}]"))
    assert "the engine does not restart what is unhealthy" in problems.notes[0].text


@pytest.mark.parametrize(
    ("probe", "problem"),
    [("grpc: {port: 1}", "grpc is not supported"), ("httpGet: {port: 1, scheme: HTTPS}", "only HTTP is supported"),
     (f"httpGet: {{port: '{'1' * 5000}'}}", "there is no port 1"),
     ("httpGet: {port: none}", "there is no port none"), ("periodSeconds: 1", "exec, httpGet or tcpSocket is missing")],
)  # fmt: skip
def test_probes_that_cannot_be(probe: str, problem: str) -> None:
    text = pod_text(f"containers: [{{name: a, image: a, readinessProbe: {{{probe}}}}}]")
    assert [each for each in wrong(text) if problem in each]


def test_a_probes_command_is_expanded_by_what_the_manifest_says() -> None:
    env = "env: [{name: A, value: a}, {name: B, value: $(A)b}, {name: C, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"
    probe = "readinessProbe: {exec: {command: [sh, -c, '$(A) $(B) [$(C)] $(D) $$(A)']}}"
    made = container(f"{env}, {probe}").body
    assert made["Healthcheck"]["Test"] == ["CMD", "sh", "-c", "a $(A)b [] $(D) $(A)"]


def test_a_probes_command_that_is_too_long_is_refused() -> None:
    command = f"['{'$(A)' * 2000}']"
    inner = f"env: [{{name: A, value: {'a' * 100}}}], readinessProbe: {{exec: {{command: {command}}}}}"
    assert (
        "readinessProbe.exec.command is longer than"
        in wrong(pod_text(f"containers: [{{name: a, image: a, {inner}}}]"))[0]
    )


def test_what_can_be_asked_by_https_alone_is_not_asked_by_http() -> None:
    probe = "{httpGet: {port: 1, scheme: HTTPS, path: /x, httpHeaders: [{name: A, value: b}]}}"
    made, problems = read(pod_text(f"containers: [{{name: a, image: a, readinessProbe: {probe}}}]"))
    assert made.pods[0].pause["Healthcheck"] == {"Test": ["NONE"]}
    assert len(problems.unsupported) == 1


VOLUMES = """
- {name: shared, emptyDir: {}}
- {name: fast, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: config, configMap: {name: settings, defaultMode: 0400, items: [{key: COLOUR, path: a/colour, mode: 0444}, {key: raw, path: raw}]}}
- {name: secret, secret: {secretName: keys}}
- {name: data, persistentVolumeClaim: {claimName: data}}
- {name: host, hostPath: {path: /srv, type: DirectoryOrCreate}}
"""
CLAIM = (
    "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce]}\n---\n"
)


def with_volumes(mounts: str) -> Any:
    spec = f"containers: [{{name: main, image: busybox, volumeMounts: [{mounts}]}}]\nvolumes:{VOLUMES}"
    return plan(pod_text(spec) + CONFIG + CLAIM)


def test_volumes_are_those_of_the_pod_and_its_own_container_has_them_all() -> None:
    made = with_volumes("")
    (web,) = made.pods
    assert [each.name for each in web.volumes] == ["web_shared", "web_fast", "web_config", "web_secret"]
    assert web.volumes[1].options == {"type": "tmpfs", "device": "tmpfs", "o": "mode=0777,size=1048576"}
    assert [each.name for each in made.claims] == ["data"] and not made.wanted_claims
    targets = {each["Target"]: each for each in web.pause["HostConfig"]["Mounts"]}
    assert {*targets} == {f"/volumes/{each}" for each in ("shared", "fast", "config", "secret", "data", "host")}
    assert targets["/volumes/host"]["BindOptions"] == {"CreateMountpoint": True}
    assert not any(each.get("ReadOnly") for each in targets.values())
    assert [(each.path, each.kind) for each in web.host_paths] == [("/volumes/host", "Directory")]


def test_files_of_settings_have_their_modes() -> None:
    entries = {each.path: each for each in with_volumes("").pods[0].entries}
    assert entries["volumes/config/a/colour"] == Entry("volumes/config/a/colour", 0o444, 0, b"red")
    assert entries["volumes/config/raw"] == Entry("volumes/config/raw", 0o400, 0, b"\xff")
    assert entries["volumes/config/a"].data is None
    assert entries["volumes/secret/password"] == Entry("volumes/secret/password", 0o644, 0, b"swordfish")
    assert "volumes/config/COLOUR" not in entries
    assert entries["volumes/shared"].mode == 0o777
    assert entries["volumes/data"].of_new == "data"


def test_mounts_of_a_container() -> None:
    made = with_volumes(
        "{name: config, mountPath: /c}, {name: shared, mountPath: rel, readOnly: true}, {name: shared, mountPath: /s, subPath: a/b},"
        "{name: config, mountPath: /f, subPath: a/colour}, {name: host, mountPath: /h, subPath: x}"
    ).pods[0]
    mounts = {each["Target"]: each for each in made.containers[0].body["HostConfig"]["Mounts"]}
    assert mounts["/c"]["ReadOnly"] and mounts["/rel"]["ReadOnly"] and not mounts["/s"]["ReadOnly"]
    assert mounts["/s"]["VolumeOptions"] == {"NoCopy": True, "Subpath": "a/b"}
    assert mounts["/f"]["VolumeOptions"]["Subpath"] == "a/colour"
    assert mounts["/h"]["Source"] == "/srv/x"
    assert Entry("volumes/shared/a/b", 0o777, missing=True) in made.entries


@pytest.mark.parametrize(
    ("volume", "mount", "problem"),
    [
        ("configMap: {name: none}", "", "there is no ConfigMap none (--configmap FILE)"),
        ("configMap: {name: settings, items: [{key: none, path: x}]}", "", "ConfigMap settings has no key none"),
        ("configMap: {name: settings, items: [{key: raw, path: ../x}]}", "", "must be relative, without .."),
        ("emptyDir: {medium: HugePages}", "", "medium HugePages is not supported"),
        ("hostPath: {path: rel}", "", "must be absolute"),
        ("hostPath: {path: /x, type: FileOrCreate}", "", "type FileOrCreate is not supported"),
        ("emptyDir: {}", ", subPath: ../x", "subPath must be relative"),
        ("emptyDir: {}", ", subPathExpr: $(X)", "subPathExpr is not supported"),
        ("configMap: {name: settings}", ", subPath: none", "none is not in volume v"),
        ("emptyDir: {}", ", mountPropagation: Bidirectional", "mountPropagation is not supported"),
    ],
)  # fmt: skip
def test_volumes_that_cannot_be(volume: str, mount: str, problem: str) -> None:
    spec = f"containers: [{{name: a, image: a, volumeMounts: [{{name: v, mountPath: /v{mount}}}]}}]\nvolumes: [{{name: v, {volume}}}]"
    assert [each for each in wrong(pod_text(spec) + CONFIG) if problem in each], wrong(pod_text(spec) + CONFIG)


def test_optional_settings_may_be_missing_and_a_claim_of_others_is_wanted() -> None:
    made = plan(
        pod_text(
            f"containers: {CONTAINER}\nvolumes: [{{name: a, configMap: {{name: none, optional: true}}}},"
            " {name: b, persistentVolumeClaim: {claimName: other}}]"
        )
    )
    assert [*made.wanted_claims] == ["other"]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("kind: Secret\ndata: {a: '%'}", "Secret x: data.a is not base64 (plain text goes into stringData)"),
        ("kind: Secret\ndata: {a: secret}", "data.a is not base64"),
        ("kind: ConfigMap\nbinaryData: {a: '='}", "binaryData.a is not base64"),
        ("kind: ConfigMap\ndata: {a: 1}", "data.a must be a text: put it in quotes"),
        ("kind: ConfigMap\ndata: {../a: x}", "'../a' is no key"),
        (f"kind: ConfigMap\ndata: {{a: {'x' * ((1 << 20) + 1)}}}", "more than 1 MiB of data"),
    ],
)
def test_settings_that_cannot_be(config: str, problem: str) -> None:
    assert [each for each in wrong(f"apiVersion: v1\nmetadata: {{name: x}}\n{config}\n") if problem in each]


def test_variables_of_variables_end_somewhere() -> None:
    variables = [
        f"{{name: V{each}, value: '{f'$(V{each - 1})' * 10 if each else 'xxxxxxxxxx'}'}}" for each in range(20)
    ]
    text = pod_text(f"containers: [{{name: a, image: a, env: [{', '.join(variables)}], args: ['{'$(V4)' * 2}']}}]")
    problems = wrong(text)
    assert any("env[5].value is longer than 128 KiB" in each for each in problems)
    assert any("containers[0].args is longer than 128 KiB" in each for each in problems)


def test_what_no_program_can_be_given_is_refused() -> None:
    large = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: large}}\ndata: {{a: {'x' * 900_000}}}\n---\n"
    sources = ", ".join(f"{{configMapRef: {{name: large}}, prefix: p{each}}}" for each in range(3))
    text = pod_text(f"containers: [{{name: a, image: a, envFrom: [{sources}]}}]")
    assert any("more than 2 MiB of variables" in each for each in wrong(text + large))
    items = ", ".join(f"{{key: a, path: f{each}}}" for each in range(80))
    text = pod_text(f"containers: {CONTAINER}\nvolumes: [{{name: v, configMap: {{name: large, items: [{items}]}}}}]")
    assert any("more than 64 MiB of files" in each for each in wrong(text + large))
