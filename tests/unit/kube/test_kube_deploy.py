"""An application in a cluster, by the official client before a model of an API server (`model_cluster`)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.errors import CoveError
from cove.kube.deploy import applying, down, record
from cove.kube.deploy.cluster import Cluster, connect
from cove.kube.deploy.record import Entry
from cove.kube.deploy.rollout import Rollout
from cove.kube.generate import compose, manifests
from cove.kube.generate.binds import Binds
from cove.kube.generate.manifests import Options
from model_cluster import TOKEN, Model, pod_status, serving

Object = dict[str, Any]

LIMIT_S = 60.0
"""What nothing here comes near, however slow the computer is."""
SHOP: Object = {
    "name": "shop",
    "services": {
        "web": {
            "image": "nginx",
            "ports": [{"target": 80, "published": "8080"}],
            "configs": [{"source": "c", "target": "/c"}],
            "volumes": [{"type": "volume", "source": "data", "target": "/data"}],
        },
        "migrate": {"image": "migrate", "restart": "no"},
    },
    "configs": {"c": {"content": "one"}},
    "volumes": {"data": None},
}


class Place:
    def __init__(self, model: Model, kubeconfig: Path) -> None:
        self.model = model
        self.kubeconfig = kubeconfig
        self.said: list[str] = []

    def cluster(self, namespace: str = "", context: str = "") -> Cluster:
        return connect(str(self.kubeconfig), context, namespace)

    def deploy(self, config: Object = SHOP, namespace: str = "") -> list[Object]:
        binds = Binds("refuse")
        made = compose.application(config, "", binds)
        objects = manifests.objects(made, Options())
        return applying.apply(self.cluster(namespace), made.name, objects, self.said.append, LIMIT_S)

    def roll_out(self, applied: list[Object], limit_s: float = LIMIT_S) -> list[str]:
        return Rollout(self.cluster(), "shop", applied, self.said.append).wait(limit_s)

    def down(self, namespace: str = "", *, volumes: bool = False) -> tuple[list[Entry], list[Entry]]:
        return down.down(self.cluster(namespace), "shop", volumes=volumes, report=self.said.append, limit_s=LIMIT_S)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with serving(tmp_path) as (model, kubeconfig):
        yield Place(model, kubeconfig)


def changed(**web: Any) -> Object:
    """The shop with another web."""
    config: Object = json.loads(json.dumps(SHOP))
    config["services"]["web"] |= web
    return config


def test_what_is_applied_is_there_and_recorded(place: Place) -> None:
    applied = place.deploy()
    found = [record.entry(one) for one in applied]
    assert found == [
        ("ConfigMap", "shop-config-c"),
        ("PersistentVolumeClaim", "data"),
        ("Service", "web"),
        ("Job", "migrate"),
        ("Deployment", "web"),
    ]
    assert all(place.model.has(*one) for one in found)
    assert record.read(place.cluster(), "shop") == record.Record(tuple(found), made_namespace=False)
    assert all(record.is_ours(place.model.get(*one), "shop") for one in found)


def test_the_record_is_there_before_what_it_lists(place: Place) -> None:
    place.deploy()
    paths = [path.partition("?")[0].rpartition("/")[2] for method, path in place.model.requests if method == "PATCH"]
    assert paths[0] == "cove-shop"
    assert paths[-1] == "cove-shop"


def test_the_same_application_again_changes_nothing(place: Place) -> None:
    place.deploy()
    before = place.model.version
    place.deploy()
    assert place.model.version == before


def test_what_is_not_of_the_application_any_more_goes_but_for_volumes(place: Place) -> None:
    place.deploy()
    place.deploy({"name": "shop", "services": {"web": {"image": "nginx"}}})
    assert not place.model.has("ConfigMap", "shop-config-c")
    assert not place.model.has("Job", "migrate")
    assert place.model.has("PersistentVolumeClaim", "data")
    assert any(
        "PersistentVolumeClaim data is not of the application any more, and stays" in text for text in place.said
    )
    assert Entry("PersistentVolumeClaim", "data") in place.down(volumes=True)[0]


def test_nothing_is_done_when_something_of_others_has_the_name(place: Place) -> None:
    place.model.create({"kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": []}})
    with pytest.raises(CoveError, match="not of the application shop: Service web"):
        place.deploy()
    assert place.model.of("Deployment") == []
    assert record.read(place.cluster(), "shop") is None


def test_another_application_of_coves_is_others_too(place: Place) -> None:
    place.deploy()
    with pytest.raises(CoveError, match="Deployment web"):
        place.deploy({**SHOP, "name": "other"})


def test_what_somebody_else_has_set_is_theirs(place: Place) -> None:
    place.deploy()
    place.model.take_over("Deployment", "web", "kubectl-scale", ("spec", "replicas"), 5)
    with pytest.raises(CoveError) as caught:
        place.deploy(changed(image="nginx:2"))
    assert 'conflict with "kubectl-scale": .spec.replicas' in caught.value.message
    assert place.model.get("Deployment", "web")["spec"]["replicas"] == 5


def test_a_job_that_is_another_one_is_made_anew(place: Place) -> None:
    place.deploy()
    before = place.model.get("Job", "migrate")["metadata"]["uid"]
    place.deploy()
    assert place.model.get("Job", "migrate")["metadata"]["uid"] == before
    config = changed()
    config["services"]["migrate"]["image"] = "migrate:2"
    place.deploy(config)
    assert place.model.get("Job", "migrate")["metadata"]["uid"] != before
    assert "Job migrate is made anew" in place.said


def test_a_job_that_has_failed_is_made_anew(place: Place) -> None:
    place.deploy()
    before = place.model.get("Job", "migrate")["metadata"]["uid"]
    failed = {"conditions": [{"type": "Failed", "status": "True", "message": "the backoff limit"}]}
    place.model.change("Job", "migrate", lambda made: made.update(status=failed))
    applied = place.deploy()
    assert place.model.get("Job", "migrate")["metadata"]["uid"] != before
    assert place.roll_out(applied) == []


def test_a_job_that_is_to_end_more_often_is_made_anew(place: Place) -> None:
    place.deploy()
    before = place.model.get("Job", "migrate")["metadata"]["uid"]
    config = changed()
    config["services"]["migrate"]["scale"] = 2
    place.deploy(config)
    found = place.model.get("Job", "migrate")
    assert (found["spec"]["completions"], found["metadata"]["uid"] != before) == (2, True)


def test_a_service_that_gets_its_first_port_is_made_anew(place: Place) -> None:
    place.deploy({"name": "shop", "services": {"web": {"image": "nginx"}}})
    assert place.model.get("Service", "web")["spec"]["clusterIP"] == "None"
    place.deploy({"name": "shop", "services": {"web": {"image": "nginx", "expose": ["80"]}}})
    assert place.model.get("Service", "web")["spec"]["clusterIP"] == "10.0.0.7"
    before = place.model.get("Service", "web")["metadata"]["uid"]
    place.deploy({"name": "shop", "services": {"web": {"image": "nginx", "expose": ["80", "81"]}}})
    assert place.model.get("Service", "web")["metadata"]["uid"] == before


def test_a_deployment_can_get_its_first_volume_and_lose_it_again(place: Place) -> None:
    with_volume, without = changed(), changed(volumes=[])
    for config, strategy in ((without, "RollingUpdate"), (with_volume, "Recreate"), (without, "RollingUpdate")):
        place.deploy(config)
        assert place.model.get("Deployment", "web")["spec"]["strategy"]["type"] == strategy


def test_a_rollout_that_succeeds(place: Place) -> None:
    assert place.roll_out(place.deploy()) == []
    assert {"Deployment web runs", "Job migrate has ended well"} <= set(place.said)


class Later:
    """In place of controllers: nothing runs until the test says so."""

    def __init__(self, model: Model) -> None:
        self.model = model
        model.run = lambda _, owner: None

    def when_watched(self, act: Callable[[], None]) -> None:
        """`act` once the client watches Pods."""
        watched = threading.Event()
        pods = self.model.watch

        def watch(plural: str, namespace: str, query: dict[str, str]) -> Iterator[Object]:
            if plural == "pods":
                watched.set()
            return pods(plural, namespace, query)

        self.model.watch = watch  # type: ignore[method-assign]

        def wait() -> None:
            assert watched.wait(LIMIT_S)
            act()

        threading.Thread(target=wait, daemon=True).start()


def only(name: str) -> Object:
    return {**SHOP, "services": {name: SHOP["services"][name]}}


def test_what_comes_to_run_later_is_told_by_the_watch(place: Place) -> None:
    later = Later(place.model)
    applied = place.deploy(only("web"))

    def run() -> None:
        deployment = place.model.get("Deployment", "web")
        (pod,) = place.model.pods_of(deployment, pod_status(False, "Pending"))
        place.model.change("Pod", pod["metadata"]["name"], lambda made: made.update(status=pod_status()))
        place.model.settle(deployment)

    later.when_watched(run)
    assert place.roll_out(applied) == []
    assert place.said[-1] == "Deployment web runs"
    lists = [path for method, path in place.model.requests if method == "GET" and path.split("?")[0].endswith("/pods")]
    assert sum("watch=true" not in path for path in lists) == 1  # watched, and not asked for again and again


def test_a_watch_whose_past_the_server_has_forgotten_begins_anew(place: Place) -> None:
    later = Later(place.model)
    applied = place.deploy(only("web"))
    watch = place.model.watch
    first = threading.Event()

    def forgetting(plural: str, namespace: str, query: dict[str, str]) -> Iterator[Object]:
        if plural == "deployments" and not first.is_set():
            first.set()
            place.model.change("Deployment", "web", lambda made: None)
            place.model.compact()
            place.model.settle(place.model.get("Deployment", "web"))
        return watch(plural, namespace, query)

    del later
    place.model.watch = forgetting  # type: ignore[method-assign]
    assert place.roll_out(applied) == []


def test_a_watch_that_breaks_off_begins_anew(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("web"))
    watch = place.model.watch
    broken: list[str] = []

    def breaking(plural: str, namespace: str, query: dict[str, str]) -> Iterator[Object]:
        if plural == "deployments" and not broken:
            broken.append(plural)
            place.model.settle(place.model.get("Deployment", "web"))
            raise ConnectionResetError
        yield from watch(plural, namespace, query)

    place.model.watch = breaking  # type: ignore[method-assign]
    assert place.roll_out(applied) == []
    assert broken


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
            "ImagePullBackOff: Back-off",
        ),
        ({"waiting": {"reason": "InvalidImageName"}}, "InvalidImageName"),
    ],
)
def test_an_image_that_cannot_be_had_is_told_at_once(place: Place, status: Object, reason: str) -> None:
    Later(place.model)
    applied = place.deploy(only("web"))
    place.model.pods_of(place.model.get("Deployment", "web"), pod_status(False, "Pending", state=status))
    with pytest.raises(CoveError, match=reason) as caught:
        place.roll_out(applied)
    assert "web-1 does not come to run" in caught.value.message


def crashing(count: int) -> Object:
    return pod_status(
        False, restartCount=count, state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    )


def test_a_container_that_ends_again_and_again_is_told_with_its_last_lines(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("web"))
    (pod,) = place.model.pods_of(place.model.get("Deployment", "web"), crashing(5))
    place.model.logs[pod["metadata"]["name"], True] = "".join(f"line {number}\n" for number in range(20))
    with pytest.raises(CoveError) as caught:
        place.roll_out(applied)
    lines = caught.value.message.splitlines()
    assert "web-1: CrashLoopBackOff: back-off 10s" in lines
    assert lines[-10:] == [f"  line {number}" for number in range(10, 20)]


def test_a_container_says_nothing_to_the_terminal(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("web"))
    (pod,) = place.model.pods_of(place.model.get("Deployment", "web"), crashing(5))
    place.model.logs[pod["metadata"]["name"], True] = "a\tb\x1b]0;title\a\x1b[2J\rDeployment web runs\n"
    with pytest.raises(CoveError) as caught:
        place.roll_out(applied)
    assert caught.value.message.splitlines()[-2:] == ["  a\tb?]0;title??[2J", "  Deployment web runs"]


def test_a_cluster_says_nothing_to_the_terminal(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("web"))
    status = {"waiting": {"reason": "ImagePullBackOff", "message": "x\x1b]0;title\a\nDeployment web runs"}}
    place.model.pods_of(place.model.get("Deployment", "web"), pod_status(False, "Pending", state=status))
    with pytest.raises(CoveError) as caught:
        place.roll_out(applied)
    assert "web-1: ImagePullBackOff: x?]0;title?\n  Deployment web runs" in caught.value.message
    told = "\n".join([caught.value.message, *place.said])
    assert "\x1b" not in told and "Deployment web runs" not in told.splitlines()


def test_a_kubeconfig_says_nothing_to_the_terminal(place: Place) -> None:
    config = json.loads(place.kubeconfig.read_text())
    config["current-context"] = config["contexts"][0]["name"] = "here\x1b[2J\nerased"
    place.kubeconfig.write_text(json.dumps(config))
    with pytest.raises(CoveError) as caught:
        place.cluster(context="x\x1b[2J")
    assert (caught.value.message, caught.value.hint) == (
        "the kubeconfig has no context x?[2J",
        "it has: here?[2J\n  erased, other",
    )
    place.kubeconfig = place.kubeconfig.with_name("backwards\u202e")
    place.kubeconfig.write_text("contexts: [")
    with pytest.raises(CoveError, match=r"(?s)cannot be read: .*\n    in [^\n]*backwards\?"):
        place.cluster()


def test_a_container_that_has_ended_and_then_runs_has_only_been_told_of(place: Place) -> None:
    """What it depends on was not there at first."""
    later = Later(place.model)
    applied = place.deploy(only("web"))
    deployment = place.model.get("Deployment", "web")
    place.model.pods_of(deployment, crashing(1))
    later.when_watched(lambda: place.model.settle(deployment))
    assert place.roll_out(applied) == []
    assert "web-1: CrashLoopBackOff: back-off 10s" in place.said


def test_what_no_node_takes_is_told_when_the_time_is_over(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("web"))
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: cpu"}
    status = {"phase": "Pending", "conditions": [condition]}
    place.model.pods_of(place.model.get("Deployment", "web"), status)
    with pytest.raises(CoveError) as caught:
        place.roll_out(applied, limit_s=2)
    assert caught.value.message.startswith("Deployment web does not run within the time")
    assert "Unschedulable: 0/3 nodes: cpu" in caught.value.message


def test_pods_that_a_cluster_does_not_take_are_told_when_the_time_is_over(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("web"))
    quota = 'pods "web-1-" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0'
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": quota}

    def refuse(made: Object) -> None:
        made["status"] = {"observedGeneration": made["metadata"]["generation"], "conditions": [condition]}

    place.model.change("Deployment", "web", refuse)
    with pytest.raises(CoveError) as caught:
        place.roll_out(applied, limit_s=2)
    assert caught.value.message.splitlines() == [
        "Deployment web does not run within the time",
        f"Deployment web: FailedCreate: {quota}",
    ]
    assert f"Deployment web: FailedCreate: {quota}" in place.said


def warn(place: Place, name: str, identifier: str, second: int) -> None:
    about = {"kind": "Job", "name": name, "uid": identifier}
    event = {"involvedObject": about, "type": "Warning", "reason": "FailedCreate", "message": f"{name} {second}"}
    more = {"metadata": {"name": f"{name}-{second}"}, "lastTimestamp": f"2026-01-01T00:00:0{second}Z"}
    place.model.create({"kind": "Event", **event, **more})


def test_a_job_whose_pods_a_cluster_does_not_take_is_told_with_its_last_warning(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("migrate"))
    identifier = place.model.get("Job", "migrate")["metadata"]["uid"]
    for second in (1, 3, 2):
        warn(place, "migrate", identifier, second)
    warn(place, "other", "of-the-other", 4)
    with pytest.raises(CoveError) as caught:
        place.roll_out(applied, limit_s=2)
    assert caught.value.message.splitlines() == [
        "Job migrate does not run within the time",
        "Job migrate: FailedCreate: migrate 3",
    ]


def test_a_job_is_not_explained_by_the_warnings_of_the_one_before_it(place: Place) -> None:
    Later(place.model)
    place.deploy(only("migrate"))
    warn(place, "migrate", place.model.get("Job", "migrate")["metadata"]["uid"], 1)
    config = {**SHOP, "services": {"migrate": {"image": "migrate:2", "restart": "no"}}}
    with pytest.raises(CoveError) as caught:
        place.roll_out(place.deploy(config), limit_s=2)
    assert caught.value.message == "Job migrate does not run within the time"


def test_pods_that_a_cluster_takes_after_all_have_only_been_told_of(place: Place) -> None:
    later = Later(place.model)
    applied = place.deploy(only("web"))
    deployment = place.model.get("Deployment", "web")
    failing = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}
    status = {"observedGeneration": deployment["metadata"]["generation"], **failing}
    place.model.change("Deployment", "web", lambda made: made.update(status=status))
    later.when_watched(lambda: place.model.settle(deployment))
    assert place.roll_out(applied) == []


@pytest.mark.parametrize("name", ["../kube-system", "a/b", "A", "-a", "a" * 64, "a?b"])
def test_what_is_no_name_of_a_namespace_is_asked_of_no_cluster(place: Place, name: str) -> None:
    with pytest.raises(CoveError, match="is no name of a namespace"):
        place.cluster(name)
    assert place.model.requests == []


def test_a_name_is_one_part_of_a_path(place: Place) -> None:
    with pytest.raises(CoveError, match="there is no application"):
        down.down(place.cluster(), "x/../web", volumes=False, report=place.said.append, limit_s=LIMIT_S)
    assert [path for _, path in place.model.requests] == ["/api/v1/namespaces/default/configmaps/cove-x%2F..%2Fweb"]


def test_pods_of_an_earlier_version_are_not_asked(place: Place) -> None:
    later = Later(place.model)
    place.deploy(only("web"))
    place.model.pods_of(place.model.get("Deployment", "web"), crashing(9))
    config = {**only("web"), "services": {"web": {**SHOP["services"]["web"], "image": "nginx:2"}}}
    applied = place.deploy(config)
    later.when_watched(lambda: place.model.settle(place.model.get("Deployment", "web")))
    assert place.roll_out(applied) == []


def test_a_job_that_fails_is_told(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("migrate"))
    job = place.model.get("Job", "migrate")
    ended = {"terminated": {"exitCode": 3, "reason": "Error"}}
    (pod,) = place.model.pods_of(job, pod_status(False, "Failed", name="migrate", state=ended))
    place.model.logs[pod["metadata"]["name"], False] = "no such table\n"
    failed = {"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}

    def fail(made: Object) -> None:
        made["status"] = {"conditions": [failed]}

    Later(place.model).when_watched(lambda: place.model.change("Job", "migrate", fail))
    with pytest.raises(CoveError) as caught:
        place.roll_out(applied)
    assert "Job migrate has failed: Job has reached the specified backoff limit" in caught.value.message
    assert "exit status 3" in caught.value.message
    assert "  no such table" in caught.value.message


def test_a_job_that_still_runs_when_the_time_is_over_is_no_failure(place: Place) -> None:
    Later(place.model)
    applied = place.deploy(only("migrate"))
    place.model.pods_of(place.model.get("Job", "migrate"), pod_status())
    assert place.roll_out(applied, limit_s=2) == ["migrate"]


def test_down_removes_what_it_made_and_nothing_else(place: Place) -> None:
    place.model.create({"kind": "ConfigMap", "metadata": {"name": "others"}})
    # Somebody has put Cove's labels on something: it is not in the record.
    labels = manifests.labels("shop")
    place.model.create({"kind": "ConfigMap", "metadata": {"name": "labelled", "labels": labels}})
    before = set(place.model.objects)
    place.deploy()
    removed, kept = place.down()
    assert {one.kind for one in removed} == {"ConfigMap", "Service", "Job", "Deployment"}
    assert kept == [Entry("PersistentVolumeClaim", "data")]
    assert place.model.of("Pod") == []
    place.down(volumes=True)
    assert set(place.model.objects) == before


def test_down_leaves_what_is_not_the_applications_any_more(place: Place) -> None:
    place.deploy()
    place.model.change("Service", "web", lambda made: made["metadata"].update(labels={"of": "others"}))
    removed, _ = place.down()
    assert Entry("Service", "web") not in removed
    assert place.model.has("Service", "web")


def test_down_waits_until_what_it_removes_is_gone(place: Place) -> None:
    place.deploy()
    hold = lambda made: made["metadata"].update(finalizers=["foregroundDeletion"])  # noqa: E731
    place.model.change("Deployment", "web", hold)
    watch = place.model.watch

    def releasing(plural: str, namespace: str, query: dict[str, str]) -> Iterator[Object]:
        if plural == "deployments" and place.model.has("Deployment", "web"):
            assert "deletionTimestamp" in place.model.get("Deployment", "web")["metadata"]
            place.model.remove(("deployments", "default", "web"))
        return watch(plural, namespace, query)

    place.model.watch = releasing  # type: ignore[method-assign]
    assert Entry("Deployment", "web") in place.down()[0]


def test_what_does_not_go_is_told(place: Place) -> None:
    place.deploy()
    place.model.change("Service", "web", lambda made: made["metadata"].update(finalizers=["stuck"]))
    with pytest.raises(CoveError, match="Service web is still there"):
        down.down(place.cluster(), "shop", volumes=True, report=place.said.append, limit_s=1)
    assert record.read(place.cluster(), "shop") is not None  # and can be tried again


def test_a_namespace_is_made_and_goes_with_the_application(place: Place) -> None:
    place.deploy(namespace="new")
    assert record.is_ours(place.model.get("Namespace", "new"), "shop")
    place.down("new")  # the volume stays, and the namespace with it
    assert place.model.has("Namespace", "new")
    removed, _ = place.down("new", volumes=True)
    assert removed[-1] == Entry("Namespace", "new")
    assert not [key for key in place.model.objects if key[1] == "new"]


@pytest.mark.parametrize("kind", ["ConfigMap", "Widget", "Gadget", "Pod"])
def test_a_namespace_with_anything_of_others_stays(place: Place, kind: str) -> None:
    place.deploy(namespace="new")
    place.model.create({"kind": kind, "metadata": {"name": "others"}}, "new")
    place.down("new", volumes=True)
    assert place.model.has("Namespace", "new")
    assert place.model.has(kind, "others", "new")
    assert any("/others, which Cove has not made" in text for text in place.said)


def test_a_namespace_of_which_not_everything_can_be_seen_stays(place: Place) -> None:
    place.deploy(namespace="new")
    place.model.forbidden = {"widgets"}
    place.down("new", volumes=True)
    assert place.model.has("Namespace", "new")


def test_a_namespace_with_a_copy_of_what_is_the_applications_stays(place: Place) -> None:
    place.deploy(namespace="new")
    labels = place.model.get("Service", "web", "new")["metadata"]["labels"]
    place.model.create({"kind": "Service", "metadata": {"name": "copy", "labels": labels}, "spec": {}}, "new")
    place.down("new", volumes=True)
    assert place.model.has("Service", "copy", "new")


def test_a_namespace_with_something_whose_owner_is_not_there_stays(place: Place) -> None:
    place.deploy(namespace="new")
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "of-elsewhere"}
    place.model.create({"kind": "Widget", "metadata": {"name": "others", "ownerReferences": [owner]}}, "new")
    place.down("new", volumes=True)
    assert place.model.has("Widget", "others", "new")


def test_what_something_of_others_owns_is_not_told_beside_it(place: Place) -> None:
    place.deploy(namespace="new")
    owner = place.model.create({"kind": "Widget", "metadata": {"name": "others"}}, "new")["metadata"]["uid"]
    owned = {"name": "owned", "ownerReferences": [{"kind": "Widget", "name": "others", "uid": owner}]}
    place.model.create({"kind": "ConfigMap", "metadata": owned}, "new")
    place.down("new", volumes=True)
    assert "Namespace new stays: it has widgets/others, which Cove has not made" in place.said


def test_a_namespace_stays_while_a_group_of_the_cluster_does_not_answer(place: Place) -> None:
    place.deploy(namespace="new")
    place.model.broken = {"example.com/v1beta1"}
    removed, _ = place.down("new", volumes=True)
    assert Entry("Deployment", "web") in removed
    assert place.model.has("Namespace", "new")
    assert record.read(place.cluster("new"), "shop") is None
    assert any("what is of /apis/example.com/v1beta1 (the cluster model: service" in text for text in place.said)


def test_the_record_stays_until_what_becomes_of_the_namespace_is_known(place: Place) -> None:
    place.deploy(namespace="new")
    place.model.forbidden = {"namespaces"}
    with pytest.raises(CoveError, match="namespaces is forbidden"):
        place.down("new", volumes=True)
    assert record.read(place.cluster("new"), "shop") is not None  # and can be tried again


def test_a_namespace_that_was_there_stays(place: Place) -> None:
    place.model.create({"kind": "Namespace", "metadata": {"name": "there"}})
    place.deploy(namespace="there")
    place.down("there", volumes=True)
    assert place.model.has("Namespace", "there")


def test_a_namespace_that_was_made_by_a_deploy_that_was_interrupted_goes_too(place: Place) -> None:
    place.model.create({"kind": "Namespace", "metadata": {"name": "new", "labels": manifests.labels("shop")}})
    place.deploy(namespace="new")
    assert Entry("Namespace", "new") in place.down("new", volumes=True)[0]


def test_who_may_not_see_namespaces_can_use_the_one_that_was_given(place: Place) -> None:
    place.model.forbidden = {"namespaces"}
    assert place.deploy()


def test_what_is_not_there_cannot_be_removed(place: Place) -> None:
    with pytest.raises(CoveError, match="no application shop in namespace default of model"):
        place.down()


def test_a_config_map_of_others_is_no_record(place: Place) -> None:
    place.model.create({"kind": "ConfigMap", "metadata": {"name": "cove-shop"}})
    with pytest.raises(CoveError, match="not a record of Cove's"):
        place.deploy()


def test_the_context_says_the_namespace(place: Place) -> None:
    assert place.cluster().namespace == "default"
    assert place.cluster(context="other").namespace == "elsewhere"
    assert place.cluster("mine", "other").namespace == "mine"
    with pytest.raises(CoveError, match="no context none") as caught:
        place.cluster(context="none")
    assert "model, other" in caught.value.hint


def test_a_cluster_that_is_not_configured_or_does_not_answer(place: Place, tmp_path: Path) -> None:
    with pytest.raises(CoveError, match="no cluster is configured"):
        connect(str(tmp_path / "none"), "", "")
    config = json.loads(place.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    place.kubeconfig.write_text(json.dumps(config))
    with pytest.raises(CoveError, match="does not answer"):
        place.deploy()


@pytest.mark.parametrize(
    "content",
    [
        b"a: [",
        b"\xff\xfe\xff",
        b"- a\n",
        b"contexts: 5\ncurrent-context: a\n",
        b"contexts:\n- name: a\n  context: text\ncurrent-context: a\n",
        b"{contexts: [{name: a, context: {cluster: c, user: u}}], current-context: a, clusters: [{name: c, cluster: 5}], users: []}",
    ],
)
def test_a_kubeconfig_that_is_broken_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(CoveError, match=r"the kubeconfig cannot be read|no cluster is configured"):
        connect(str(tmp_path / "broken"), "", "")


def test_a_user_whom_the_cluster_does_not_know(place: Place) -> None:
    config = json.loads(place.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = "another"
    place.kubeconfig.write_text(json.dumps(config))
    with pytest.raises(CoveError, match="the cluster model: Unauthorized"):
        place.deploy()


def logging_in_by(place: Place, words: list[str]) -> None:
    """The kubeconfig names a program instead of a token."""
    config = json.loads(place.kubeconfig.read_text())
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": words[0], "args": words[1:]}
    config["users"][0]["user"] = {"exec": {**program, "interactiveMode": "Never"}}
    place.kubeconfig.write_text(json.dumps(config))


def test_a_program_logs_in_and_again_when_its_token_has_ended(place: Place, tmp_path: Path) -> None:
    """As EKS, GKE and AKS have it: a token ends after a quarter of an hour."""
    asked = tmp_path / "asked"
    status = {"token": TOKEN, "expirationTimestamp": "2020-01-01T00:00:00Z"}
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    (tmp_path / "answer").write_text(json.dumps(answer))
    logging_in_by(place, ["/bin/sh", "-c", f"echo >> {asked}; cat {tmp_path / 'answer'}"])
    cluster = place.cluster()
    for _ in range(3):
        assert cluster.get("ConfigMap", "none") is None
    assert len(asked.read_text().splitlines()) >= 3


def test_a_program_that_does_not_log_in_is_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    logging_in_by(place, ["/bin/sh", "-c", "echo run cloud login first >&2; exit 1"])
    with pytest.raises(CoveError, match="the cluster model: Unauthorized"):
        place.deploy()
    assert "run cloud login first" in caplog.text
