"""What `cove kube generate` writes of a compose file, `cove kube play` starts."""

from __future__ import annotations

from typing import Any

from cove.kube.generate import compose, manifests, written
from cove.kube.generate.binds import Binds
from cove.kube.generate.manifests import Options
from play_support import plan

PORT = {"mode": "ingress", "target": 80, "published": "8080", "protocol": "tcp"}
CHECK = {"test": ["CMD", "true"], "interval": "5s", "timeout": "3s", "retries": 3, "start_period": "20s"}
CONFIG: dict[str, Any] = {
    "name": "shop",
    "services": {
        "web": {
            "image": "nginx:1.27",
            "ports": [PORT],
            "environment": {"DATABASE": "postgres://db:5432", "DOLLARS": "$(x)"},
            "healthcheck": CHECK,
            "deploy": {"replicas": 2, "resources": {"limits": {"cpus": 0.5, "memory": "134217728"}}},
            "configs": [{"source": "site", "target": "/etc/nginx/conf.d/site.conf"}],
            "command": ["nginx", "-g", "daemon off;"],
            "read_only": True,
            "cap_drop": ["ALL"],
            "init": True,
            "stop_grace_period": "5s",
            "extra_hosts": ["elsewhere=192.0.2.1"],
        },
        "db": {
            "image": "postgres:16",
            "secrets": [{"source": "password", "target": "/run/secrets/password"}],
            "volumes": [{"type": "volume", "source": "data", "target": "/var/lib/data", "volume": {}},
                        {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": "1048576"}}],
            "user": "70:70",
            "expose": ["5432"],
        },
        "migrate": {"image": "shop", "restart": "no", "command": ["migrate"]},
    },
    "configs": {"site": {"name": "shop_site", "content": "server {}"}},
    "secrets": {"password": {"name": "shop_password", "environment": "PASSWORD"}},
    "volumes": {"data": {"name": "shop_data"}},
}  # fmt: skip


def test_a_compose_file_comes_back(monkeypatch: Any) -> None:
    monkeypatch.setenv("PASSWORD", "swordfish")
    choice = Binds("refuse")
    application = compose.application(CONFIG, "", choice)
    for service in ("ClusterIP", "LoadBalancer"):
        text = written.documents(manifests.objects(application, Options(service_type=service)))
        made = plan(text)
        assert {each.owner for each in made.all_pods} >= {"Deployment/web", "Deployment/db"}
        web = next(each for each in made.pods if each.name == "web-1")
        assert "web" in web.pause["NetworkingConfig"]["EndpointsConfig"]["kube-app"]["Aliases"]
        assert "DOLLARS=$(x)" in web.containers[0].body["Env"]
        assert web.containers[0].body["Healthcheck"]["Test"] == ["CMD", "true"]
        assert [bool(each.published) for each in made.pods if each.name == "web-1"] == [service == "LoadBalancer"]
    assert [each.name for each in made.claims] == [each.name for each in application.volumes.values()]
