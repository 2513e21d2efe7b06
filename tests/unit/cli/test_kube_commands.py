"""`cove kube generate`, `deploy` and `down`: what they ask the engine, docker compose and the cluster, and what they print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cove.cli import kube_images
from cove.cli import main as cli
from cove.cli.errors import CliError
from model_cluster import Model, serving
from told_engine import COVE, Engine, engine_at

Object = dict[str, Any]
Run = Callable[..., tuple[int, str, str]]

LIMIT_S = 120
DIGEST = "sha256:" + "d" * 64
CONFIG: Object = {
    "name": "shop",
    "services": {
        "web": {
            "build": {"context": "."},
            "ports": [{"target": 80, "published": "0", "protocol": "tcp"}],
            "init": True,
        },
        "db": {"image": "postgres:16", "volumes": [{"type": "volume", "source": "data", "target": "/data"}]},
    },
    "volumes": {"data": None},
}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with engine_at(tmp_path / "docker.sock") as made:
        monkeypatch.setenv("COVE_HOST", made.url)
        monkeypatch.setenv("COVE_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / ".docker"))
        yield made


@pytest.fixture
def run(engine: Engine, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    def do(*words: str) -> tuple[int, str, str]:
        statuses: list[int] = []
        monkeypatch.setattr(cli.os, "_exit", statuses.append)
        cli.main(["kube", *words])
        said = capfdbinary.readouterr()
        return statuses[0], said.out.decode(), said.err.decode()

    return do


@pytest.fixture
def compose(tmp_path: Path) -> Callable[[Object], Path]:
    """Puts a docker compose in place that says this of its file; returns where it writes what it was asked."""

    def make(config: Object) -> Path:
        plugin, asked = tmp_path / ".docker/cli-plugins/docker-compose", tmp_path / "asked"
        plugin.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "config.json").write_text(json.dumps(config))
        plugin.write_text(f'#!/bin/sh\necho "$*" >{asked}\ncat {tmp_path}/config.json\n')
        plugin.chmod(0o755)
        return asked

    return make


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Model, str]]:
    with serving(tmp_path) as (model, kubeconfig):
        yield model, str(kubeconfig)


def test_generate_writes_yaml_and_tells_before_it_what_is_lost(run: Run, compose: Any) -> None:
    asked = compose(CONFIG)
    words = ("-f", "a.yaml", "-f", "b.yaml", "-p", "shop", "--profile", "x", "--env-file", "e")
    status, out, err = run("generate", *words, "--namespace", "here")
    assert status == 0
    documents = list(yaml.safe_load_all(out))
    assert [one["kind"] for one in documents] == [
        "PersistentVolumeClaim",
        "Service",
        "Service",
        "Deployment",
        "Deployment",
    ]
    assert {one["metadata"]["namespace"] for one in documents} == {"here"}
    assert "not carried: web: init\n" in err
    assert "note: web: image shop-web is here alone: a cluster gets it of a registry" in err
    told = "--file a.yaml --file b.yaml --profile x --env-file e --project-name shop config --format json"
    assert asked.read_text() == f"{told}\n"


def test_generate_as_json_and_into_a_file(run: Run, compose: Any, tmp_path: Path) -> None:
    compose(CONFIG)
    file = tmp_path / "out.json"
    assert run("generate", "--json", "-o", str(file))[:2] == (0, "")
    document = json.loads(file.read_text())
    assert (document["application"], document["namespace"]) == ("shop", None)
    assert {"workload": "web", "text": "init", "lost": True} in document["notes"]
    assert {one["kind"] for one in document["objects"]} == {"PersistentVolumeClaim", "Service", "Deployment"}


def test_a_port_of_this_computer_alone_is_told_when_others_become_a_load_balancers(run: Run, compose: Any) -> None:
    ports = [{"target": 80, "published": "8080", "protocol": "tcp", "host_ip": "127.0.0.1"}]
    compose({"name": "shop", "services": {"web": {"image": "a", "ports": ports}}})
    told = "note: web: 80/tcp: published for this computer alone, and not by a LoadBalancer\n"
    status, out, err = run("generate", "--service-type", "LoadBalancer", "--strict")
    assert (status, "LoadBalancer" in out, err) == (0, False, told)
    assert run("generate")[2] == ""


def test_strict_writes_nothing_when_something_is_lost(run: Run, compose: Any, tmp_path: Path) -> None:
    compose(CONFIG)
    file = tmp_path / "out.yaml"
    status, out, err = run("generate", "--strict", "-o", str(file))
    assert (status, out, file.exists()) == (1, "", False)
    assert "1 thing cannot be carried" in err


def test_generate_of_a_container(run: Run, engine: Engine) -> None:
    container = {
        "Id": "c" * 64, "Name": "/web", "Image": "sha256:1", "Config": {"Image": "nginx"}, "HostConfig": {}, "Mounts": [],
        "NetworkSettings": {},
    }  # fmt: skip
    engine.answers["GET", "/containers/web/json"] = (200, container)
    engine.answers["GET", "/images/sha256:1/json"] = (200, {"Config": {}, "RepoDigests": ["nginx@x"]})
    status, out, err = run("generate", "web", "--name", "site", "--ingress-class", "x", "--volume-size", "2Gi")
    assert (status, err) == (0, "")
    assert {one["metadata"]["labels"]["cove.dev/application"] for one in yaml.safe_load_all(out)} == {"site"}


def test_an_image_that_is_here_alone_is_noted(run: Run, engine: Engine, compose: Any) -> None:
    container = {
        "Id": "c" * 64, "Name": "/web", "Image": "sha256:1", "Config": {"Image": "mine"}, "HostConfig": {}, "Mounts": [],
        "NetworkSettings": {},
    }  # fmt: skip
    engine.answers["GET", "/containers/web/json"] = (200, container)
    engine.answers["GET", "/images/sha256:1/json"] = (200, {"Config": {}, "RepoDigests": []})
    compose({"name": "shop", "services": {"web": {"image": "cove/starter"}, "db": {"image": "postgres:16"}}})
    for words, image in ((["web"], "mine"), ([], "cove/starter")):
        status, _, err = run("generate", *words, "--strict")
        told = (
            f"note: web: image {image} is here alone: a cluster gets it of a registry (cove kube deploy --registry)\n"
        )
        assert (status, err) == (0, told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("web", "-f", "x"), "name containers, or a compose file with -f, not both"),
        (("--bind-mounts", "x"), "unknown --bind-mounts: x: it must be one of refuse, configmap, ignore"),
        (("--service-type", "x"), "unknown --service-type: x"),
        (("--ingress", "web"), "--ingress web: it is HOST=SERVICE or HOST=SERVICE:PORT"),
        (("--ingress", "Shop.example=web"), "--ingress Shop.example=web: 'Shop.example' is no name of a host"),
        (("--volume-size", "1GB"), "--volume-size: '1GB' is no quantity, as 500m, 128Mi or 2 are"),
        (("--ingress", "1.2.3.4=web"), "--ingress 1.2.3.4=web: '1.2.3.4' is no name of a host"),
        (("--ingress", "010.0.0.1=web"), "--ingress 010.0.0.1=web: '010.0.0.1' is no name of a host"),
        (("--volume-size", "\uff11Gi"), "--volume-size: '\uff11Gi' is no quantity, as 500m, 128Mi or 2 are"),
        (("--volume-size", "0"), "--volume-size: '0' is nothing"),
        (("--ingress", "a=web:\u00b2"), "--ingress a=web:\u00b2: it is HOST=SERVICE or HOST=SERVICE:PORT"),
    ],
)
def test_what_is_asked_for_wrongly(run: Run, words: tuple[str, ...], told: str) -> None:
    status, out, err = run("generate", *words)
    assert (status, out) == (1, "")
    assert err.startswith(f"cove: {told}")


def test_what_docker_compose_says_is_enough(run: Run, tmp_path: Path, compose: Any) -> None:
    compose({})
    plugin = tmp_path / ".docker/cli-plugins/docker-compose"
    plugin.write_text("#!/bin/sh\necho no configuration file >&2\nexit 14\n")
    assert run("generate") == (1, "", "no configuration file\n")


@pytest.mark.parametrize(
    ("module", "words"), [("yaml", ("generate",)), ("kubernetes", ("deploy",)), ("kubernetes", ("down", "x"))]
)
def test_how_to_install_what_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch, module: str, words: tuple[str, ...]
) -> None:
    from cove.kube import installed

    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == module else object())
    monkeypatch.setattr(installed.pip, "command", lambda package: f"pip install {package}")
    status, out, err = run(*words)
    assert (status, out) == (1, "")
    assert "which Cove's Python does not have" in err
    assert "install it: pip install " in err
    assert "extra [kube]" in err


def test_nothing_else_imports_what_few_have() -> None:
    names = "', '".join(cli.VERBS)
    code = f"""
