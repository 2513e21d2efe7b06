"""Volumes on an NFS server: mounted by the machine's kernel, whose server here is a process of the tests on the same machine."""

from __future__ import annotations

import base64
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from isolation_support import making, output

pytestmark = pytest.mark.root

SERVER = Path(__file__).with_name("nfs_server.py")


@pytest.fixture
def options(request: pytest.FixtureRequest, engine: Any, scratch: Path) -> Iterator[dict[str, str]]:
    """Of a volume that is the folder `scratch`/shared, served on the engine's machine by a name."""
    engine.sh("modprobe nfs 2>/dev/null || true")
    if "nfs\n" not in engine.read("/proc/filesystems") and request.config.getoption("--native"):
        pytest.skip("this computer's kernel has no NFS; the VM's has")
    code = base64.b64encode(SERVER.read_bytes()).decode()
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port = any_port.getsockname()[1]
    engine.sh(
        f"mkdir {scratch}/shared; echo {code} | base64 -d >{scratch}/server.py; cd /;"
        f"python3 {scratch}/server.py {scratch}/shared {port} >{scratch}/log 2>&1 </dev/null & echo $! >{scratch}/pid"
    )
    engine.sh(
        f"until grep -q serving {scratch}/log; do kill -0 $(cat {scratch}/pid) || {{ cat {scratch}/log; exit 1; }}; done"
    )
    words = (
        f"addr=localhost,nolock,vers=3,proto=tcp,port={port},mountproto=tcp,mountport={port},soft,timeo=50,retrans=1"
    )
    yield {"type": "nfs", "device": ":/shared", "o": words}
    engine.sh(f"kill $(cat {scratch}/pid)")


def test_containers_share_a_servers_folder(
    engine: Any, docker_client: Any, scratch: Path, options: dict[str, str]
) -> None:
    name = f"v-{uuid.uuid4().hex[:12]}"
    volume = docker_client.volumes.create(name, driver_opts=options)
    mounted = f"grep -c ' {engine.root}/volumes/{name}/_data ' /proc/mounts || true"
    engine.sh(f"echo before >{scratch}/shared/f")
    with making(docker_client) as make:
        holder = make(volumes=[f"{name}:/d"])
        assert engine.sh(mounted) == "1\n"
        script = "grep -o ' /d nfs ' /proc/mounts; cat /d/f; mkdir /d/new; echo after >/d/new/g; mv /d/f /d/h; ls /d"
        assert output(make("sh", "-c", script, volumes=[f"{name}:/d"])) == " /d nfs \nbefore\nh\nnew\n"
        assert engine.sh(f"cat {scratch}/shared/new/g {scratch}/shared/h") == "after\nbefore\n"
        engine.kill()  # what is mounted stays for the container that runs
        engine.start()
        assert engine.sh(mounted) == "1\n"
        assert holder.exec_run(["cat", "/d/new/g"]).output == b"after\n"
    assert engine.sh(mounted) == "0\n"
    volume.remove()
    assert engine.names(scratch / "shared") == ["h", "new"]


def test_a_server_that_is_not_there(engine: Any, docker_client: Any, options: dict[str, str]) -> None:
    with making(docker_client) as make:
        for text, problem in (
            (
                "addr=no.such.host.invalid,nolock",
                "error resolving passed in network volume address: lookup no.such.host.invalid",
            ),
            (
                "addr=127.0.0.1,nolock,vers=3,proto=tcp,mountproto=tcp,mountport=1,port=1,soft,retry=0",
                "connection refused",
            ),
        ):
            volume = docker_client.volumes.create(driver_opts={**options, "o": text})
            container = make(volumes=[f"{volume.name}:/d"], start=False)
            with pytest.raises(docker.errors.APIError) as refused:
                container.start()
            place = engine.root / "volumes" / volume.name / "_data"
            assert refused.value.explanation.startswith(f"error while mounting volume '{place}': ")
            assert problem in refused.value.explanation
            container.remove(v=True)
            volume.remove(force=True)
