"""What becomes of a compose file in Kubernetes: of its normalised form, as docker compose 2.26 writes it."""

from __future__ import annotations

import base64
import errno
import os
from pathlib import Path
from typing import Any

import accepted
import pytest
from cove.errors import CoveError
from cove.kube.generate import compose, manifests, written
from cove.kube.generate.binds import Binds
from cove.kube.generate.manifests import Options, Route

Object = dict[str, Any]
DEFAULTS = Options()


class Made:
    """Manifests of a compose file; each is held against the official schemas."""

    def __init__(self, config: Object, options: Options = DEFAULTS, binds: str = "refuse") -> None:
        choice = Binds(binds)
        self.application = compose.application({"name": "shop", **config}, "", choice)
        choice.check()
        self.objects = manifests.objects(self.application, options)
        accepted.check(self.objects)
        assert accepted.read(written.documents(self.objects)) == self.objects
        notes = [*self.application.notes, *manifests.shared_volumes(self.application)]
        self.notes = [str(note) for note in notes if note.lost]
        self.remarks = [str(note) for note in self.application.notes if not note.lost]

    def one(self, kind: str, name: str) -> Object:
        (found,) = [each for each in self.objects if each["kind"] == kind and each["metadata"]["name"] == name]
        return found

    def names(self, kind: str) -> list[str]:
        return [each["metadata"]["name"] for each in self.objects if each["kind"] == kind]

    def pod(self, name: str = "web", kind: str = "Deployment") -> Object:
        spec: Object = self.one(kind, name)["spec"]["template"]["spec"]
        return spec

    def container(self, name: str = "web", kind: str = "Deployment") -> Object:
        (found,) = self.pod(name, kind)["containers"]
        assert isinstance(found, dict)
        return found


def web(**fields: Any) -> Made:
    """Of one service."""
    return Made({"services": {"web": {"image": "nginx:1.27", **fields}}})


def test_a_service_is_a_deployment_and_a_service() -> None:
    made = web(ports=[{"mode": "ingress", "target": 80, "published": "8080", "protocol": "tcp"}])
    assert [each["kind"] for each in made.objects] == ["Service", "Deployment"]
    labels = {
        "app.kubernetes.io/name": "web",
        "app.kubernetes.io/managed-by": "cove",
        "app.kubernetes.io/part-of": "shop",
        "cove.dev/application": "shop",
    }
    assert all(each["metadata"]["labels"] == labels for each in made.objects)
    # Others reach it as in compose: by its name, and the port in the container.
    service = made.one("Service", "web")["spec"]
    assert service["ports"] == [{"name": "tcp-80", "port": 80, "protocol": "TCP", "targetPort": 80}]
    deployment = made.one("Deployment", "web")["spec"]
    assert deployment["selector"]["matchLabels"] == service["selector"]
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()
    assert (made.container()["image"], deployment["replicas"], made.notes) == ("nginx:1.27", 1, [])


def test_a_pinned_image_stays_pinned() -> None:
    image = "nginx@sha256:" + "a" * 64
    assert web(image=image).container()["image"] == image


def test_a_pod_knows_nothing_of_the_api_and_has_no_variables_of_other_services() -> None:
    pod = web().pod()
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)


def test_a_service_without_known_ports_is_found_by_its_name_on_any_port() -> None:
    assert web().one("Service", "web")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    ("given", "command", "args"),
    [
        ({"command": ["a"]}, None, ["a"]),
        ({"entrypoint": ["e"]}, ["e"], None),
        ({"entrypoint": ["e"], "command": ["a"]}, ["e"], ["a"]),
        ({"entrypoint": [], "command": ["a"]}, ["a"], None),
        ({"entrypoint": None, "command": None}, None, None),
    ],
)
def test_entrypoint_and_command_are_command_and_args(given: Object, command: Any, args: Any) -> None:
    container = web(**given).container()
    assert (container.get("command"), container.get("args")) == (command, args)


def test_dollars_mean_what_they_mean_in_compose() -> None:
    made = web(command=["sh", "-c", "echo $$HOME $$(date) $$$$"], environment={"A": "$$(B)", "C": "$$5"})
    # compose writes $$ for $, and Kubernetes replaces $(B) and reads $$ as $.
    assert made.container()["args"][2] == "echo $$HOME $$(date) $$$$"
    assert made.container()["env"] == [{"name": "A", "value": "$$(B)"}, {"name": "C", "value": "$5"}]


