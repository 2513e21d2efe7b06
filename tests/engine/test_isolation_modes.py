"""--pid, --ipc, --uts, --network and --cgroupns: what is shared, what is not, and dockerd's words for what cannot be."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import docker
import pytest

from isolation_support import Make, output, refusal

pytestmark = pytest.mark.root


def links(engine: Any, kind: str, *containers: Any) -> list[str]:
    """The machine's own namespace, and those of containers."""
    for container in containers:
        container.reload()
    processes = ["self", *(str(container.attrs["State"]["Pid"]) for container in containers)]
    return str(engine.sh("; ".join(f"readlink /proc/{pid}/ns/{kind}" for pid in processes))).split()


@pytest.mark.parametrize(
    ("option", "kind"), [("pid_mode", "pid"), ("ipc_mode", "ipc"), ("uts_mode", "uts"), ("cgroupns", "cgroup")]
)
def test_host_is_the_machines_own_namespace_and_the_default_is_not(
    engine: Any, make: Make, option: str, kind: str
) -> None:
    machines, shared, own = links(engine, kind, make(**{option: "host"}), make())
    assert machines == shared != own


def test_a_privileged_container_has_its_own_cgroup_namespace(engine: Any, make: Make) -> None:
    container = make(privileged=True)
    machines, own = links(engine, "cgroup", container)
    assert machines != own
    assert container.attrs["HostConfig"]["CgroupnsMode"] == "private"


def test_the_processes_of_another_container_are_seen_and_can_be_told(make: Make) -> None:
    other = make("sh", "-c", "sleep 4711 & wait $!; exit $?")
    other.exec_run(["sh", "-c", "until pidof sleep; do :; done"])
    seen = output(make("ps", "-o", "args", pid_mode=f"container:{other.name}"))
    assert "sleep 4711" in seen
    make("sh", "-c", "kill -9 $(pidof sleep)", pid_mode=f"container:{other.id}").wait(timeout=30)
    assert other.wait(timeout=30)["StatusCode"] == 137


def test_shared_memory_of_a_shareable_container(engine: Any, make: Make) -> None:
    donor = make("sh", "-c", "echo from the donor > /dev/shm/note; exec sleep 300", ipc_mode="shareable", shm_size="2m")
    donor.exec_run(["sh", "-c", "until [ -s /dev/shm/note ]; do :; done"])
    guest = make("sh", "-c", "cat /dev/shm/note; grep -c size=2048k /proc/mounts; echo back > /dev/shm/answer",
                 ipc_mode=f"container:{donor.name}", shm_size="9m")  # fmt: skip
    assert output(guest) == "from the donor\n1\n"
    assert donor.exec_run(["cat", "/dev/shm/answer"]).output == b"back\n"
    guest = make(ipc_mode=f"container:{donor.name}")
    _, own, joined = links(engine, "ipc", donor, guest)
    assert own == joined
    assert guest.attrs["HostConfig"]["IpcMode"] == f"container:{donor.id}"


def test_ipc_none_has_no_shared_memory_folder_but_its_own_namespace(engine: Any, make: Make) -> None:
    container = make("sh", "-c", "ls -d /dev/shm 2>&1 | tail -1; exec sleep 300", ipc_mode="none")
    machines, own = links(engine, "ipc", container)
    assert machines != own
    code, text = container.exec_run(["ls", "/dev/shm"])
    assert code != 0 and b"No such file" in text


@pytest.mark.parametrize("mode", ["private", "none", ""])
def test_memory_that_is_not_shareable(make: Make, mode: str) -> None:
    donor = make(ipc_mode=mode)
    guest = make(ipc_mode=f"container:{donor.name}", start=False)
    words = rf"failed to join IPC namespace: container {donor.id}: non-shareable IPC \(hint: use IpcMode:shareable"
    with pytest.raises(docker.errors.APIError, match=words) as caught:
        guest.start()
    assert caught.value.status_code == 400


