"""--read-only, --tmpfs, --shm-size, --init, --group-add, --ulimit, --sysctl, names and the OOM score."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import docker
import pytest

from isolation_support import Make, output, refusal

pytestmark = pytest.mark.root


def refused(make: Make, words: str, status: int = 500, **options: Any) -> None:
    with pytest.raises(docker.errors.APIError) as caught:
        make("true", **options)
    assert words in caught.value.explanation
    assert caught.value.status_code == status


# -- file systems


def without_inode64(mounts: str) -> str:
    """Which some kernels have as their default for tmpfs, tmpfs(5)."""
    return mounts.replace(",inode64", "")


def test_read_only_is_all_but_what_has_to_be_written(make: Make) -> None:
    script = "for f in /x /tmp/x /etc/hosts /dev/x /dev/shm/x /run/x; do touch $f 2>/dev/null && echo $f; done; true"
    container = make("sh", "-c", script, read_only=True, tmpfs={"/run": "size=64k"})
    assert output(container).split() == ["/dev/x", "/dev/shm/x", "/run/x"]


@pytest.mark.parametrize(
    ("options", "line", "mode"),
    [
        ("", "rw,nosuid,nodev,noexec,relatime", "777"),
        ("exec,suid,dev,size=1m,mode=700,uid=5,gid=6,nr_inodes=100", "rw,relatime,size=1024k,nr_inodes=100,mode=700,uid=5,gid=6", "700"),
        ("ro,rw,ro", "ro,nosuid,nodev,noexec,relatime", "777"),
        ("exec,noexec,noatime", "rw,nosuid,nodev,noexec,noatime", "777"),
    ],
)  # fmt: skip
def test_tmpfs_options(make: Make, options: str, line: str, mode: str) -> None:
    script = "grep ' /fresh ' /proc/mounts; stat -c %a /fresh"
    lines = without_inode64(output(make("sh", "-c", script, tmpfs={"/fresh": options}))).splitlines()
    assert (lines[0], lines[1][-3:]) == (f"tmpfs /fresh tmpfs {line} 0 0", mode)


def test_a_tmpfs_covers_a_folder_with_the_same_mode_and_leaves_the_files_of_the_engine(make: Make) -> None:
    assert output(make("sh", "-c", "stat -c %a /etc /tmp; ls /etc", tmpfs={"/etc": "", "/tmp": ""})).split() == [
        *("755", "1777", "hostname", "hosts", "resolv.conf")
    ]


def test_a_tmpfs_that_is_full_takes_no_more(make: Make) -> None:
    container = make("dd", "if=/dev/zero", "of=/run/x", "bs=64k", "count=3", tmpfs={"/run": "size=128k"})
    assert container.wait(timeout=30)["StatusCode"] == 1
    assert b"No space left on device" in container.logs()


@pytest.mark.parametrize("option", ["foo", "foo=bar", "bind", "rbind", "remount", "size"])
def test_tmpfs_options_that_there_are_not(make: Make, option: str) -> None:
    refused(make, f'invalid tmpfs option "{option.partition("=")[0]}"', tmpfs={"/run": option})


def test_where_a_tmpfs_may_not_be(docker_client: Any) -> None:
    words = "invalid mount path: 'x' mount path must be absolute"
    assert refusal(docker_client, {"Tmpfs": {"x": ""}}) == (400, words)
    assert refusal(docker_client, {"Tmpfs": {"/": ""}}) == (400, "invalid specification: destination can't be '/'")


@pytest.mark.parametrize(("size", "shown"), [(None, "65536k"), ("1m", "1024k"), ("1g", "1048576k")])
def test_size_of_shared_memory(make: Make, size: str | None, shown: str) -> None:
    line = without_inode64(output(make("grep", " /dev/shm ", "/proc/mounts", shm_size=size)))
    assert line == f"shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size={shown} 0 0\n"


# -- init


def test_init_is_pid_1_reaps_and_passes_signals_and_status_on(make: Make) -> None:
    script = "(sleep 0.01 &) ; sleep 0.2; tr '\\0' ' ' < /proc/1/cmdline; ps -o stat | grep -c Z; exit 7"
    container = make("sh", "-c", script, init=True)
    assert container.wait(timeout=30)["StatusCode"] == 7
    assert container.logs().decode().startswith("/sbin/docker-init -- sh -c ")
    assert container.logs().decode().endswith(" 0\n")
    # sleep as PID 1 would take no SIGTERM.
    container = make("sleep", "300", init=True)
    container.stop(timeout=20)
    assert container.wait(timeout=30)["StatusCode"] == 143
    assert make("nosuch", init=True).wait(timeout=30)["StatusCode"] == 127


def test_init_is_not_needed_among_the_machines_processes(make: Make) -> None:
    assert "docker-init" not in output(make("sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline", init=True, pid_mode="host"))


# -- users and limits


def test_groups(make: Make) -> None:
    assert output(make("id", "-G", group_add=["5", "2000", "root"])).split() == ["0", "5", "2000"]
    # The group of the process is among its groups, or it could get rid of it.
    assert output(make("id", "-G", user="1000:1001", group_add=["5"])).split() == ["1001", "5"]
    refused(make, "Unable to find group nosuch: no matching entries in group file", group_add=["nosuch"])
    refused(make, "uids and gids must be in range 0-2147483647", group_add=["-1"])
    refused(make, "uids and gids must be in range 0-2147483647", group_add=["99999999999"])
    refused(make, "unable to find user nosuch: no matching entries in passwd file", user="nosuch")
    refused(make, "unable to find group nosuch: no matching entries in group file", user="0:nosuch")


def limit(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(name))[len(name) :].split()[:2]


def test_ulimits(make: Make) -> None:
    names = [
        *(("nofile", "Max open files"), ("nproc", "Max processes"), ("core", "Max core file size")),
        *(("locks", "Max file locks"), ("rttime", "Max realtime timeout"), ("stack", "Max stack size")),
        *(("fsize", "Max file size"), ("cpu", "Max cpu time"), ("data", "Max data size"), ("rss", "Max resident set")),
        *(("sigpending", "Max pending signals"), ("msgqueue", "Max msgqueue size"), ("memlock", "Max locked memory")),
    ]
    wanted = [
        docker.types.Ulimit(name=name, soft=1000 + number, hard=2000 + number) for number, (name, _) in enumerate(names)
    ]
    wanted[5] = docker.types.Ulimit(name="stack", soft=1 << 20, hard=-1)
    wanted[8] = docker.types.Ulimit(name="data", soft=1 << 30, hard=1 << 30)
    container = make(ulimits=wanted)
    for text in (
        container.exec_run(["cat", "/proc/1/limits"]).output,
        container.exec_run(["cat", "/proc/self/limits"]).output,
    ):
        for number, (name, line) in enumerate(names):
            expected = {"stack": ["1048576", "unlimited"], "data": [str(1 << 30)] * 2}.get(
                wanted[number].name, [str(1000 + number), str(2000 + number)]
            )
            assert limit(text.decode(), line) == expected, name
    container.reload()
    assert container.attrs["HostConfig"]["Ulimits"][0] == {"Name": "nofile", "Hard": 2000, "Soft": 1000}


def test_limits_without_a_wish_are_the_spawners(make: Make) -> None:
    """Which has raised them as far as it may: 1048576 files in the VM."""
    soft, hard = limit(output(make("cat", "/proc/self/limits")), "Max open files")
    assert soft == hard
    assert int(hard) > 4096


def test_ulimits_that_cannot_be(engine: Any, make: Make) -> None:
    most = int(engine.read("/proc/sys/fs/nr_open")) + 1
    for name, soft, hard, words in (
        ("nofile", most, most, "error setting rlimit type 7: operation not permitted"),
        ("nofile", 20, 10, "error setting rlimit type 7: invalid argument"),
        ("foo", 1, 1, "invalid rlimit type: RLIMIT_FOO"),
    ):
        refused(make, words, ulimits=[docker.types.Ulimit(name=name, soft=soft, hard=hard)])


# -- kernel parameters and names


def test_parameters_of_the_containers_namespaces(engine: Any, make: Make) -> None:
    values = {
        "net.ipv4.ip_forward": "0", "net.core.somaxconn": "1234", "kernel.shmmax": "4096", "kernel.msgmax": "4097",
        "fs.mqueue.msg_max": "20", "net.ipv4.conf.lo.forwarding": "1", "net/ipv4/conf/eth0/forwarding": "1",
    }  # fmt: skip
    paths = ["/proc/sys/" + name.replace(".", "/") for name in values]
    before = engine.read("/proc/sys/kernel/shmmax")
    assert output(make("cat", *paths, sysctls=values)).split() == list(values.values())
    assert engine.read("/proc/sys/kernel/shmmax") == before


@pytest.mark.parametrize("mode", [None, "none"])
def test_low_ports_and_ping_are_for_everybody(make: Make, mode: str | None) -> None:
    paths = ["/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/net/ipv4/ping_group_range"]
    assert output(make("cat", *paths, network_mode=mode)).split() == ["0", "0", "2147483647"]
    asked = {"net.ipv4.ip_unprivileged_port_start": "500"}
    assert output(make("cat", paths[0], network_mode=mode, sysctls=asked)) == "500\n"


@pytest.mark.parametrize(
    ("name", "value", "options", "words"),
    [
        ("kernel.core_uses_pid", "1", {}, 'sysctl "kernel.core_uses_pid" is not in a separate kernel namespace'),
        ("vm.swappiness", "60", {"privileged": True}, 'sysctl "vm.swappiness" is not in a separate kernel namespace'),
        ("kernel.hostname", "x", {}, 'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field'),
        ("net.ipv4.ip_forward", "1", {"network_mode": "host"}, 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'),
        ("kernel.shmmax", "18446744073692774399", {"ipc_mode": "host"}, 'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace'),
        ("net.ipv4.nosuch", "1", {}, "open /proc/sys/net/ipv4/nosuch: no such file or directory"),
        ("net.ipv4.ip_forward", "x", {}, "write /proc/sys/net/ipv4/ip_forward: invalid argument"),
        ("net.ipv4/../../kernel/core_uses_pid", "1", {}, "is not in a separate kernel namespace"),
    ],
)  # fmt: skip
def test_parameters_of_the_machine(
    engine: Any, make: Make, name: str, value: str, options: dict[str, Any], words: str
) -> None:
    path = "/proc/sys/kernel/core_uses_pid"
    before = engine.read(path)
    try:
        refused(make, words, sysctls={name: value}, **options)
        assert engine.read(path) == before
    finally:
        engine.sh(f"echo {before.strip()} >{path}")


def test_names(make: Make) -> None:
    script = "hostname; cat /proc/sys/kernel/domainname /etc/hostname; tail -n 1 /etc/hosts | cut -f 2"
    text = output(make("sh", "-c", script, hostname="a.b", domainname="example.org"))
    assert text.splitlines() == ["a.b", "example.org", "a.b", "a.b.example.org a"]
    assert output(make("hostname", hostname="h" * 64)) == "h" * 64 + "\n"
    refused(make, "error during container init: sethostname: invalid argument", hostname="h" * 65)


def test_a_name_cannot_write_lines_into_the_hosts_file(docker_client: Any) -> None:
    for field in ("Hostname", "Domainname"):
        assert refusal(docker_client, {}, **{field: "a\n1.2.3.4 b"})[0] == 400


# -- memory that runs out


def test_the_oom_score_holds_for_init_and_execs(make: Make) -> None:
    for options, expected in (({}, b"0\n"), ({"oom_score_adj": 500}, b"500\n")):
        container = make(**options)
        # Not what the shim has, which is killed last of all.
        for path in ("/proc/1/oom_score_adj", "/proc/self/oom_score_adj"):
            assert container.exec_run(["cat", path]).output == expected


def test_oom_scores_that_there_are_not(docker_client: Any) -> None:
    words = "Invalid value 1001, range for oom score adj is [-1000, 1000]"
    assert refusal(docker_client, {"OomScoreAdj": 1001}) == (400, words)


def test_the_oom_killer_cannot_be_disabled(engine: Any) -> None:
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    words = ["docker", "run", "--rm", "--oom-kill-disable", "busybox", "true"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (
        0,
        "WARNING: Your kernel does not support OomKillDisable. OomKillDisable discarded.\n",
    )
