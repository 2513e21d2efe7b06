"""What cannot be done is named: all of it, by file and line, before anything is started."""

from __future__ import annotations

import json
import re
from types import ModuleType
from typing import Any

import pytest
from cove.kube.play import objects
from cove.kube.play.problems import ManifestError, Place, Problem
from play_support import CONTAINER, plan, pod_text, read, wrong

POD = pod_text(f"containers: {CONTAINER}")
SERVICE = (
    "apiVersion: v1\nkind: Service\n"
    "spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: {0}}}]}}\nmetadata: {{name: s}}\n"
)


def test_fields_that_nobody_reads_are_named_with_their_lines() -> None:
    text = """apiVersion: v1
kind: Pod
metadata:
  name: web
  labls: {a: b}
spec:
  runtimeClassName: gvisor
  containers:
  - name: main
    image: busybox
    lifecycle: {preStop: {exec: {command: [x]}}}
    resources: {limits: {nvidia.com/gpu: 1}}
"""
    assert wrong(text) == [
        "app.yaml:5: Pod web: there is no metadata.labls: labels is meant?",
        "app.yaml:7: Pod web: spec.runtimeClassName is not supported",
        "app.yaml:11: Pod web, container main: spec.containers[0].lifecycle is not supported",
        "app.yaml:12: Pod web, container main: spec.containers[0].resources.limits.nvidia.com/gpu is not supported",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (pod_text("conatiners: []"), "app.yaml:5: Pod web: there is no spec.conatiners: containers is meant?"),
        (pod_text("containers: [{name: main, image: a, imagePulPolicy: Never}]"),
         "app.yaml:5: Pod web, container main: there is no spec.containers[0].imagePulPolicy: imagePullPolicy is meant?"),
        (pod_text("containers: [{name: main, image: a, ports: [{containerport: 80}]}]"), "containerPort is meant?"),
        (POD.replace("kind: Pod", "kind: pod"), "app.yaml:1: pod web: there is no pod of v1: Pod is meant?"),
        ("apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: x}", "there is no Deploymnet of apps/v1: Deployment is meant?"),
    ],
)  # fmt: skip
def test_what_is_mistyped_is_wrong_and_never_left_out(text: str, problem: str) -> None:
    _, problems = read(text)
    assert [each for each in map(str, problems.wrong) if problem in each], wrong(text)
    assert problems.unsupported == []
    with pytest.raises(ManifestError, match="is meant"):
        problems.check(ignore_unsupported=True)


def full(kind: str, types: ModuleType) -> Any:
    """A value of a type of Kubernetes' official client, with all fields that it has."""
    if found := re.fullmatch(r"list\[(.*)\]", kind):
        return [full(found[1], types)]
    if kind.startswith("dict"):
        return {"a": "b"}
    if not hasattr(types, kind):
        return {"int": 1, "bool": True}.get(kind, "x")
    model = getattr(types, kind)
    return {name: full(model.openapi_types[own], types) for own, name in model.attribute_map.items()}


@pytest.mark.parametrize("kind", [*objects.VERSIONS])
def test_no_field_of_kubernetes_is_taken_for_another_mistyped(kind: str) -> None:
    types = pytest.importorskip("kubernetes.client.models")
    text = json.dumps({**full(f"V1{kind}", types), "apiVersion": objects.VERSIONS[kind], "kind": kind})
    told = wrong(text)
    assert kind in ("Namespace", "ServiceAccount") or told
    assert [each for each in told if "is meant" in each] == []


def test_no_kind_of_kubernetes_is_taken_for_another_mistyped() -> None:
    types = pytest.importorskip("kubernetes.client.models")
    kinds = [name[2:] for name in dir(types) if re.fullmatch("V1[A-Z][A-Za-z]+", name)]
    own = [
        kind
        for kind in kinds
        if {"api_version", "kind", "metadata"} <= getattr(types, f"V1{kind}").attribute_map.keys()
    ]
    assert {*objects.VERSIONS} < {*own}
    for kind in own:
        for version in {*objects.VERSIONS.values()}:
            told = wrong(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}")
            assert [each for each in told if "is meant" in each] == []