def test_a_variable_without_a_value_is_not_set() -> None:
    assert web(environment={"A": None, "B": ""}).container()["env"] == [{"name": "B", "value": ""}]


def test_texts_that_other_readers_take_for_something_else_are_quoted(tmp_path: Path) -> None:
    """kubectl's YAML has `N` for false and `1e3` for a number, which PyYAML's has not."""
    values = [
        "n",
        "N",
        "yes",
        "1e3",
        "0o7",
        "0x1F",
        "1:30",
        "~",
        "",
        "null",
        ".5",
        "=",
        "- a",
        "a: b",
        "a\nb\n ",
        " a",
        "ü",
    ]
    made = web(environment={f"V{number}": value for number, value in enumerate(values)} | {"N": "5"})
    text = written.documents(made.objects)
    assert "name: 'N'" in text
    assert [one["value"] for one in made.container()["env"] if one["name"] == "V3"] == ["1e3"]
    assert "'1e3'" in text


def test_ports_of_services(tmp_path: Path) -> None:
    ports = [
        {"target": 80, "published": "8080", "protocol": "tcp"},
        {"target": 53, "protocol": "udp"},
        {"target": 53, "published": "53", "protocol": "tcp"},
    ]
    config = {"services": {"web": {"image": "a", "ports": ports, "expose": ["90", "91-92/udp"]}}}
    made = Made(config)
    names = [port["name"] for port in made.one("Service", "web")["spec"]["ports"]]
    assert names == ["tcp-53", "udp-53", "tcp-80", "tcp-90", "udp-91", "udp-92"]
    assert [port["containerPort"] for port in made.container()["ports"]] == [53, 53, 80, 90, 91, 92]
    assert made.one("Service", "web")["spec"]["type"] == "ClusterIP"
    outside = Made(config, Options(service_type="LoadBalancer")).one("Service", "web")["spec"]
    assert outside["type"] == "LoadBalancer"
    # The world outside finds it where localhost had it.
    assert {"name": "tcp-8080", "port": 8080, "protocol": "TCP", "targetPort": 80} in outside["ports"]


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort"])
def test_ports_of_this_computer_alone_are_not_for_all(kind: str) -> None:
    here = {"target": 5432, "published": "5432", "protocol": "tcp", "host_ip": "127.0.0.1"}
    options = Options(service_type=kind)
    made = Made(
        {"services": {"web": {"image": "a", "ports": [here, {**here, "target": 6, "host_ip": "::1"}]}}}, options
    )
    assert [one["spec"]["type"] for one in made.objects if one["kind"] == "Service"] == ["ClusterIP"]
    (note,) = manifests.bound_here(made.application, kind)
    assert str(note) == f"web: 6/tcp, 5432/tcp: published for this computer alone, and not by a {kind}"
    assert manifests.bound_here(made.application, "ClusterIP") == []


def test_ports_for_all_beside_others_are_of_a_service_of_their_own() -> None:
    ports = [
        {"target": 5432, "published": "5432", "host_ip": "127.0.0.1"},
        {"target": 80, "published": "8080", "host_ip": "0.0.0.0"},
        {"target": 90, "published": "91", "host_ip": "127.0.0.1"},
        {"target": 90, "published": "92"},
    ]
    made = Made({"services": {"web": {"image": "a", "ports": ports}}}, Options(service_type="LoadBalancer"))
    inner, outer = made.one("Service", "web")["spec"], made.one("Service", "web-published")["spec"]
    assert (inner["type"], [one["port"] for one in inner["ports"]]) == ("ClusterIP", [80, 90, 5432])
    assert (outer["type"], [one["port"] for one in outer["ports"]]) == ("LoadBalancer", [80, 90, 8080, 92])
    assert outer["selector"] == inner["selector"]
    (note,) = manifests.bound_here(made.application, "LoadBalancer")
    assert "the others are of the Service web-published" in str(note)


