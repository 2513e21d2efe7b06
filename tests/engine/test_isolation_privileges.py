"""--privileged, --device, --device-cgroup-rule, --cap-add, --cap-drop and --security-opt, tried on real device nodes and calls."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import docker
import pytest
from coved.runtime.capabilities import NAMES

from isolation_support import Make, numbers, output, refusal

pytestmark = pytest.mark.root

DEFAULT_CAPABILITIES = 0xA80425FB


def capabilities(container: Any) -> int:
    return int(output(container).split()[1], 16)


def caps(make: Make, **options: Any) -> int:
    return capabilities(make("grep", "CapEff", "/proc/self/status", **options))


@pytest.fixture
def everything(engine: Any) -> int:
    """The capabilities that the machine itself has."""
    (line,) = (line for line in engine.read("/proc/1/status").splitlines() if line.startswith("CapBnd"))
    return int(line.split()[1], 16) & ((1 << len(NAMES)) - 1)


def bit(name: str) -> int:
    return 1 << NAMES.index(f"CAP_{name}")


# -- capabilities


def test_capabilities_are_added_and_dropped_as_docker_does(make: Make, everything: int) -> None:
    assert caps(make) == DEFAULT_CAPABILITIES & everything
    assert caps(make, cap_drop=["ALL"]) == 0
    assert caps(make, cap_drop=["all"], cap_add=["chown", "CAP_NET_ADMIN"]) == bit("CHOWN") | bit("NET_ADMIN")
    assert caps(make, cap_add=["ALL"]) == everything
    assert caps(make, cap_add=["ALL"], cap_drop=["SYS_ADMIN"]) == everything & ~bit("SYS_ADMIN")
    assert caps(make, cap_drop=["NET_RAW", "MKNOD"]) == DEFAULT_CAPABILITIES & ~bit("NET_RAW") & ~bit("MKNOD")
    # What is added is had, dropped or not; the order of the options is not known.
    assert caps(make, cap_drop=["CHOWN"], cap_add=["CHOWN"]) == DEFAULT_CAPABILITIES


def test_dropped_capabilities_are_really_gone(make: Make) -> None:
    script = "chown 1 /tmp 2>/dev/null && echo chown; mknod /n c 1 3 2>/dev/null && echo mknod; true"
    assert output(make("sh", "-c", script)).split() == ["chown", "mknod"]
    assert output(make("sh", "-c", script, cap_drop=["CHOWN"])).split() == ["mknod"]
    assert output(make("sh", "-c", script, cap_drop=["ALL"])) == ""


def test_a_user_who_is_not_root_has_none_but_a_bounding_set(make: Make) -> None:
    text = output(make("grep", "^Cap", "/proc/self/status", user="1000", cap_add=["NET_ADMIN"]))
    sets = {name: int(value, 16) for name, value in (line.split() for line in text.splitlines())}
    assert sets == {
        "CapInh:": 0,
        "CapPrm:": 0,
        "CapEff:": 0,
        "CapAmb:": 0,
        "CapBnd:": DEFAULT_CAPABILITIES | bit("NET_ADMIN"),
    }


@pytest.mark.parametrize(
    ("target", "words"),
    [("/proc", "is not of type proc"), ("/proc/bus", "is inside /proc"), ("/proc/self/attr", "inside /proc")],
)
def test_nothing_pretends_to_be_proc(make: Make, scratch: Path, target: str, words: str) -> None:
    """What a container's set-up reads there decides on its privileges."""
    container = make("true", start=False, volumes=[f"{scratch}:{target}"])
    with pytest.raises(docker.errors.APIError) as caught:
        container.start()
    assert f'"{target}" cannot be mounted because it' in caught.value.explanation
    assert words in caught.value.explanation
    # The machine's own proc, and what LXCFS has for containers, may be mounted.
    assert "ctl" not in output(make("ls", "/proc/1", volumes=["/proc:/proc:ro"]))
    assert output(make("sh", "-c", "wc -c </proc/uptime", volumes=["/dev/null:/proc/uptime"])) == "0\n"


@pytest.mark.parametrize("option", ["CapAdd", "CapDrop"])
def test_capabilities_that_there_are_not(docker_client: Any, option: str) -> None:
    words = f'invalid {option}: unknown capability: "CAP_FOO"'
    assert refusal(docker_client, {option: ["foo"]}) == (400, words)


# -- privileged


def test_privileged(engine: Any, make: Make, everything: int, disk: str) -> None:
    script = (
        f"head -c 4 {disk}; echo; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; grep -c -E ' /(proc|sys)/[a-z]+.* ro,' "
        "/proc/mounts; touch /proc/sys/kernel/domainname && echo proc; mkdir /sys/fs/cgroup/below && echo cgroup; "
        "mount -t tmpfs none /tmp && echo mount; ls /dev | wc -l"
    )
    lines = output(make("sh", "-c", script, privileged=True)).split("\n")
    assert lines[:7] == ["xxxx", "NoNewPrivs:\t0", "Seccomp:\t0", "0", "proc", "cgroup", "mount"]
    nodes = engine.sh("find /dev -maxdepth 1 ! -type l ! -type d ! -name console")
    assert int(lines[7]) >= len(nodes.split())
    assert caps(make, privileged=True) == everything
    assert caps(make, privileged=True, cap_drop=["ALL"]) == everything


