"""What becomes of containers in Kubernetes: of what the Engine API's inspect says of them and their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accepted
import pytest
from cove.errors import CoveError
from cove.kube.generate import containers, manifests
from cove.kube.generate.binds import Binds
from cove.kube.generate.containers import Found
from cove.kube.generate.manifests import Options

Object = dict[str, Any]

IMAGE: Object = {
    "Id": "sha256:" + "1" * 64,
    "RepoTags": ["redis:7"],
    "RepoDigests": ["redis@sha256:" + "2" * 64],
    "Config": {
        "Env": ["PATH=/usr/bin", "REDIS_VERSION=7"],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["redis-server"],
        "WorkingDir": "/data",
        "User": "redis",
        "Labels": {"vendor": "them"},
        "StopSignal": "SIGTERM",
    },
}


def container(name: str = "cache", config: Object | None = None, host: Object | None = None, **fields: Any) -> Found:
    own = {
        "Image": "redis:7", "Hostname": "c" * 12, "ExposedPorts": {"6379/tcp": {}},
        **{key: IMAGE["Config"][key] for key in ("Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Labels", "StopSignal")},
        **(config or {}),
    }  # fmt: skip
    defaults = {
        "NetworkMode": "bridge", "PidMode": "", "IpcMode": "private", "ShmSize": 67108864, "NanoCpus": 0, "Memory": 0,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "PortBindings": {}, "Init": None, "Devices": [],
        "PidsLimit": None, "Ulimits": None,
    }  # fmt: skip
    networks = {"bridge": {"Aliases": None}}
    found = {
        "Id": "c" * 64, "Name": f"/{name}", "Image": IMAGE["Id"], "Config": own, "HostConfig": {**defaults, **(host or {})},
        "Mounts": [], "NetworkSettings": {"Networks": networks, "Ports": {}}, **fields,
    }  # fmt: skip
    return Found(found, IMAGE)


class Made:
    def __init__(self, *found: Found, name: str = "", binds: str = "refuse") -> None:
        choice = Binds(binds)
        self.application = containers.application(found, name, choice)
        choice.check()
        self.objects = manifests.objects(self.application, Options())
        accepted.check(self.objects)
        notes = [*self.application.notes, *manifests.shared_volumes(self.application)]
        self.notes = [str(note) for note in notes if note.lost]

    def one(self, kind: str, name: str) -> Object:
        (found,) = [each for each in self.objects if each["kind"] == kind and each["metadata"]["name"] == name]
        return found

    def container(self, name: str = "cache", kind: str = "Deployment") -> Object:
        (found,) = self.one(kind, name)["spec"]["template"]["spec"]["containers"]
        assert isinstance(found, dict)
        return found


def test_what_the_image_says_is_left_to_it() -> None:
    made = Made(container())
    assert made.container() == {
        "name": "cache",
        "image": "redis:7",
        "ports": [{"name": "tcp-6379", "containerPort": 6379, "protocol": "TCP"}],
    }
    assert [one["kind"] for one in made.objects] == ["Service", "Deployment"]
    assert (made.application.name, made.notes) == ("cache", [])


def test_what_was_said_of_the_container_is_carried() -> None:
    made = Made(
        container(
            config={"Env": [*IMAGE["Config"]["Env"], "MODE=a=b"], "User": "5:6", "WorkingDir": "/w", "Tty": True,
                    "OpenStdin": True, "Hostname": "box", "Labels": {"vendor": "them", "mine": "1"}, "StopTimeout": 30},
            host={"NanoCpus": 1_500_000_000, "Memory": 1 << 28, "MemoryReservation": 1 << 20, "CapAdd": ["CAP_SYS_PTRACE"],
                  "ReadonlyRootfs": True, "ExtraHosts": ["h:1.2.3.4"], "Dns": ["9.9.9.9"]},
        )
    )  # fmt: skip
    found, pod = made.container(), made.one("Deployment", "cache")["spec"]["template"]["spec"]
    assert found["env"] == [{"name": "MODE", "value": "a=b"}]
    assert found["resources"] == {"limits": {"cpu": "1500m", "memory": "256Mi"}, "requests": {"memory": "1Mi"}}
    assert found["securityContext"]["capabilities"] == {"add": ["SYS_PTRACE"]}
    assert (found["securityContext"]["runAsUser"], found["securityContext"]["readOnlyRootFilesystem"]) == (5, True)
    assert (found["workingDir"], found["tty"], found["stdin"]) == ("/w", True, True)
    assert (pod["hostname"], pod["terminationGracePeriodSeconds"]) == ("box", 30)
    assert pod["hostAliases"] == [{"ip": "1.2.3.4", "hostnames": ["h"]}]
    assert made.one("Deployment", "cache")["metadata"]["annotations"] == {"mine": "1"}
    assert made.notes == []


def test_a_stop_that_waits_for_ever_is_not_made_a_short_one() -> None:
    made = Made(container(config={"StopTimeout": -1}))
    assert "terminationGracePeriodSeconds" not in made.one("Deployment", "cache")["spec"]["template"]["spec"]
    assert made.notes == ["cache: a stop without a time limit: a cluster's own limit counts"]


@pytest.mark.parametrize(
    ("given", "command", "args"),
    [
        ({"Cmd": ["redis-cli"]}, None, ["redis-cli"]),
        ({"Entrypoint": ["sh"], "Cmd": ["-c", "x"]}, ["sh"], ["-c", "x"]),
        ({"Entrypoint": ["sh"], "Cmd": None}, ["sh"], None),
        ({"Entrypoint": None, "Cmd": ["x"]}, ["x"], None),
        ({"Cmd": None}, ["docker-entrypoint.sh"], None),
    ],
)
def test_entrypoint_and_command(given: Object, command: Any, args: Any) -> None:
    found = Made(container(config=given)).container()
    assert (found.get("command"), found.get("args")) == (command, args)


def test_published_ports_and_those_that_were_chosen() -> None:
    found = container(
        host={
            "PortBindings": {
                "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                "81/tcp": [{"HostPort": ""}],
                "82/udp": [{}],
            }
        },
        NetworkSettings={"Networks": {}, "Ports": {"81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "49153"}]}},
    )
    (workload,) = Made(found).application.workloads
    assert [(port.number, port.protocol, port.published) for port in workload.ports] == [
        (80, "tcp", 8080), (81, "tcp", 49153), (82, "udp", 0), (6379, "tcp", None),
    ]  # fmt: skip


def test_ports_of_this_computer_alone_are_known() -> None:
    bindings = {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8081"}, {"HostIp": "", "HostPort": ""}],
    }
    current = {"81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8081"}, {"HostIp": "0.0.0.0", "HostPort": "49153"}]}
    found = container(
        config={"ExposedPorts": {}}, host={"PortBindings": bindings}, NetworkSettings={"Networks": {}, "Ports": current}
    )
    (workload,) = Made(found).application.workloads
    assert [(port.published, port.is_for_all) for port in workload.ports] == [(8080, False), (49153, True)]


def test_the_health_check_of_the_image_is_told_to_the_cluster_which_does_not_read_it_there() -> None:
    check = {"Test": ["CMD-SHELL", "redis-cli ping"], "Interval": 10**10, "Timeout": 5 * 10**9, "Retries": 4}
    probe = Made(container(config={"Healthcheck": check})).container()["livenessProbe"]
    assert probe["exec"]["command"] == ["/bin/sh", "-c", "redis-cli ping"]
    assert (probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]) == (10, 5, 4)


def test_volumes(tmp_path: Path) -> None:
    mounts = [
        {"Type": "volume", "Name": "my_data", "Source": "/x", "Destination": "/data", "RW": True},
        {"Type": "volume", "Name": "a" * 64, "Source": "/y", "Destination": "/anon", "RW": True},
        {"Type": "tmpfs", "Source": "", "Destination": "/t", "RW": True},
        {"Type": "volume", "Name": "ro", "Source": "/z", "Destination": "/ro", "RW": False},
    ]
    asked = [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1024}}]
    found = container(Mounts=mounts, host={"Mounts": asked, "Tmpfs": {"/run": ""}, "ShmSize": 1 << 30})
    made = Made(found)
    volumes = {one["name"]: one for one in made.one("Deployment", "cache")["spec"]["template"]["spec"]["volumes"]}
    at = {one["mountPath"]: volumes[one["name"]] for one in made.container()["volumeMounts"]}
    assert at["/data"]["persistentVolumeClaim"] == {"claimName": "my-data"}
    assert at["/anon"]["emptyDir"] == {}
    assert at["/t"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Ki"}
    assert at["/dev/shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert [one["mountPath"] for one in made.container()["volumeMounts"] if one.get("readOnly")] == ["/ro"]
    bound = container(Mounts=[{"Type": "bind", "Source": "/here", "Destination": "/there", "RW": True}])
    with pytest.raises(CoveError, match="cache: /here at /there"):
        Made(bound)


def test_restart_policies() -> None:
    """`no` is what containers have that nobody said anything of."""
    assert Made(container()).one("Deployment", "cache")
    failing = container(host={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}})
    assert Made(failing).one("Job", "cache")["spec"]["backoffLimit"] == 3


def test_containers_of_one_service_are_one_workload() -> None:
    def of(number: int) -> Found:
        labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "mine": "1"}
        networks = {"shop_default": {"Aliases": [f"shop-web-{number}", "web", "c" * 12, "www"]}}
        return container(
            f"shop-web-{number}", config={"Labels": labels}, NetworkSettings={"Networks": networks, "Ports": {}}
        )

    made = Made(of(1), of(2))
    assert made.application.name == "shop"
    assert made.one("Deployment", "web")["spec"]["replicas"] == 2
    assert made.one("Deployment", "web")["metadata"]["annotations"] == {"mine": "1"}
    assert [one["metadata"]["name"] for one in made.objects if one["kind"] == "Service"] == ["web", "www"]


def of_service(name: str, project: str, **config: Any) -> Found:
    labels = {"com.docker.compose.project": project, "com.docker.compose.service": "web"}
    return container(name, config={"Labels": labels, **config})


def test_services_of_one_name_in_two_projects_are_two_workloads() -> None:
    made = Made(of_service("shop-web-1", "shop"), of_service("blog-web-1", "blog"), container("web"), name="both")
    assert [one["metadata"]["name"] for one in made.objects if one["kind"] == "Deployment"] == [
        "web", "blog-web", "shop-web",
    ]  # fmt: skip
    assert all(one["spec"]["replicas"] == 1 for one in made.objects if one["kind"] == "Deployment")
    assert made.notes == [
        f"web: its name: it is {name} in Kubernetes, also to those who speak to it" for name in ("blog-web", "shop-web")
    ]


def test_what_containers_of_one_service_differ_in_is_told() -> None:
    first, other = of_service("shop-web-1", "shop"), of_service("shop-web-2", "shop", Env=["MODE=other"])
    assert Made(first, other).notes == ["web: what shop-web-2 has other than shop-web-1, by which all of them are made"]


def test_several_containers_are_several_workloads_of_one_application() -> None:
    made = Made(container("web"), container("cache"), name="Both")
    assert {one["metadata"]["labels"]["cove.dev/application"] for one in made.objects} == {"both"}
    assert [one["metadata"]["name"] for one in made.objects if one["kind"] == "Deployment"] == ["cache", "web"]


def test_an_image_that_was_given_by_its_id() -> None:
    assert Made(container(config={"Image": "1" * 12})).container()["image"] == "redis:7"
    found = container(config={"Image": IMAGE["Id"]})
    with pytest.raises(CoveError, match="no name by which a cluster could get it"):
        Made(Found(found.container, {**IMAGE, "RepoTags": []}))


def test_what_an_engine_says_of_a_container_of_which_nobody_has_is_no_loss() -> None:
    """As Docker's and Cove's answer it, with a limit of memory."""
    usual = {
        "AutoRemove": False, "BlkioDeviceReadBps": [], "CgroupnsMode": "private", "ConsoleSize": [24, 80], "CpuCount": 0,
        "Isolation": "", "LogConfig": {"Type": "json-file", "Config": {}}, "Memory": 1 << 28, "MemorySwap": 1 << 29,
        "MemorySwappiness": None, "OomKillDisable": None, "PublishAllPorts": False, "Runtime": "runc", "VolumeDriver": "",
        "MaskedPaths": ["/proc/acpi", "/proc/kcore", "/sys/firmware", "/sys/devices/system/cpu/cpu0/thermal_throttle"],
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    }  # fmt: skip
    assert Made(container(host=usual)).notes == []
    assert Made(container(host={"Privileged": True, "MaskedPaths": [], "ReadonlyPaths": None})).notes == []
    assert Made(container(host={"Memory": 1 << 28, "MemorySwap": -1})).notes == []


def test_names_that_are_others_in_kubernetes_are_told() -> None:
    networks = {"shop_default": {"Aliases": ["c" * 12, "my_db"]}}
    made = Made(container(config={"Hostname": "Box"}, NetworkSettings={"Networks": networks, "Ports": {}}))
    assert made.notes == [
        "cache: the host name Box: it is box in Kubernetes",
        "cache: the name my_db: it is my-db in Kubernetes",
    ]


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ({"Devices": [{"PathOnHost": "/dev/fuse"}]}, "devices"),
        ({"Init": True}, "init"),
        ({"Ulimits": [{"Name": "nofile"}]}, "ulimits"),
        ({"PidsLimit": 10}, "the limit of processes"),
        ({"NetworkMode": "container:x"}, "network mode container:x"),
        ({"PidMode": "container:x"}, "pid mode container:x"),
        ({"Runtime": "runsc"}, "HostConfig.Runtime"),
        ({"MaskedPaths": []}, "HostConfig.MaskedPaths"),
        ({"MaskedPaths": ["/proc/mine"]}, "HostConfig.MaskedPaths"),
        ({"ReadonlyPaths": []}, "HostConfig.ReadonlyPaths"),
        ({"DeviceCgroupRules": ["c 1:3 rwm"]}, "HostConfig.DeviceCgroupRules"),
        ({"CgroupnsMode": "host"}, "HostConfig.CgroupnsMode"),
        ({"OomKillDisable": True}, "HostConfig.OomKillDisable"),
        ({"PublishAllPorts": True}, "HostConfig.PublishAllPorts"),
        ({"Memory": 1 << 28, "MemorySwap": 1 << 30}, "HostConfig.MemorySwap"),
        ({"LogConfig": {"Type": "syslog"}}, "HostConfig.LogConfig"),
        ({"OfTomorrow": 1}, "HostConfig.OfTomorrow"),
    ],
)
def test_what_cannot_be_carried_is_named(host: Object, told: str) -> None:
    assert Made(container(host=host)).notes == [f"cache: {told}"]