def test_named_volumes_are_claims_and_the_others_are_empty() -> None:
    config = {
        "services": {
            "web": {
                "image": "a",
                "volumes": [
                    {
                        "type": "volume",
                        "source": "my_data",
                        "target": "/data",
                        "volume": {"subpath": "x"},
                        "read_only": True,
                    },
                    {"type": "volume", "source": "kept", "target": "/kept", "volume": {}},
                    {"type": "volume", "target": "/anon", "volume": {}},
                    {"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1048576"}},
                ],
                "tmpfs": ["/run"],
                "shm_size": "134217728",
            }
        },
        "volumes": {"my_data": {"name": "shop_my_data"}, "kept": {"name": "outside", "external": True}, "unused": None},
    }
    made = Made(config, Options(volume_size="5Gi", storage_class="fast"))
    claim = made.one("PersistentVolumeClaim", "my-data")["spec"]
    assert made.names("PersistentVolumeClaim") == ["my-data"]
    assert (claim["resources"]["requests"], claim["storageClassName"]) == ({"storage": "5Gi"}, "fast")
    volumes = {one.pop("name"): one for one in made.pod()["volumes"]}
    mounts = {one["mountPath"]: one for one in made.container()["volumeMounts"]}
    at = {path: volumes[one["name"]] for path, one in mounts.items()}
    assert at["/data"] == {"persistentVolumeClaim": {"claimName": "my-data"}}
    assert (mounts["/data"]["subPath"], mounts["/data"]["readOnly"]) == ("x", True)
    assert at["/kept"] == {"persistentVolumeClaim": {"claimName": "outside"}}
    assert at["/anon"] == {"emptyDir": {}}
    assert at["/t"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    assert at["/run"] == {"emptyDir": {"medium": "Memory"}}
    assert at["/dev/shm"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "128Mi"}}
    assert made.one("Deployment", "web")["spec"]["strategy"] == {"type": "Recreate"}


def test_a_volume_of_several_pods_is_told() -> None:
    volume = [{"type": "volume", "source": "data", "target": "/data"}]
    services = {name: {"image": "a", "volumes": volume} for name in ("a", "b")}
    made = Made({"services": services, "volumes": {"data": None}})
    assert made.notes == ["volume data: 2 pods share it, which ReadWriteOnce lets those on one node do"]


def test_secrets_and_configs_are_files_in_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tok").write_bytes(b"\xff\0secret")
    monkeypatch.setenv("FROM_HERE", "x")
    config = {
        "services": {
            "web": {
                "image": "a",
                "secrets": [
                    {"source": "token", "target": "/run/secrets/token"},
                    {"source": "token", "target": "/etc/tok", "mode": 288, "uid": "3"},
                    {"source": "there", "target": "/run/secrets/there"},
                ],
                "configs": [{"source": "c", "target": "/etc/c.conf"}, {"source": "v"}],
            }
        },
        "secrets": {
            "token": {"name": "shop_token", "file": str(tmp_path / "tok")},
            "there": {"name": "of-the-cluster", "external": True},
        },
        "configs": {"c": {"content": "x $$y\n"}, "v": {"environment": "FROM_HERE"}},
    }
    made = Made(config)
    secret, plain = made.one("Secret", "shop-secret-token"), made.one("ConfigMap", "shop-config-c")
    assert base64.b64decode(secret["data"]["content"]) == b"\xff\0secret"
    assert plain["data"] == {"content": "x $y\n"}
    assert made.names("Secret") == ["shop-secret-token"]
    volumes = {one["name"]: one for one in made.pod()["volumes"]}
    mounts = {one["mountPath"]: one for one in made.container()["volumeMounts"]}
    assert set(mounts) == {"/run/secrets/token", "/etc/tok", "/run/secrets/there", "/etc/c.conf", "/v"}
    assert all(one["readOnly"] for one in mounts.values())
    assert volumes[mounts["/etc/tok"]["name"]]["secret"] == {"secretName": "shop-secret-token", "defaultMode": 0o440}
    assert volumes[mounts["/run/secrets/there"]["name"]]["secret"] == {"secretName": "of-the-cluster"}
    assert mounts["/run/secrets/there"]["subPath"] == "there"
    assert made.notes == ["web: the owner of /etc/tok"]
    assert "must be in the namespace" in made.remarks[0]


def test_other_contents_of_a_config_bring_other_pods() -> None:
    def digest(content: str) -> str:
        service = {"image": "a", "configs": [{"source": "c", "target": "/c"}]}
        made = Made({"services": {"web": service}, "configs": {"c": {"content": content}}})
        annotations = made.one("Deployment", "web")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["cove.dev/configuration"])

    assert digest("a") == digest("a") != digest("b")