def test_a_number_that_is_none_is_told_once() -> None:
    text = pod_text("containers: [{name: main, image: a, ports: [{containerPort: eighty}]}]") + SERVICE.format(80)
    told = wrong(text.replace("port: 80", "port: eighty"))
    assert [each for each in told if "ort must be a number" in each or "is missing" in each] == [
        "app.yaml:5: Pod web: spec.containers[0].ports[0].containerPort must be a number from 1 to 65535",
        "app.yaml:9: Service s: spec.ports[0].port must be a number from 1 to 65535",
    ]
    assert len(wrong(pod_text("containers: [{name: main, image: a, ports: [{}]}]"))) == 1


def test_a_compose_file_is_told_to_be_one() -> None:
    assert wrong("name: shop\nservices:\n  web: {image: nginx}\nvolumes: {}\n") == [
        "app.yaml:1: the document: this is a compose file: cove compose up runs it, cove kube generate makes manifests of it"
    ]


def test_what_means_nothing_on_one_engine_is_passed_over() -> None:
    plan(
        pod_text(
            f"""
containers: {CONTAINER}
nodeSelector: {{disk: ssd}}
tolerations: [{{operator: Exists}}]
affinity: {{nodeAffinity: {{}}}}
priorityClassName: high
enableServiceLinks: false
os: {{name: linux}}
serviceAccountName: default
restartPolicy: ~
"""
        )
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("apiVersion: v1\nkind: Gadget\nmetadata: {name: x}", "app.yaml:1: Gadget x: Gadget of v1 is not supported"),
        ("apiVersion: extensions/v1\nkind: Deployment\nmetadata: {name: x}", "of extensions/v1 is not supported (of apps/v1 it is)"),
        ("kind: Pod\nmetadata: {name: x}", "apiVersion is missing"),
        ("apiVersion: v1\nmetadata: {name: x}", "kind is missing"),
        ("apiVersion: v1\nkind: Pod\nspec: {}", "metadata is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}", "Pod x: spec is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: []", "spec must be an object"),
        ("[1]", "the document must be an object"),
        (POD + POD, "app.yaml:7: Pod web: is there twice"),
        (pod_text(f"containers: {CONTAINER}", name="Bad_Name"), "'Bad_Name' is no name for a pod"),
        (pod_text("containers: []"), "spec.containers is missing"),
        (pod_text("containers: [{name: main}]"), "spec.containers[0].image is missing"),
        (pod_text("containers: [{name: ../x, image: a}]"), "'../x' is no name"),
        (pod_text(r'containers: [{name: x, image: "a\e[2J"}]'), r"image: 'a\x1b[2J' is no name of an image"),
        (pod_text("containers: [{name: a, image: a}, {name: a, image: a}]"), "the name a is there twice"),
        (pod_text("containers: [{name: a, image: a, env: [{name: X, value: 1}]}]"), "env[0].value must be a text: put it in quotes"),
        (pod_text("containers: [{name: a, image: a, args: [1]}]"), "args[0] must be a text"),
        (pod_text("containers: [{name: a, image: a, resources: {limits: {memory: 1GB}}}]"), "'1GB' is no quantity"),
        (pod_text("containers: [{name: a, image: a, ports: [{containerPort: 70000}]}]"), "must be a number from 1 to 65535"),
        (pod_text("containers: [{name: a, image: a, imagePullPolicy: Sometimes}]"), "must be one of Always, IfNotPresent, Never"),
        (pod_text(f"containers: {CONTAINER}\nvolumes: [{{name: ../../etc, emptyDir: {{}}}}]"), "'../../etc' is no name"),
        (pod_text(f"containers: {CONTAINER}\nvolumes: [{{name: a, nfs: {{server: x}}}}]"), "spec.volumes[0].nfs is not supported"),
        (pod_text("containers: [{name: a, image: a, volumeMounts: [{name: none, mountPath: /x}]}]"), "there is no volume none"),
        (pod_text(f"containers: {CONTAINER}\nhostUsers: false"), "spec.hostUsers: false is not supported"),
        (pod_text(f"containers: {CONTAINER}\nos: {{name: windows}}"), "spec.os: only linux is supported"),
        (pod_text(f"containers: {CONTAINER}\ndnsPolicy: None"), "None needs dnsConfig.nameservers"),
        (pod_text(f"containers: {CONTAINER}\nsecurityContext: {{runAsGroup: 1}}"), "without runAsUser is not supported"),
        (pod_text(f"containers: {CONTAINER}\nsecurityContext: {{seccompProfile: {{type: Localhost}}}}"), "Localhost is not supported"),
        (pod_text(f"containers: {CONTAINER}\nsecurityContext: {{supplementalGroups: [1, '2']}}"), "supplementalGroups[1] must be a number"),
        (pod_text(f"containers: {CONTAINER}\nsecurityContext: {{supplementalGroups: [true]}}"), "supplementalGroups[0] must be a number"),
        (pod_text(f"containers: {CONTAINER}\nvolumes: [{{name: v, persistentVolumeClaim: {{claimName: a/../b}}}}]"),
         "claimName: 'a/../b' is no name of a volume"),
        (POD + SERVICE.format(0), "app.yaml:9: Service s: spec.ports[0].targetPort must be a number from 1 to 65535, or a name"),
        (POD + SERVICE.format(70000), "targetPort must be a number from 1 to 65535, or a name"),
    ],
)  # fmt: skip
def test_wrong_manifests(text: str, problem: str) -> None:
    assert [each for each in wrong(text) if problem in each], wrong(text)