def test_a_container_that_does_not_run_cannot_be_joined(make: Make) -> None:
    still = make(start=False)
    for option, words, status in (
        ("pid_mode", f"failed to join PID namespace: container {still.id} is not running", 500),
        ("ipc_mode", f"failed to join IPC namespace: container {still.id} is not running", 500),
        ("network_mode", f"cannot join network of a non running container: {still.id}", 409),
    ):
        guest = make(start=False, **{option: f"container:{still.name}"})
        with pytest.raises(docker.errors.APIError, match=words) as caught:
            guest.start()
        assert caught.value.status_code == status


def test_a_network_that_is_joined_brings_its_names(engine: Any, make: Make) -> None:
    donor = make(hostname="donor", domainname="example.org")
    text = output(make("sh", "-c", "hostname; hostname -f; cat /etc/hostname", network_mode=f"container:{donor.name}"))
    assert text.split() == ["donor", "donor.example.org", "donor"]
    guest = make(network_mode=f"container:{donor.name}")
    _, own, joined = links(engine, "net", donor, guest)
    assert own == joined
    _, own, joined = links(engine, "uts", donor, guest)
    assert own != joined


def test_the_machines_network_brings_its_name(engine: Any, make: Make) -> None:
    assert output(make("hostname", network_mode="host")).strip() == engine.sh("hostname").strip()


@pytest.mark.parametrize(
    ("host", "config", "words"),
    [
        ({"IpcMode": "foo"}, {}, "invalid IPC mode: foo"),
        ({"PidMode": "foo"}, {}, "invalid PID mode: foo"),
        ({"PidMode": "container:"}, {}, "invalid PID mode: container:"),
        ({"UTSMode": "container:x"}, {}, "invalid UTS mode: container:x"),
        ({"CgroupnsMode": "foo"}, {}, "invalid cgroup namespace mode: foo"),
        ({"UsernsMode": "foo"}, {}, "invalid user namespace mode: foo"),
        ({"ShmSize": -1}, {}, "SHM size can not be less than 0"),
        ({"PidMode": "container:nosuch"}, {}, "No such container: nosuch"),
        ({"IpcMode": "container:nosuch"}, {}, "No such container: nosuch"),
        ({"NetworkMode": "container:"}, {}, "Invalid network mode: invalid container format container:<name|id>"),
        ({"UTSMode": "host"}, {"Hostname": "x"}, "conflicting options: hostname and the UTS mode"),
        ({"NetworkMode": "container:x"}, {"Hostname": "x"}, "conflicting options: hostname and the network mode"),
        *(
            ({"ExtraHosts": ["a:::1", "b:host-gateway", entry]}, {}, f'bad format for add-host: "{entry}"')
            for entry in ("", "a", ":1.2.3.4", "a=1.2.3.4")
        ),
        *(
            ({"ExtraHosts": [f"a:{address}"]}, {}, f'invalid IP address in add-host: "{address}"')
            for address in ("", "b", "[::1]", "1.2.3.4:5", "01.2.3.4", "fe80::1%eth0")
        ),
        ({"NetworkMode": "container:x", "Dns": ["1.1.1.1"]}, {}, "conflicting options: dns and the network mode"),
        (
            {"NetworkMode": "container:x", "ExtraHosts": ["a:1.1.1.1"]}, {},
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            {"NetworkMode": "container:x", "PortBindings": {"80/tcp": [{"HostPort": "80"}]}}, {},
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            {"NetworkMode": "container:x"}, {"ExposedPorts": {"80/tcp": {}}},
            "conflicting options: port exposing and the container type network mode",
        ),
        (
            {"NetworkMode": "host", "Links": ["a:b"]}, {},
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_created(docker_client: Any, host: dict[str, Any], config: dict[str, Any], words: str) -> None:
    assert refusal(docker_client, host, **config) == (400, words)


def test_ports_are_discarded_with_a_warning_on_the_machines_network(engine: Any) -> None:
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    words = ["docker", "run", "--rm", "--network", "host", "-p", "80:80", "busybox", "true"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (
        0,
        "WARNING: Published ports are discarded when using host network mode\n",
    )


def test_a_domain_name_needs_its_own_names(make: Make) -> None:
    container = make(start=False, uts_mode="host", domainname="example.org")
    with pytest.raises(
        docker.errors.APIError, match=r'sysctl "kernel.domainname" is not in a separate kernel namespace'
    ):
        container.start()