def test_a_health_check_is_three_probes() -> None:
    made = web(
        healthcheck={
            "test": ["CMD", "true"],
            "interval": "1m30s",
            "timeout": "2.5s",
            "retries": 5,
            "start_period": "11s",
        }
    )
    common = {"exec": {"command": ["true"]}, "timeoutSeconds": 3}
    container = made.container()
    assert container["livenessProbe"] == {**common, "periodSeconds": 90, "failureThreshold": 5}
    assert container["readinessProbe"] == container["livenessProbe"]
    assert container["startupProbe"] == {**common, "periodSeconds": 5, "failureThreshold": 3 + 5}


def test_dollars_in_a_health_check_are_its_own() -> None:
    probe = web(healthcheck={"test": ["CMD-SHELL", "test $$(id -u) = 0 -a $$$$"]}).container()["livenessProbe"]
    # compose writes $$ for $, and Kubernetes replaces $(id -u) and reads $$ as $, in probes too.
    assert probe["exec"]["command"][2] == "test $$(id -u) = 0 -a $$$$"


@pytest.mark.parametrize("check", [{"test": ["NONE"]}, {"disable": True}, {}])
def test_no_health_check_is_no_probe(check: Object) -> None:
    assert "livenessProbe" not in web(healthcheck=check).container()


def test_a_shell_runs_a_check_that_is_a_line() -> None:
    probe = web(healthcheck={"test": ["CMD-SHELL", "curl -f localhost"]}).container()["livenessProbe"]
    assert probe["exec"]["command"] == ["/bin/sh", "-c", "curl -f localhost"]
    assert (probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]) == (30, 30, 3)


def test_limits_and_reservations() -> None:
    limits = {"cpus": 0.5, "memory": "52428800"}
    made = web(deploy={"replicas": 3, "resources": {"limits": limits, "reservations": {"memory": "1000"}}})
    assert made.container()["resources"] == {
        "limits": {"cpu": "500m", "memory": "50Mi"},
        "requests": {"memory": "1000"},
    }
    assert made.one("Deployment", "web")["spec"]["replicas"] == 3
    other = web(cpus=2, mem_limit="1073741824", mem_reservation="1024", scale=2)
    assert other.container()["resources"] == {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"memory": "1Ki"}}
    assert other.one("Deployment", "web")["spec"]["replicas"] == 2


@pytest.mark.parametrize("policy", ["always", "unless-stopped", ""])
def test_what_is_to_run_for_good_is_a_deployment(policy: str) -> None:
    assert web(restart=policy).names("Deployment") == ["web"]


@pytest.mark.parametrize(
    ("policy", "attempts", "kept"),
    [("no", 0, "Never"), ("on-failure", 6, "OnFailure"), ("on-failure:2", 2, "OnFailure")],
)
def test_what_is_to_end_is_a_job(policy: str, attempts: int, kept: str) -> None:
    made = web(restart=policy)
    assert [one["kind"] for one in made.objects] == ["Job"]
    assert made.one("Job", "web")["spec"]["backoffLimit"] == attempts
    assert made.pod(kind="Job")["restartPolicy"] == kept


def test_what_others_wait_for_to_end_is_a_job() -> None:
    config = {
        "services": {
            "web": {"image": "a", "depends_on": {"migrate": {"condition": "service_completed_successfully"}}},
            "migrate": {"image": "b"},
        }
    }
    made = Made(config)
    assert (made.names("Job"), made.names("Deployment")) == (["migrate"], ["web"])
    assert made.notes == ["web: its start after migrate: Kubernetes has no order, and starts anew what has failed"]


