"""--userns-remap: root of a container is nobody of the machine, and sees its image and volumes as it should.

On this computer in any case: the VM's engine has no such option.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from isolation_support import Make, making, output, refusal

pytestmark = pytest.mark.root

FIRST, COUNT = 100_000, 65_536


@pytest.fixture(scope="module")
def remapped(engine_with: Any) -> Iterator[Any]:
    with engine_with("--userns-remap", "default") as made:
        yield made


@pytest.fixture
def client(remapped: Any) -> Iterator[Any]:
    made = docker.DockerClient(remapped.url, timeout=60)
    yield made
    made.close()


@pytest.fixture
def mapped(client: Any) -> Iterator[Make]:
    with making(client) as create:
        yield create


def pid(container: Any) -> int:
    container.reload()
    return int(container.attrs["State"]["Pid"])


def test_root_is_somebody_else_outside(mapped: Make, client: Any) -> None:
    container = mapped()
    assert os.stat(f"/proc/{pid(container)}").st_uid == FIRST
    assert Path(f"/proc/{pid(container)}/uid_map").read_text().split() == ["0", str(FIRST), str(COUNT)]
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{pid(container)}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    assert container.exec_run(["id", "-u"]).output == b"0\n"
    stranger = mapped("sleep", "300", user="1234:1235")
    status = Path(f"/proc/{pid(stranger)}/status").read_text()
    assert f"Uid:\t{FIRST + 1234}\t" in status and f"Gid:\t{FIRST + 1235}\t" in status
    assert "name=userns" in client.info()["SecurityOptions"]


def test_layers_have_their_owners_inside_and_on_disk(mapped: Make, client: Any) -> None:
    container = mapped("sh", "-c", "stat -c %u:%g /bin/busybox; touch /made; chown 5:6 /made; chmod 4755 /made; mkfifo /fifo;"
                       " echo x >> /etc/passwd; rm -r /root; mkdir /root; stat -c %u:%g /made /etc/passwd /root /fifo")  # fmt: skip
    assert output(container).split() == ["0:0", "5:6", "0:0", "0:0", "0:0"]
    # What was written is stored with the container's own ids: an image of it is as without remapping.
    made = os.stat(Path(container.attrs["GraphDriver"]["Data"]["UpperDir"]) / "made")
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (5, 6, 0o4755)


def test_the_image_of_the_same_layers_serves_both_kinds(mapped: Make) -> None:
    for mode in (None, "host"):
        assert output(mapped("stat", "-c", "%u", "/bin/busybox", userns_mode=mode)) == "0\n"


def test_nothing_of_the_machines_root_can_be_changed(mapped: Make, tmp_path: Path) -> None:
    for parent in (*tmp_path.parents, tmp_path):
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    (tmp_path / "secret").write_text("of root")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    script = "cat /data/secret; echo x > /data/secret; touch /data/new; touch /data/open/new && chmod 4755 /data/open/new; true"
    container = mapped("sh", "-c", script, volumes=[f"{tmp_path}:/data"])
    container.wait(timeout=30)
    text = container.logs().decode()
    assert text.count("Permission denied") == 3
    assert (tmp_path / "secret").read_text() == "of root"
    assert os.stat(tmp_path / "open/new").st_uid == FIRST


def test_volumes_are_written_by_root_and_shared_with_those_who_are_not_remapped(mapped: Make) -> None:
    script = "echo by $(id -u) > /data/file; chown 7:8 /data/file; stat -c %u:%g /data/file"
    assert output(mapped("sh", "-c", script, volumes=["shared:/data"])) == "7:8\n"
    text = output(
        mapped("sh", "-c", "cat /data/file; stat -c %u:%g /data/file", volumes=["shared:/data"], userns_mode="host")
    )
    assert text == "by 0\n7:8\n"


def owners(archive: bytes) -> dict[str, tuple[int, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {one.name.rstrip("/"): (one.uid, one.gid) for one in opened}


def test_copies_and_exports_have_the_containers_ids_whether_it_runs_or_not(mapped: Make, tmp_path: Path) -> None:
    volume = f"v-{uuid.uuid4().hex[:12]}"
    (tmp_path / "machines").touch()
    script = "mkdir -p /d/v; touch /d/root /v/root; touch /d/user /v/user; chown 5:6 /d/user /v/user; echo up; exec sleep 300"
    container = mapped("sh", "-c", script, volumes=[f"{volume}:/v", f"{tmp_path}:/b"])
    next(container.logs(stream=True))
    own = {"d": (0, 0), "d/v": (0, 0), "d/root": (0, 0), "d/user": (5, 6)}
    stored = {"v": (0, 0), "v/root": (0, 0), "v/user": (5, 6)}
    running = owners(b"".join(container.export()))
    assert own.items() <= running.items()
    assert owners(b"".join(container.get_archive("/d")[0])) == own
    assert owners(b"".join(container.get_archive("/v")[0])) == stored
    # The machine's root is nobody in there; what is seen of it while the container does not run is in decisions/0018.
    assert owners(b"".join(container.get_archive("/b/machines")[0])) == {"machines": (65534, 65534)}
    whole = owners(b"".join(container.get_archive("/")[0]))
    assert not [name for name in whole if name.strip("/").startswith(("proc/", "sys/", "dev/"))]
    container.kill()
    container.wait(timeout=30)
    assert owners(b"".join(container.export())) == running
    assert owners(b"".join(container.get_archive("/d")[0])) == own
    assert owners(b"".join(container.get_archive("/v")[0])) == stored


def test_copies_into_a_container_have_the_ids_of_the_archive(mapped: Make) -> None:
    def packed(uid: int) -> bytes:
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w") as archive:
            member = tarfile.TarInfo("new/folder/file")
            member.uid, member.gid = uid, uid + 1
            archive.addfile(member)
        return output.getvalue()

    container = mapped()
    for place in ("/running", "/stopped"):
        assert container.exec_run(["mkdir", place]).exit_code == 0
    assert container.put_archive("/running", packed(7))
    with pytest.raises(docker.errors.APIError, match="Container ID 70000 cannot be mapped to a host ID"):
        container.put_archive("/running", packed(70_000))
    container.stop(timeout=0)
    assert container.put_archive("/stopped", packed(7))
    container.start()
    words = [
        "stat",
        "-c",
        "%u:%g",
        *(f"{place}/new{rest}" for place in ("/running", "/stopped") for rest in ("", "/folder", "/folder/file")),
    ]
    assert container.exec_run(words).output.decode().split() == ["0:0", "0:0", "7:8"] * 2


def test_capabilities_hold_inside_and_nowhere_else(mapped: Make) -> None:
    container = mapped(
        cap_add=["SYS_ADMIN", "NET_ADMIN", "SYS_TIME", "SYS_MODULE"], security_opt=["seccomp=unconfined"]
    )

    def works(script: str) -> bool:
        return bool(container.exec_run(["sh", "-c", script]).exit_code == 0)

    assert works("mount -t tmpfs none /tmp")
    assert works("ip link add type dummy || ip addr add 10.9.9.9/32 dev lo")
    assert works("ping -c 1 -W 2 127.0.0.1")
    assert works("date -s 2001-01-01 2>&1 | grep 'Operation not permitted'")
    assert not works("mknod /tmp/disk b 7 0 && head -c 1 /tmp/disk")
    assert not works("echo 1 > /proc/sys/vm/drop_caches")
    # Not even as the machine's id of root, which is nobody here.
    assert not works("cat /proc/1/root/proc/kcore | head -c 1 | grep .")


def test_a_user_can_write_to_its_own_standard_output(mapped: Make) -> None:
    assert output(mapped("sh", "-c", "echo again > /dev/stdout", user="nobody")) == "again\n"
    container = mapped()
    assert container.exec_run(["sh", "-c", "echo again > /dev/stdout"], user="nobody").output == b"again\n"


def test_terminals(mapped: Make) -> None:
    container = mapped("sh", "-c", "tty; stat -c %u $(tty)", tty=True, user="1000")
    assert output(container).split() == ["/dev/pts/0", "1000"]


def test_published_ports_answer_at_once(mapped: Make, remapped: Any) -> None:
    script = "while true; do echo served | nc -l -p 80; done"
    container = mapped("sh", "-c", script, user="1000", ports={"80/tcp": None})
    container.reload()
    port = int(container.attrs["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    address = container.attrs["NetworkSettings"]["IPAddress"]
    fetch = "for i in $(seq 50); do exec 3<>/dev/tcp/{}/{} && head -n 1 <&3 && exit 0; sleep 0.1; done 2>/dev/null"
    for host, number in ((address, 80), ("127.0.0.1", port)):
        words = remapped.in_network("bash", "-c", fetch.format(host, number))
        assert subprocess.run(words, capture_output=True, timeout=30).stdout == b"served\n", (host, number)


def test_a_port_that_is_taken_fails_the_start_and_leaves_nothing(mapped: Make, remapped: Any) -> None:
    first = mapped("sleep", "300", ports={"80/tcp": 18080})
    with pytest.raises(docker.errors.APIError, match="port is already allocated"):
        mapped("sleep", "300", ports={"80/tcp": 18080})
    shims = list((remapped.folder / "run/shims").iterdir())
    assert first.id in [one.name for one in shims]
    container = mapped("sleep", "300", start=False, ports={"80/tcp": 18080})
    with pytest.raises(docker.errors.APIError):
        container.start()
    assert container.id not in [one.name for one in (remapped.folder / "run/shims").iterdir()]


def test_devices(mapped: Make) -> None:
    container = mapped("sh", "-c", "head -c 3 /dev/other | wc -c; mknod /x c 1 5", devices=["/dev/zero:/dev/other"])
    container.wait(timeout=30)
    text = container.logs().decode()
    assert text.splitlines()[0] == "3" and "Operation not permitted" in text


@pytest.mark.parametrize("options", [{"ipc_mode": "host"}, {"cgroupns": "host"}, {"uts_mode": "host"}, {"network_mode": "none"},
                                     {"read_only": True}, {"init": True}, {"tmpfs": {"/run": "uid=5"}}])  # fmt: skip
def test_together_with_other_options(mapped: Make, options: dict[str, Any]) -> None:
    assert output(mapped("sh", "-c", "id -u; cat /etc/hosts | wc -l", **options)).split()[0] == "0"


def test_host_means_the_machines_users(mapped: Make) -> None:
    container = mapped(userns_mode="host", privileged=True)
    assert os.readlink(f"/proc/{pid(container)}/ns/user") == os.readlink("/proc/self/ns/user")
    assert os.stat(f"/proc/{pid(container)}").st_uid == 0


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (
            {"Privileged": True},
            "privileged mode is incompatible with user namespaces.  "
            "You must run the container in the host namespace when running privileged mode",
        ),
        ({"NetworkMode": "host"}, "cannot share the host's network namespace when user namespaces are enabled"),
        ({"PidMode": "host"}, "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_cannot_be_had_together(client: Any, host: dict[str, Any], words: str) -> None:
    assert refusal(client, host) == (400, words)
    response = client.api.create_container_from_config(
        {"Image": "busybox", "Cmd": ["true"], "HostConfig": {**host, "UsernsMode": "host"}}
    )
    client.api.remove_container(response["Id"])


def test_namespaces_of_another_container_are_not_shared(mapped: Make, client: Any) -> None:
    other = mapped()
    for field in ("PidMode", "IpcMode", "NetworkMode"):
        status, words = refusal(client, {field: f"container:{other.id}"})
        assert status == 400 and "when user namespaces are enabled" in words


def test_it_outlives_the_engine(remapped: Any, mapped: Make) -> None:
    container = mapped()
    remapped.kill()
    remapped.start()
    assert container.exec_run(["id", "-u"]).output == b"0\n"
    container.restart(timeout=0)
    assert container.exec_run(["id", "-u"]).output == b"0\n"


def test_an_engine_that_knows_no_such_user_does_not_start(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "coved",
        "--root",
        str(tmp_path / "r"),
        "--socket",
        str(tmp_path / "s"),
        "--userns-remap",
        "no-such",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (1, 'coved: no subuid ranges found for user "no-such"\n')
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(FileNotFoundError):
        sock.connect(str(tmp_path / "s"))