def test_devices_of_the_machine_keep_owner_and_mode_in_a_privileged_container(
    engine: Any, make: Make, disk: str
) -> None:
    wanted = engine.sh(f"stat -c '%a %u %g' {disk}")
    assert output(make("stat", "-c", "%a %u %g", disk, privileged=True)) == wanted


def test_a_privileged_exec_holds_all_capabilities(make: Make, everything: int) -> None:
    container = make()
    _, text = container.exec_run(["grep", "CapEff", "/proc/self/status"], privileged=True)
    assert int(text.split()[1], 16) == everything
    _, text = container.exec_run(["grep", "CapEff", "/proc/self/status"])
    assert int(text.split()[1], 16) == DEFAULT_CAPABILITIES


# -- devices


def test_only_devices_that_were_given_can_be_opened(engine: Any, make: Make, disk: str) -> None:
    major, minor = numbers(engine, disk)
    script = f"mknod /node b {major} {minor} && head -c 4 /node"
    container = make("sh", "-c", script)
    assert container.wait(timeout=30)["StatusCode"] == 1
    assert b"/node: Operation not permitted" in container.logs()
    assert output(make("sh", "-c", script, devices=[f"{disk}:{disk}:r"])) == "xxxx"


@pytest.mark.parametrize(
    ("access", "expected"), [("r", "read"), ("w", "write"), ("rw", "read write"), ("rwm", "read write"), ("m", "")]
)
def test_a_device_is_had_under_its_path_with_its_permissions(make: Make, disk: str, access: str, expected: str) -> None:
    script = (
        "head -c 1 /dev/deep/er >/dev/null 2>&1 && echo read; (echo y > /dev/deep/er) 2>/dev/null && echo write; true"
    )
    container = make("sh", "-c", script, devices=[f"{disk}:/dev/deep/er:{access}"])
    assert output(container).split() == expected.split()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("b {major}:{minor} r", "read"),
        ("b {major}:* rw", "read write"),
        ("b *:* rwm", "read write"),
        ("a *:* rwm", "read write"),
        ("c {major}:{minor} rwm", ""),
        ("b {major}:4294967295 rwm", ""),
        ("b {major}:{minor} m", ""),
    ],
)
def test_device_rules(engine: Any, make: Make, disk: str, rule: str, expected: str) -> None:
    major, minor = numbers(engine, disk)
    script = (
        f"mknod /node b {major} {minor}; head -c 1 /node >/dev/null 2>&1 && echo read;"
        " (echo y > /node) 2>/dev/null && echo write; true"
    )
    container = make("sh", "-c", script, device_cgroup_rules=[rule.format(major=major, minor=minor)])
    assert output(container).split() == expected.split()


def test_a_folder_of_devices(engine: Any, make: Make, scratch: Path) -> None:
    engine.sh(f"cd {scratch}; mkdir sub; mknod sub/one c 1 7; echo no device >file")
    assert output(make("find", "/dev/given", "-type", "c", devices=[f"{scratch}:/dev/given"])) == "/dev/given/sub/one\n"


def test_devices_that_cannot_be_given(engine: Any, make: Make, scratch: Path) -> None:
    engine.sh(f": >{scratch}/file")
    failed = "error gathering device information while adding custom device"
    for path, problem in (
        ("/dev/no-such", "no such file or directory"),
        (scratch / "file", "not a device node"),
        (scratch, "not a device node"),
    ):
        with pytest.raises(docker.errors.APIError) as caught:
            make(devices=[f"{path}:/dev/x"])
        assert (caught.value.status_code, caught.value.explanation) == (500, f'{failed} "{path}": {problem}')
    with pytest.raises(docker.errors.APIError, match=r"invalid device cgroup rule format: 'x 1:2 r'"):
        make(device_cgroup_rules=["x 1:2 r"])
    with pytest.raises(
        docker.errors.APIError, match=r"invalid major value in device cgroup rule format: 'c 4294967296:2 r'"
    ):
        make(device_cgroup_rules=["c 4294967296:2 r"])
    request = docker.types.DeviceRequest(driver="cdi", device_ids=["vendor.com/class=one"])
    with pytest.raises(docker.errors.APIError, match=r'could not select device driver "cdi" with capabilities: \[\]'):
        make(device_requests=[request])
    request = docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])
    with pytest.raises(
        docker.errors.APIError, match=r'could not select device driver "" with capabilities: \[\[gpu\]\]'
    ):
        make(device_requests=[request])


def test_the_machines_dev_is_not_changed_when_it_is_bound(engine: Any, make: Make) -> None:
    before = engine.names("/dev")
    text = output(make("sh", "-c", "ls /dev | wc -l; ls -d /dev/pts/ptmx", volumes=["/dev:/dev"]))
    assert int(text.split()[0]) == len(before)
    assert engine.names("/dev") == before


# -- security options