def test_what_a_container_may_do() -> None:
    made = web(
        user="1000:2000", group_add=["7"], cap_add=["CAP_NET_ADMIN"], cap_drop=["ALL"], read_only=True, privileged=True,
        security_opt=["no-new-privileges:true", "seccomp=unconfined"], working_dir="/w", tty=True, stdin_open=True,
        sysctls={"net.core.somaxconn": "1024"}, stop_grace_period="1m0s", hostname="box", platform="linux/arm64/v8",
        pull_policy="always",
    )  # fmt: skip
    container, pod = made.container(), made.pod()
    assert container["securityContext"] == {
        "runAsUser": 1000, "runAsGroup": 2000, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": True, "privileged": True, "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "Unconfined"},
    }  # fmt: skip
    assert pod["securityContext"] == {
        "fsGroup": 2000, "fsGroupChangePolicy": "OnRootMismatch", "supplementalGroups": [7],
        "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}],
    }  # fmt: skip
    assert (container["workingDir"], container["tty"], container["stdin"]) == ("/w", True, True)
    assert container["imagePullPolicy"] == "Always"
    assert (pod["terminationGracePeriodSeconds"], pod["hostname"]) == (60, "box")
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
    assert made.notes == []


def test_names_and_hosts() -> None:
    made = web(
        networks={"default": {"aliases": ["www", "a_b"]}}, container_name="box", extra_hosts=["h=1.2.3.4", "i=1.2.3.4"],
        dns=["9.9.9.9"], dns_search="example.com", dns_opt=["ndots:2"],
    )  # fmt: skip
    assert made.names("Service") == ["web", "a-b", "box", "www"]
    assert made.notes == ["web: the name a_b: it is a-b in Kubernetes"]
    assert made.one("Service", "www")["spec"] == made.one("Service", "web")["spec"]
    assert made.pod()["hostAliases"] == [{"ip": "1.2.3.4", "hostnames": ["h", "i"]}]
    assert made.pod()["dnsConfig"] == {
        "nameservers": ["9.9.9.9"], "searches": ["example.com"], "options": [{"name": "ndots", "value": "2"}],
    }  # fmt: skip


def test_a_name_that_kubernetes_cannot_have_is_made_one_and_told() -> None:
    made = Made({"services": {"My_Db": {"image": "a"}}})
    assert made.names("Deployment") == ["my-db"]
    assert made.notes == ["My_Db: its name: it is my-db in Kubernetes, also to those who speak to it"]
    with pytest.raises(CoveError, match="would both be 'my-db'"):
        Made({"services": {"my_db": {"image": "a"}, "my-db": {"image": "a"}}})


def test_labels_are_annotations() -> None:
    made = web(labels={"com.example/x": "any text, with spaces"}, annotations={"b": "c"})
    assert made.one("Deployment", "web")["metadata"]["annotations"] == {
        "com.example/x": "any text, with spaces",
        "b": "c",
    }


def test_the_hosts_namespaces() -> None:
    pod = web(network_mode="host", pid="host", ipc="host").pod()
    assert (pod["hostNetwork"], pod["hostPID"], pod["hostIPC"], pod["dnsPolicy"]) == (
        True, True, True, "ClusterFirstWithHostNet",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ulimits": {"nofile": 10}}, "ulimits"),
        ({"init": True}, "init"),
        ({"devices": [{"source": "/dev/fuse"}]}, "devices"),
        ({"network_mode": "service:db"}, "network mode service:db"),
        (
            {"user": "nobody"},
            "user 'nobody': Kubernetes takes numbers only, up to 2147483647; the image's own user counts",
        ),
        (
            {"user": "\u00b2"},
            "user '\u00b2': Kubernetes takes numbers only, up to 2147483647; the image's own user counts",
        ),
        (
            {"user": "1:" + "9" * 5000},
            f"user '1:{'9' * 5000}': Kubernetes takes numbers only, up to 2147483647; the image's own user counts",
        ),
        (
            {"user": "2147483648"},
            "user '2147483648': Kubernetes takes numbers only, up to 2147483647; the image's own user counts",
        ),
        ({"group_add": ["4294967295"]}, "group '4294967295': Kubernetes takes numbers only, up to 2147483647"),
        ({"security_opt": ["label=type:x"]}, "security option label=type:x"),
        ({"deploy": {"mode": "global"}}, "deploy.mode global: it has 1 of it"),
        ({"deploy": {"update_config": {"parallelism": 1}}}, "deploy.update_config"),
        ({"networks": {"front": None}}, "the parting of networks: all pods of a namespace reach each other"),
        ({"something_of_tomorrow": 1}, "something_of_tomorrow"),
        ({"container_name": "shop_web"}, "the name shop_web: it is shop-web in Kubernetes"),
        ({"hostname": "box.example.com"}, "the host name box.example.com: it is box-example-com in Kubernetes"),
        ({"extra_hosts": ["h=host-gateway"]}, "extra host h: a cluster has no host-gateway"),
        ({"tmpfs": ["/run:size=1m"]}, "options of the tmpfs at /run: size=1m"),
        ({"entrypoint": []}, "the empty entrypoint, without a command: the image's own is run"),
    ],
)
def test_what_cannot_be_carried_is_named(given: Object, told: str) -> None:
    assert web(**given).notes == [f"web: {told}"]


