"""Deployments, Jobs and Services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from cove.kube.play.problems import ManifestError
from play_support import plan, pod_text, read, wrong


def deployment(replicas: int = 1, container: str = "", name: str = "web", selector: str = "{app: web}") -> str:
    return f"""apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {selector}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers: [{{name: main, image: busybox{container}}}]
---
"""


def job(spec: str = "", pod: str = "restartPolicy: Never") -> str:
    return f"""apiVersion: batch/v1
kind: Job
metadata: {{name: once}}
spec:
  template: {{spec: {{containers: [{{name: main, image: busybox}}], {pod}}}}}
  {spec}
---
"""


def service(ports: str, more: str = "", name: str = "front", selector: str = "{app: web}") -> str:
    return f"""apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {selector}
  ports: {ports}
  {more}
---
"""


def aliases(pod: Any) -> list[str]:
    found: list[str] = pod.pause["NetworkingConfig"]["EndpointsConfig"]["kube-app"]["Aliases"]
    return found


def test_replicas_are_pods_that_restart() -> None:
    made = plan(deployment(3))
    assert [each.name for each in made.pods] == ["web-1", "web-2", "web-3"]
    assert made.pods[0].containers[0].body["HostConfig"]["RestartPolicy"] == {"Name": "always"}
    assert made.pods[0].pause["Labels"]["io.cove.kube.object"] == "default/Deployment/web"
    assert plan(deployment(0)).pods == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (deployment(2, ", ports: [{containerPort: 1, hostPort: 80}]"), "port 80 of this computer cannot be both pod web-1's"),
        (deployment(1, ", ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 80}]"),
         "port 80 of this computer cannot lead to both 1 and 2 of pod web-1"),
        (deployment(1, selector="{app: other}"), "spec.selector does not choose the pods"),
        (deployment(1, selector="{}"), "spec.selector is empty"),
        (deployment(1000), "more than 200 pods"),
        (deployment() + job().replace("once", "web"), "Job/web: Deployment/web has a pod web-1, too: give one another name"),
        (deployment() + deployment().replace("{name: web}", "{name: web, namespace: b}"), "Deployment/web has a pod web-1, too"),
        (job(pod="restartPolicy: Always"), "must be one of Never, OnFailure"),
        (job(pod="tty: true"), "must be Never or OnFailure"),
        (job("completionMode: Indexed"), "Indexed is not supported"),
        (job("activeDeadlineSeconds: 5"), "spec.activeDeadlineSeconds is not supported"),
        (service("[{port: 80}]"), "no pod of these manifests has its labels"),
        (deployment() + service("[{port: 80}]", "type: ExternalName"), "spec.type ExternalName is not supported"),
        (deployment() + service("[{port: 80, targetPort: none}]"), "pod web-1 has no port named none"),
        (deployment() + service("[{port: 53, targetPort: 5353, protocol: UDP}]"), "port 53 leads to 5353, which is not supported by UDP"),
        (deployment(1, ", ports: [{containerPort: 80}]") + service("[{port: 80, targetPort: 81}]"), "has another use for 80"),
        (deployment() + service("[{port: 1, targetPort: 2}]") + service("[{port: 1, targetPort: 3}]", name="b"), "another use for 1"),
        (deployment() + service("[{port: 80}]", "sessionAffinity: ClientIP"), "sessionAffinity is not supported"),
        (deployment() + service("[{port: 80}]", "clusterIP: 10.0.0.1"), "spec.clusterIP"),
        (deployment() + service("[{port: 80}]", "externalIPs: [1.2.3.4]"), "spec.externalIPs is not supported"),
        (deployment() + service("[{port: 80}]", selector="{}"), "without spec.selector"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(text: str, problem: str) -> None:
    assert [each for each in wrong(text) if problem in each], wrong(text)


def test_each_problem_of_a_template_is_named_once() -> None:
    assert len(wrong(deployment(3, ", lifecycle: {}, image2: x"))) == 2


def test_a_job_counts_and_restarts_by_itself() -> None:
    made = plan(job("completions: 3\n  parallelism: 2\n  backoffLimit: 1", "restartPolicy: OnFailure")).jobs[0]
    assert [each.name for each in made.pods] == ["once-1", "once-2", "once-3"]
    assert (made.parallelism, made.backoff_limit, made.pods[0].restart) == (2, 1, "OnFailure")
    assert made.pods[0].containers[0].body["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert len(plan(job("parallelism: 2")).jobs[0].pods) == 2


def test_a_service_is_a_name_of_the_pods_that_it_chooses() -> None:
    made = plan(deployment(2) + deployment(1, name="other", selector="{app: other}") + service("[{port: 80}]"))
    names = ["front", "front.default", "front.default.svc", "front.default.svc.cluster.local"]
    assert [aliases(each) for each in made.pods] == [names, names, []]
    assert made.pods[0].pause["Entrypoint"] == ["sh", "-c", "trap 'exit 0' TERM\nsleep infinity & wait"]


def test_an_empty_namespace_is_the_default_one() -> None:
    made = plan(deployment().replace("{name: web}", '{name: web, namespace: ""}') + service("[{port: 80}]"))
    assert aliases(made.pods[0])[:2] == ["front", "front.default"]


def test_another_port_is_led_to_its_target_in_the_pod() -> None:
    made = plan(
        deployment(1, ", ports: [{name: http, containerPort: 8080}]") + service("[{port: 80, targetPort: http}]")
    )
    assert made.pods[0].pause["Entrypoint"][2] == (
        "trap 'exit 0' TERM\nnc -ll -p 80 -e nc 127.0.0.1 8080 &\nsleep infinity & wait"
    )
    headless = plan(deployment() + service("[{port: 80, targetPort: 8080}]", "clusterIP: None"))
    assert "nc" not in headless.pods[0].pause["Entrypoint"][2]


@pytest.mark.parametrize(
    ("text", "bindings"),
    [
        (service("[{port: 80, targetPort: 8080, nodePort: 30080}]", "type: NodePort"), {"8080/tcp": [{"HostIp": "", "HostPort": "30080"}]}),
        (service("[{port: 80, targetPort: 8080}]", "type: NodePort"), {"8080/tcp": [{"HostIp": "", "HostPort": ""}]}),
        (service("[{port: 80, targetPort: 8080}]", "type: LoadBalancer"), {"8080/tcp": [{"HostIp": "", "HostPort": "80"}]}),
        (service("[{port: 80, targetPort: 8080}]"), {}),
    ],
)  # fmt: skip
def test_services_publish_on_localhost(text: str, bindings: dict[str, Any]) -> None:
    made, problems = read(deployment(2) + text)
    assert made.pods[0].pause["HostConfig"]["PortBindings"] == bindings
    assert made.pods[1].pause["HostConfig"]["PortBindings"] == {}
    assert [each.text for each in problems.notes] == (
        ["Service front: on localhost it leads to pod web-1 alone, not to web-2"] if bindings else []
    )


PORTS = pod_text(
    "containers: [{name: a, image: a, ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.2}, {containerPort: 53, protocol: UDP}]}]"
)


def test_host_ports_and_those_of_the_command_line() -> None:
    def bindings(*publish: str) -> Any:
        return plan(PORTS, publish=publish).pods[0].pause["HostConfig"]["PortBindings"]

    assert bindings() == {"80/tcp": [{"HostIp": "127.0.0.2", "HostPort": "8080"}]}
    assert bindings("81:80") == {"80/tcp": [{"HostIp": "", "HostPort": "81"}]}
    assert bindings("[::1]:5353:53/udp")["53/udp"] == [{"HostIp": "::1", "HostPort": "5353"}]
    assert bindings("7")["7/tcp"] == [{"HostIp": "", "HostPort": ""}]


@pytest.mark.parametrize(
    "text", ["x", "80:", "1:2:3:4", "0", "99999:1", "1:2/sctp", "9" * 5000, "9" * 5000 + ":80", "\u0668\u0660"]
)
def test_ports_that_cannot_be_published(text: str) -> None:
    with pytest.raises(ManifestError, match="--publish"):
        plan(PORTS, publish=[text])
    with pytest.raises(ManifestError, match="2 pods could have port 9"):
        plan(deployment(2), publish=["9:9"])


def on(*addresses: str) -> str:
    """A pod with port 8080 of each of these addresses, which leads to 80, 81, ..."""
    ports = (
        f"{{containerPort: {80 + number}, hostPort: 8080, hostIP: '{address}'}}"
        for number, address in enumerate(addresses)
    )
    return pod_text(f"containers: [{{name: a, image: a, ports: [{', '.join(ports)}]}}]")


def test_a_port_is_another_one_on_each_address() -> None:
    bindings = plan(on("127.0.0.1", "127.0.0.2")).pods[0].pause["HostConfig"]["PortBindings"]
    assert bindings == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "127.0.0.2", "HostPort": "8080"}],
    }
    bindings = plan(PORTS, publish=["127.0.0.1:81:80", "127.0.0.2:81:53"]).pods[0].pause["HostConfig"]["PortBindings"]
    assert bindings["53/tcp"] == [{"HostIp": "127.0.0.2", "HostPort": "81"}]


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", ""),
        ("", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "::"),
        ("127.0.0.1", "127.0.0.2", ""),
    ],
)
def test_a_port_of_every_address_is_that_of_each(addresses: Sequence[str]) -> None:
    last = 79 + len(addresses)
    assert wrong(on(*addresses)) == [
        f"app.yaml:5: Pod/web: port 8080 of this computer cannot lead to both 80 and {last} of pod web"
    ]


def test_many_pods_are_too_many() -> None:
    problems = wrong("".join(deployment(150, name=f"web{each}") for each in range(4)).replace("{app: web}", "{}"))
    assert any("more than 200 pods are not supported" in each for each in problems)


def test_who_goes_on_without_what_cannot_be_has_a_port_once() -> None:
    made, _ = read(deployment(2, ", ports: [{containerPort: 1, hostPort: 80}]"))
    assert [[each.host for each in pod.published] for pod in made.pods] == [[80], []]