@pytest.mark.parametrize(
    ("spec", "noted"),
    [("serviceAccountName: robot", True), ("automountServiceAccountToken: true", True),
     ("serviceAccountName: robot\nautomountServiceAccountToken: false", False), ("serviceAccountName: default", False)],
)  # fmt: skip
def test_an_account_at_an_api_server_that_is_not_there_is_noted(spec: str, noted: bool) -> None:
    account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot}\n---\n"
    made, problems = read(account + pod_text(f"containers: {CONTAINER}\n{spec}"))
    assert len(made.pods) == 1 and problems.unsupported == []
    assert ["there is no API server" in each.text for each in problems.notes] == [True] * noted


def test_two_pods_whose_containers_would_have_one_name() -> None:
    other = pod_text(f"containers: {CONTAINER}", name="web-main")
    assert "pod web has a container web-main, too" in wrong(POD + other)[0]


def test_all_of_it_is_one_error_that_says_how_to_go_on() -> None:
    _, problems = read(pod_text(f"containers: {CONTAINER}\nruntimeClassName: x\nhostUsers: false"))
    with pytest.raises(ManifestError) as raised:
        problems.check(ignore_unsupported=False)
    assert raised.value.message.count("app.yaml:") == 2
    assert "--ignore-unsupported" in raised.value.hint
    problems.check(ignore_unsupported=True)


def test_what_is_wrong_is_refused_in_any_case() -> None:
    _, problems = read(pod_text("containers: [{name: main}]"))
    with pytest.raises(ManifestError):
        problems.check(ignore_unsupported=True)


def test_a_list_is_what_is_in_it() -> None:
    item = "{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {containers: [{name: m, image: i}]}}"
    made = plan(f"apiVersion: v1\nkind: List\nitems: [{item % 'a'}, {item % 'b'}]")
    assert [each.name for each in made.pods] == ["a", "b"]


def test_configmap_files_hold_nothing_else() -> None:
    assert (
        "--configmap takes ConfigMaps and Secrets, not a Pod"
        in wrong(POD, configs=pod_text(f"containers: {CONTAINER}", "other"))[0]
    )


def test_a_manifest_says_nothing_to_the_terminal() -> None:
    text = 'apiVersion: v1\nkind: "Pod\\e]0;title\\a"\nmetadata: {name: "x\\r\\e[2K"}\n'
    made, problems = read(text)
    assert wrong(text)[0] == "app.yaml:1: Pod?]0;title? x??[2K: Pod?]0;title? of v1 is not supported"
    with pytest.raises(ManifestError) as raised:
        problems.check(ignore_unsupported=False)
    assert "\x1b" not in raised.value.message
    assert made.all_pods == []


def test_the_name_of_a_file_says_nothing_to_the_terminal() -> None:
    problem = Problem(Place("a\x1b[2J\nnothing is wrong.yaml", 3), "it\nis")
    assert str(problem) == "a?[2J?nothing is wrong.yaml:3: it?is"