def test_an_internal_network_is_told() -> None:
    services = {"web": {"image": "a", "networks": {"default": None}}}
    made = Made({"services": services, "networks": {"default": {"name": "shop_default", "internal": True}}})
    assert made.notes == ["network default: internal: what is on it reaches the world outside in a cluster"]


def test_what_is_said_of_compose_itself_is_no_loss() -> None:
    made = web(**{"x-mine": {"a": 1}, "develop": {"watch": []}, "profiles": ["p"], "attach": False, "logging": None})
    assert made.notes == []


def test_an_image_that_is_built_here_is_told() -> None:
    made = Made({"services": {"web": {"build": {"context": "."}}}})
    assert made.container()["image"] == "shop-web"
    assert "shop-web is here alone" in made.remarks[0]


def test_an_image_that_is_built_here_is_called_after_the_project() -> None:
    config = {"name": "my_shop", "services": {"web": {"build": {"context": "."}}}}
    made = compose.application(config, "other", Binds("refuse"))
    assert (made.name, made.workloads[0].image) == ("other", "my_shop-web")


def test_files_of_this_computer_are_refused_all_at_once() -> None:
    mount = [{"type": "bind", "source": "/here", "target": "/there"}]
    with pytest.raises(CoveError) as caught:
        Made({"services": {name: {"image": "a", "volumes": mount} for name in ("a", "b")}})
    assert "a: /here at /there\nb: /here at /there" in caught.value.message
    assert "--bind-mounts configmap" in caught.value.hint