def profile(tmp_path: Path, **fields: Any) -> str:
    path = tmp_path / f"{uuid.uuid4().hex}.json"
    path.write_text(json.dumps(fields))
    return str(path)


NO_FOLDERS = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]


def test_seccomp_profiles_of_ones_own(engine: Any, tmp_path: Path) -> None:
    path = profile(tmp_path, defaultAction="SCMP_ACT_ALLOW", syscalls=NO_FOLDERS)
    environment = {**os.environ, "DOCKER_HOST": engine.url}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = ["docker", "run", "--rm", "--security-opt", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment)

    # docker's client reads the file and sends what is in it.
    done = run(f"seccomp={path}", "busybox", "mkdir", "/x")
    assert (done.returncode, done.stderr) == (1, "mkdir: can't create directory '/x': Function not implemented\n")
    status = ["grep", "^Seccomp:", "/proc/self/status"]
    assert run("seccomp=unconfined", "busybox", *status).stdout == "Seccomp:\t0\n"
    assert run("seccomp=builtin", "busybox", *status).stdout == "Seccomp:\t2\n"
    for fields, words in (
        ({"defaultAction": "SCMP_ACT_NOPE"}, "string SCMP_ACT_NOPE is not a valid action for seccomp"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "name": "b", "action": "SCMP_ACT_LOG"}]},
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
        ),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "x"}]},
            "both 'architectures' and 'archMap' are specified in the seccomp profile",
        ),
    ):
        done = run(f"seccomp={profile(tmp_path, **fields)}", "busybox", "true")
        assert done.returncode == 125 and words in done.stderr


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"defaultAction": 1}', '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[{}],"action":"SCMP_ACT_LOG"}]}',
             "[" * 100_000]
)  # fmt: skip
def test_a_profile_that_is_none_harms_nobody(make: Make, text: str) -> None:
    with pytest.raises(docker.errors.APIError, match=r"Decoding seccomp profile failed"):
        make(security_opt=[f"seccomp={text}"])
    assert output(make("echo", "fine")) == "fine\n"


def test_no_new_privileges_hold_in_execs_too(make: Make) -> None:
    container = make(security_opt=["no-new-privileges"])
    assert container.exec_run(["grep", "NoNewPrivs", "/proc/1/status", "/proc/self/status"]).output.count(b"\t1\n") == 2
    assert b"\t0\n" in make().exec_run(["grep", "NoNewPrivs", "/proc/self/status"]).output


def test_system_paths_are_masked_unless_that_is_not_wanted(engine: Any) -> None:
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    script = (
        "grep -c -E ' /(proc|sys)/.* (ro|rw),' /proc/mounts; echo cove > /proc/sys/kernel/domainname && echo written"
    )
    for words, expected in (([], ["10"]), (["--security-opt", "systempaths=unconfined"], ["1", "written"])):
        line = ["docker", "run", "--rm", *words, "busybox", "sh", "-c", script]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment)
        lines = done.stdout.split()
        assert (int(lines[0]) > 5, lines[1:]) == (int(expected[0]) > 5, expected[1:])


def test_cgroups_can_be_made_writable(make: Make) -> None:
    assert (
        output(make("sh", "-c", "mkdir /sys/fs/cgroup/x && echo made", security_opt=["writable-cgroups=true"]))
        == "made\n"
    )
    assert make("mkdir", "/sys/fs/cgroup/x").wait(timeout=30)["StatusCode"] == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("foo", 'invalid --security-opt 1: "foo"'),
        ("foo=bar", 'invalid --security-opt 2: "foo=bar"'),
        ("no-new-privileges=maybe", 'invalid --security-opt 2: "no-new-privileges=maybe"'),
        ("systempaths=unconfined", 'invalid --security-opt 2: "systempaths=unconfined"'),
    ],
)
def test_security_options_that_there_are_not(docker_client: Any, option: str, words: str) -> None:
    assert refusal(docker_client, {"SecurityOpt": [option]}) == (500, words)


def test_labels_are_taken_and_mean_nothing(make: Make) -> None:
    assert output(make("echo", "fine", security_opt=["label=disable", "label:user:x"])) == "fine\n"


def test_apparmor_profiles(engine: Any, make: Make, docker_client: Any) -> None:
    """Where the kernel has AppArmor (the VM's does) a profile that is not loaded is refused, elsewhere warned about."""
    enabled = engine.sh("cat /sys/module/apparmor/parameters/enabled 2>/dev/null || echo N").strip()
    assert output(make("echo", "fine", security_opt=["apparmor=unconfined"])) == "fine\n"
    created = docker_client.api.create_container_from_config(
        {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"SecurityOpt": ["apparmor=no-such-profile"]}}
    )
    try:
        if enabled == "Y":
            assert not created["Warnings"]
            with pytest.raises(
                docker.errors.APIError, match=r"unable to apply apparmor profile: .*no such file or directory"
            ):
                docker_client.api.start(created["Id"])
        else:
            warning = "Your kernel does not support AppArmor or it is not enabled. Profile no-such-profile discarded."
            assert created["Warnings"] == [warning]
            docker_client.api.start(created["Id"])
    finally:
        docker_client.api.remove_container(created["Id"], force=True)
