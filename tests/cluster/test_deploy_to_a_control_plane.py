"""`cove kube deploy` and `down` before Kubernetes' own API server and controllers. Only the node is pretended (`node`)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import node as nodes
import pytest
from cove.errors import CoveError
from cove.kube.deploy import record
from cove.kube.deploy.forward import Forward, Forwarder
from cove.kube.deploy.record import Entry
from cove.kube.generate import manifests
from cove.kube.generate.manifests import Options, Route
from kubernetes import client
from kubernetes.watch import Watch

Object = dict[str, Any]

DATA = {"type": "volume", "source": "data", "target": "/data"}
SHOP: Object = {
    "name": "shop",
    "services": {
        "web": {
            "image": "nginx",
            "ports": [{"target": 80, "published": "8080"}],
            "configs": [{"source": "c", "target": "/c"}],
            "secrets": [{"source": "s"}],
            "volumes": [DATA],
        },
        "migrate": {"image": "migrate", "restart": "no"},
    },
    "configs": {"c": {"content": "one"}},
    "secrets": {"s": {"content": "hidden"}},
    "volumes": {"data": None},
}
RICH: Object = {
    "name": "shop",
    "services": {
        "web": {
            "image": "nginx",
            "command": ["sh", "-c", "echo $$(date)"],
            "entrypoint": ["tini", "--"],
            "environment": {"N": "5", "E": "1e3", "EMPTY": ""},
            "ports": [
                {"target": 80, "published": "8080", "protocol": "tcp"},
                {"target": 53, "published": "53", "protocol": "udp"},
                {"target": 53, "published": "53", "protocol": "tcp"},
                {"target": 9000, "published": "9000", "host_ip": "127.0.0.1"},
            ],
            "expose": ["81"],
            "healthcheck": {"test": ["CMD", "true"], "interval": "10s", "timeout": "3s", "retries": 5, "start_period": "1m"},
            "deploy": {
                "replicas": 2,
                "resources": {"limits": {"cpus": 0.5, "memory": "268435456"}, "reservations": {"cpus": 0.25, "memory": "134217728"}},
            },
            "user": "1000:1000", "group_add": ["44"], "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "read_only": True,
            "security_opt": ["no-new-privileges:true", "seccomp=unconfined", "apparmor=unconfined"],
            "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "extra_hosts": {"db.example": ["10.1.2.3"]}, "dns": ["1.1.1.1"], "dns_search": ["example.com"], "dns_opt": ["ndots:2"],
            "hostname": "front", "working_dir": "/srv", "tty": True, "stdin_open": True, "stop_grace_period": "20s",
            "pull_policy": "always", "platform": "linux/amd64", "container_name": "front-door", "tmpfs": ["/run"], "shm_size": "134217728",
            "labels": {"com.example.team": "x", "traefik.http.routers.a.rule": "Host(`a`)"},
            "networks": {"default": {"aliases": ["www"]}},
            "configs": [{"source": "c", "target": "/c", "mode": "0440"}], "secrets": [{"source": "s"}],
            "volumes": [DATA, {**DATA, "target": "/part", "volume": {"subpath": "part"}}, {"type": "tmpfs", "target": "/tmp"}],
        },
        "agent": {"image": "agent", "network_mode": "host", "pid": "host", "ipc": "host", "privileged": True},
        "job": {"image": "job", "restart": "on-failure:3", "scale": 2},
    },
    "configs": {"c": {"content": "one"}},
    "secrets": {"s": {"content": "hidden"}},
    "volumes": {"data": None},
}  # fmt: skip


def changed(**web: Any) -> Object:
    """The shop with another web."""
    return {**SHOP, "services": {**SHOP["services"], "web": {**SHOP["services"]["web"], **web}}}


def only(**web: Any) -> Object:
    return {"name": "shop", "services": {"web": {"image": "nginx", **web}}}


def versions(place: Any, applied: list[Object]) -> dict[str, Object]:
    """What was applied as it is now, but for what controllers say of it."""
    found = [place.get(one["kind"], one["metadata"]["name"]) for one in applied]
    return {
        str(record.entry(one)): {**one, "metadata": one["metadata"].get("generation"), "status": None} for one in found
    }


@pytest.mark.usefixtures("controllers")
def test_an_application_comes_to_run_and_is_removed_but_for_its_volumes(place: Any) -> None:
    core = client.CoreV1Api(place.api)
    core.create_namespaced_config_map(place.namespace, {"metadata": {"name": "others"}})
    copied = {"metadata": {"name": "copied", "labels": manifests.labels("shop")}}
    core.create_namespaced_config_map(place.namespace, copied)
    applied = place.deploy(SHOP)
    assert place.roll_out(applied) == []
    assert {"Deployment web runs", "Job migrate has ended well"} <= set(place.said)
    assert all(record.is_ours(place.get(one["kind"], one["metadata"]["name"]), "shop") for one in applied)
    removed, kept = place.down()
    assert {one.kind for one in removed} == {"ConfigMap", "Secret", "Service", "Job", "Deployment"}
    assert kept == [Entry("PersistentVolumeClaim", "data")]
    assert core.list_namespaced_pod(place.namespace).items == []
    assert place.down(volumes=True) == ([Entry("PersistentVolumeClaim", "data")], [])
    left = {one.metadata.name for one in core.list_namespaced_config_map(place.namespace).items}
    assert left - {"kube-root-ca.crt"} == {"others", "copied"}
    with pytest.raises(CoveError, match="there is no application shop"):
        place.down()


@pytest.mark.usefixtures("controllers")
def test_the_same_application_again_changes_nothing(place: Any) -> None:
    applied = place.deploy(SHOP)
    place.roll_out(applied)
    before = versions(place, applied)
    again = place.deploy(SHOP)
    assert versions(place, again) == before
    assert not any("made anew" in text for text in place.said)
    assert place.roll_out(again) == []


@pytest.mark.usefixtures("controllers")
def test_another_version_takes_the_place_of_the_first(place: Any) -> None:
    place.roll_out(place.deploy(only(deploy={"replicas": 3})))
    applied = place.deploy(only(image="nginx:2", deploy={"replicas": 3}))
    assert place.roll_out(applied) == []
    pods = client.CoreV1Api(place.api).list_namespaced_pod(place.namespace).items
    assert [one.spec.containers[0].image for one in pods if not one.metadata.deletion_timestamp] == ["nginx:2"] * 3


def test_the_server_takes_every_field(place: Any) -> None:
    options = Options(
        service_type="LoadBalancer", storage_class="fast", routes=(Route("a.example", "web", 80),), ingress_class="c"
    )
    applied = place.deploy(RICH, options)
    names = {str(record.entry(one)) for one in applied}
    assert {"Ingress shop", "Service web", "Service front-door", "Service www", "Deployment agent", "Job job"} <= names
    before = versions(place, applied)
    assert versions(place, place.deploy(RICH, options)) == before


def test_what_was_made_is_what_was_meant(place: Any) -> None:
    """The server drops what it does not know, and adds what it thinks best."""
    made = manifests.objects(_application(RICH), Options())
    place.deploy(RICH)
    for one in made:
        _contains(place.get(one["kind"], one["metadata"]["name"]), one, str(record.entry(one)))


def _application(config: Object) -> Any:
    from cove.kube.generate import compose
    from cove.kube.generate.binds import Binds

    return compose.application(config, "", Binds("refuse"))


def _contains(found: Any, wanted: Any, where: str) -> None:
    if isinstance(wanted, dict):
        assert isinstance(found, dict), where
        for key, value in wanted.items():
            if value not in ({}, [], "", False):  # empty ones are left out
                assert key in found, f"{where}.{key}"
                _contains(found[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            _contains(one, other, f"{where}[{index}]")
    else:
        assert found == wanted, where


def test_nothing_is_done_when_something_of_others_has_the_name(place: Any) -> None:
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 1}]}}
    client.CoreV1Api(place.api).create_namespaced_service(place.namespace, service)
    with pytest.raises(CoveError, match="not of the application shop: Service web"):
        place.deploy(SHOP)
    assert not place.has("ConfigMap", "cove-shop")
    assert not place.has("Deployment", "web")


def test_what_somebody_else_has_set_is_theirs(place: Any) -> None:
    place.deploy(SHOP)
    scale = {"spec": {"replicas": 5}}
    client.AppsV1Api(place.api).patch_namespaced_deployment_scale(
        "web", place.namespace, scale, field_manager="kubectl-scale"
    )
    with pytest.raises(CoveError) as caught:
        place.deploy(changed(image="nginx:2"))
    assert 'conflict with "kubectl-scale"' in caught.value.message
    assert ".spec.replicas" in caught.value.message
    assert place.get("Deployment", "web")["spec"]["replicas"] == 5


def test_what_the_server_refuses_is_told_in_its_words(place: Any) -> None:
    with pytest.raises(CoveError, match=r"Deployment web: .*mountPath"):
        place.deploy(only(tmpfs=["/a:b:c", "/a"]))


def test_what_is_not_of_the_application_any_more_goes_but_for_volumes(place: Any) -> None:
    place.deploy(SHOP)
    place.deploy(only())
    assert not place.has("ConfigMap", "shop-config-c")
    assert not place.has("Job", "migrate")
    assert place.has("PersistentVolumeClaim", "data")


@pytest.mark.usefixtures("controllers")
def test_jobs_that_are_others_or_have_failed_are_made_anew(place: Any) -> None:
    place.roll_out(place.deploy(SHOP))
    uids = [place.get("Job", "migrate")["metadata"]["uid"]]
    config = {**SHOP, "services": {"migrate": {"image": "migrate:2", "restart": "no"}}}
    place.node.behaviour["migrate"] = nodes.ends(3)
    place.node.logs["migrate"] = "no such table\n"
    with pytest.raises(CoveError, match="Job migrate has failed") as caught:
        place.roll_out(place.deploy(config))
    assert "  no such table" in caught.value.message
    uids.append(place.get("Job", "migrate")["metadata"]["uid"])
    place.node.behaviour.clear()
    assert place.roll_out(place.deploy(config)) == []
    uids.append(place.get("Job", "migrate")["metadata"]["uid"])
    assert len(set(uids)) == 3


@pytest.mark.usefixtures("controllers")
def test_services_get_their_first_port_and_lose_their_last(place: Any) -> None:
    for more, headless in (({}, True), ({"expose": ["80"]}, False), ({"expose": ["80", "81"]}, False), ({}, True)):
        place.deploy(only(**more))
        assert (place.get("Service", "web")["spec"]["clusterIP"] == "None") is headless


def test_services_change_their_type(place: Any) -> None:
    for kind in ("ClusterIP", "NodePort", "LoadBalancer", "ClusterIP"):
        place.deploy(only(ports=[{"target": 80, "published": "8080"}]), Options(service_type=kind))
        spec = place.get("Service", "web")["spec"]
        assert (spec["type"], all("nodePort" in one for one in spec["ports"])) == (kind, kind != "ClusterIP")


def test_a_deployment_can_get_its_first_volume_and_lose_it_again(place: Any) -> None:
    for volumes, strategy in (([], "RollingUpdate"), ([DATA], "Recreate"), ([], "RollingUpdate")):
        place.deploy({**only(volumes=volumes), "volumes": {"data": None}})
        assert place.get("Deployment", "web")["spec"]["strategy"]["type"] == strategy


def test_fields_that_are_left_out_go(place: Any) -> None:
    place.deploy(RICH)
    place.deploy(only())
    pod = place.get("Deployment", "web")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    gone = {
        "env",
        "command",
        "args",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "volumeMounts",
        "ports",
        "workingDir",
        "tty",
    }
    assert not gone & container.keys()
    assert not {"volumes", "hostAliases", "dnsConfig", "hostname", "nodeSelector"} & pod.keys()


@pytest.mark.usefixtures("controllers")
def test_an_image_that_cannot_be_had_is_told_at_once(place: Any) -> None:
    place.node.behaviour["web"] = nodes.waits("ImagePullBackOff", "Back-off pulling image")
    with pytest.raises(CoveError, match="ImagePullBackOff: Back-off pulling image"):
        place.roll_out(place.deploy(only()))


@pytest.mark.usefixtures("controllers")
def test_pods_that_a_cluster_does_not_take_are_told(place: Any) -> None:
    core = client.CoreV1Api(place.api)
    core.create_namespaced_resource_quota(
        place.namespace, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    )
    watch = Watch()
    for event in watch.stream(core.list_namespaced_resource_quota, place.namespace, timeout_seconds=60):
        if event["object"].status.hard:  # it counts
            watch.stop()
    with pytest.raises(CoveError, match="exceeded quota"):
        place.roll_out(place.deploy(only()), limit_s=20)
    with pytest.raises(CoveError, match=r"Job web: FailedCreate: .*exceeded quota"):
        place.roll_out(place.deploy(only(restart="no")), limit_s=20)


@pytest.mark.usefixtures("controllers")
def test_a_namespace_that_was_made_goes_with_the_application(new: Any) -> None:
    new.roll_out(new.deploy(SHOP))
    assert f"Namespace {new.namespace} created" in new.said
    assert new.down()[1] == [Entry("PersistentVolumeClaim", "data")]
    assert new.down(volumes=True)[0][-1] == Entry("Namespace", new.namespace)
    assert new.cluster().get("Namespace", new.namespace) is None


@pytest.mark.usefixtures("controllers")
def test_a_namespace_that_was_made_stays_for_what_others_have_there(new: Any) -> None:
    new.deploy(only())
    client.CoreV1Api(new.api).create_namespaced_config_map(new.namespace, {"metadata": {"name": "others"}})
    new.down()
    assert f"Namespace {new.namespace} stays: it has configmaps/others, which Cove has not made" in new.said
    assert new.has("ConfigMap", "others")


@pytest.mark.usefixtures("controllers")
def test_connections_to_localhost_come_to_the_pod_through_the_api_server(place: Any) -> None:
    place.roll_out(place.deploy(only(ports=[{"target": 80, "published": "0"}])))
    with echoing() as port:
        place.node.targets[80] = port
        forwarder = Forwarder(place.cluster(), "shop", [Forward("web", 80, 0)], place.said.append)
        try:
            for text in (b"hello", b"x" * 300_000):
                with socket.create_connection(("127.0.0.1", forwarder.places[0].local), timeout=60) as one:
                    threading.Thread(target=one.sendall, args=(text,), daemon=True).start()
                    answer = b""
                    while len(answer) < len(text) and (piece := one.recv(65536)):
                        answer += piece
                    assert answer == text
        finally:
            forwarder.close()


@contextmanager
def echoing() -> Iterator[int]:
    """A server that answers with what it got."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(one: socket.socket) -> None:
            with one:
                while data := one.recv(65536):
                    one.sendall(data)

        def accept() -> None:
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(one,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