def test_small_files_of_this_computer_go_along_as_a_config_map(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.conf").write_text("a")
    (folder / "sub/b.sh").write_text("b")
    (folder / "sub/b.sh").chmod(0o755)
    mounts = [
        {"type": "bind", "source": str(folder), "target": "/etc/conf"},
        {"type": "bind", "source": str(folder / "a.conf"), "target": "/etc/a.conf", "read_only": True},
    ]
    made = Made({"services": {"web": {"image": "a", "volumes": mounts}}}, binds="configmap")
    whole, single = sorted(made.names("ConfigMap"), key=lambda name: "a-conf" in name)
    assert made.one("ConfigMap", whole)["data"] == {"a.conf": "a", "sub__b.sh": "b"}
    assert made.one("ConfigMap", single)["data"] == {"content": "a"}
    volumes = {one["name"]: one for one in made.pod()["volumes"]}
    at = {one["mountPath"]: (volumes[one["name"]]["configMap"], one) for one in made.container()["volumeMounts"]}
    assert at["/etc/conf"][0]["items"] == [
        {"key": "a.conf", "path": "a.conf"},
        {"key": "sub__b.sh", "path": "sub/b.sh", "mode": 0o755},
    ]
    assert at["/etc/a.conf"][1]["subPath"] == "content"
    assert all(mount["readOnly"] for _, mount in at.values())
    assert len(made.remarks) == 2


def test_what_no_config_map_holds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    for source, why in (
        (tmp_path / "large", "more than the 1 MiB"),
        (tmp_path / "none", "No such file"),
        (Path("/dev/null"), "neither"),
    ):
        mounts = [{"type": "bind", "source": str(source), "target": "/x"}]
        with pytest.raises(CoveError, match=why):
            Made({"services": {"web": {"image": "a", "volumes": mounts}}}, binds="configmap")


def carried(folder: Path) -> Made:
    mounts = [{"type": "bind", "source": str(folder), "target": "/x"}]
    return Made({"services": {"web": {"image": "a", "volumes": mounts}}}, binds="configmap")


def test_links_within_a_folder_go_along_and_others_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("a")
    (folder / "link").symlink_to("sub/file")
    made = carried(folder)
    (name,) = made.names("ConfigMap")
    assert made.one("ConfigMap", name)["data"] == {"link": "a", "sub__file": "a"}
    (tmp_path / "secret").write_text("s")
    (folder / "out").symlink_to("../secret")
    with pytest.raises(CoveError, match="out is a link that leads out of"):
        carried(folder)
    (folder / "out").unlink()
    (folder / "folder").symlink_to("sub")
    with pytest.raises(CoveError, match="folder is a link to a folder"):
        carried(folder)


def test_a_folder_of_which_not_everything_can_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        # Tests may be root's, whom nothing is closed to.
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(CoveError, match="closed: Permission denied"):
        carried(tmp_path)


@pytest.mark.parametrize("section", ["configs", "secrets"])
def test_a_secret_or_config_that_no_object_holds_is_refused(tmp_path: Path, section: str) -> None:
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    for file, why in ((tmp_path / "large", "large has more than the 1 MiB"), (Path("/dev/zero"), "is no file")):
        config = {"services": {"web": {"image": "a"}}, section: {"one": {"file": str(file)}}}
        with pytest.raises(CoveError, match=why):
            Made(config)


def test_files_of_this_computer_can_be_left_out() -> None:
    mounts = [{"type": "bind", "source": "/here", "target": "/there"}]
    made = Made({"services": {"web": {"image": "a", "volumes": mounts}}}, binds="ignore")
    assert made.notes == ["web: the mount of /here at /there: nothing is there"]
    assert "volumeMounts" not in made.container()


def test_an_ingress_leads_hosts_to_services() -> None:
    config = {"services": {"web": {"image": "a", "expose": ["80", "81"]}, "api": {"image": "b", "expose": ["90"]}}}
    routes = (Route("shop.example", "web", 80), Route("api.shop.example", "api"))
    made = Made(config, Options(routes=routes, ingress_class="nginx", namespace="here"))
    ingress = made.one("Ingress", "shop")
    assert ingress["spec"]["ingressClassName"] == "nginx"
    backends = [rule["http"]["paths"][0]["backend"]["service"] for rule in ingress["spec"]["rules"]]
    assert backends == [{"name": "web", "port": {"number": 80}}, {"name": "api", "port": {"number": 90}}]
    assert all(one["metadata"]["namespace"] == "here" for one in made.objects)
    for route, why in ((Route("h", "web"), "which TCP port"), (Route("h", "none"), "there is no service none")):
        with pytest.raises(CoveError, match=why):
            Made(config, Options(routes=(route,)))


def test_the_same_file_makes_the_same_manifests() -> None:
    services: Object = {name: {"image": name, "environment": {"B": "2", "A": "1"}} for name in ("b", "a", "c")}
    turned = dict(reversed(services.items()))
    assert Made({"services": services}).objects == Made({"services": turned}).objects


@pytest.mark.skipif(accepted.kubectl() is None, reason="there is no kubectl")
def test_kubectl_reads_what_is_written(tmp_path: Path) -> None:
    config = {
        "services": {
            "web": {
                "image": "a", "command": ["sh", "-c", "a: b\n- c"], "environment": {"N": "5", "F": "1e3", "Y": "y"},
                "ports": [{"target": 80, "published": "8080"}], "volumes": [{"type": "volume", "source": "d", "target": "/d"}],
                "healthcheck": {"test": ["CMD", "true"], "start_period": "3s"}, "user": "1", "mem_limit": "1000",
                "configs": [{"source": "c", "target": "/c"}], "secrets": [{"source": "s"}],
            },
            "job": {"image": "b", "restart": "no"},
        },
        "volumes": {"d": None}, "configs": {"c": {"content": "1"}}, "secrets": {"s": {"content": "2"}},
    }  # fmt: skip
    made = Made(config, Options(routes=(Route("h.example", "web"),)))
    kinds = {"ConfigMap", "Secret", "PersistentVolumeClaim", "Service", "Deployment", "Job", "Ingress"}
    assert {one["kind"] for one in made.objects} == kinds
    accepted.check_by_kubectl(made.objects, tmp_path)


def test_a_nodes_ports_are_free_for_the_new_pod() -> None:
    """On one node two pods cannot have them, and a new one would end again and again for ever."""
    assert web(network_mode="host").one("Deployment", "web")["spec"]["strategy"] == {"type": "Recreate"}