import sys
from cove.cli import main
for name in ['{names}']:
    main.load(main.VERBS[name])
main.own('kube'); main.own('machine')
import cove.cli.kube_sources, cove.kube.generate.compose, cove.kube.generate.containers, cove.kube.generate.manifests
assert not {{'kubernetes', 'yaml'}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT_S)


def with_registry(engine: Engine) -> None:
    """An engine that has the image web, and pushes it."""
    place = "registry.example:5000/team/shop-web"
    engine.answers["GET", "/images/shop-web/json"] = (200, {"Id": "sha256:1"})
    engine.answers["POST", "/images/shop-web/tag"] = (201, b"")
    pushed = [{"status": "Pushed", "id": "a"}, {"aux": {"Tag": "latest", "Digest": DIGEST, "Size": 1}}]
    engine.answers["POST", f"/images/{place}/push"] = (
        200,
        b"".join(json.dumps(one).encode() + b"\r\n" for one in pushed),
    )
    engine.answers["DELETE", f"/images/{place}:latest"] = (200, [{"Untagged": f"{place}:latest"}])


def test_deploy_pushes_applies_and_waits_and_down_removes(
    run: Run, compose: Any, engine: Engine, cluster: tuple[Model, str]
) -> None:
    model, kubeconfig = cluster
    compose(CONFIG)
    with_registry(engine)
    where = ("--kubeconfig", kubeconfig, "--namespace", "new", "--json")
    status, out, err = run("deploy", "-d", "--registry", "registry.example:5000/team", *where)
    assert status == 0, err
    document = json.loads(out)
    pinned = f"registry.example:5000/team/shop-web@{DIGEST}"
    assert document["images"] == [{"image": "shop-web", "pushed": pinned}]
    assert (document["context"], document["namespace"], document["forwards"]) == ("model", "new", [])
    containers = model.get("Deployment", "web", "new")["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == pinned
    assert "image postgres:16 is not here: the cluster pulls it where it is" in err
    assert "Deployment web runs" in err
    # The name that the push needed is gone again.
    assert [one.method for one in engine.requests if one.path.endswith(":latest")] == ["DELETE"]
    status, out, err = run("down", "shop", *where)
    assert (status, json.loads(out)["kept"]) == (0, [{"kind": "PersistentVolumeClaim", "name": "data"}])
    assert run("down", "shop", "--volumes", *where)[0] == 0
    assert not model.has("Namespace", "new", "")


def test_a_cluster_that_does_not_answer_is_told_before_anything_is_pushed(
    run: Run, compose: Any, engine: Engine, cluster: tuple[Model, str]
) -> None:
    compose(CONFIG)
    with_registry(engine)
    config = json.loads(Path(cluster[1]).read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    Path(cluster[1]).write_text(json.dumps(config))
    status, _, err = run("deploy", "--kubeconfig", cluster[1], "--registry", "registry.example:5000/team")
    assert (status, "the cluster model does not answer" in err) == (1, True)
    assert engine.requests == []


def test_an_image_that_was_built_here_wants_a_registry(run: Run, compose: Any, cluster: tuple[Model, str]) -> None:
    compose(CONFIG)
    status, out, err = run("deploy", "--kubeconfig", cluster[1])
    assert (status, out) == (1, "")
    assert "the cluster cannot have shop-web" in err
    assert "--registry HOST/PREFIX" in err
    assert cluster[0].of("Deployment") == []


def test_an_image_that_is_yet_to_be_built_is_told(run: Run, compose: Any, cluster: tuple[Model, str]) -> None:
    compose(CONFIG)
    status, _, err = run("deploy", "--kubeconfig", cluster[1], "--registry", "registry.example/team")
    assert (status, "there is no image shop-web" in err, "cove compose build" in err) == (1, True, True)


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("nginx", "r:5000/p/nginx:latest"),
        ("nginx:1.27", "r:5000/p/nginx:1.27"),
        ("ghcr.io/org/app:2", "r:5000/p/org/app:2"),
        (f"nginx@{DIGEST}", "r:5000/p/nginx:sha256-dddddddddddd"),
    ],
)
def test_where_images_are_put(image: str, place: str) -> None:
    assert str(kube_images.target(image, "r:5000/p/")) == place


def test_a_registry_whose_name_cannot_be_one(run: Run, compose: Any, cluster: tuple[Model, str]) -> None:
    compose(CONFIG)
    with pytest.raises(CliError):
        kube_images.target("nginx", "r.example/UPPER")
    assert run("deploy", "--kubeconfig", cluster[1], "--registry", "r.example/UPPER")[0] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a signal to another process")
def test_published_ports_are_on_localhost_until_ctrl_c(
    compose: Any, engine: Engine, cluster: tuple[Model, str], tmp_path: Path
) -> None:
    model, kubeconfig = cluster
    compose({**CONFIG, "services": {"web": {"image": "nginx", "ports": CONFIG["services"]["web"]["ports"]}}})
    words = [*COVE, "kube", "deploy", "--kubeconfig", kubeconfig]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "shop runs in namespace default\n"
            assert process.stdout.readline().endswith(" is web:80\n")
            assert any("Ctrl-C ends the forwarding; cove kube down shop" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()
    assert model.has("Deployment", "web")  # it runs on
