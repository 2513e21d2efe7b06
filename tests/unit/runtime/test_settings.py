"""What the runtime makes of a spec, as far as that needs no kernel."""

import re
from pathlib import Path

import pytest
from coved.runtime import cgroups, executable, mounts, syscalls, sysctls, users
from coved.runtime.device_filter import compile_rules
from coved.runtime.namespaces import Namespaces


@pytest.mark.parametrize(("shares", "weight"), [(0, 0), (2, 1), (1024, 39), (262144, 10000), (1, 1), (999999, 10000)])
def test_cpu_shares_become_a_weight(shares: int, weight: int) -> None:
    assert cgroups.cpu_weight(shares) == weight


def make_cgroup(tmp_path: Path, files: dict[str, str]) -> cgroups.Cgroup:
    folder = tmp_path / "cove" / "c"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return cgroups.Cgroup("/cove/c", root=str(tmp_path))


def test_limits_are_written_in_cgroup_v2_terms(tmp_path: Path) -> None:
    names = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "cpuset.cpus", "pids.max")
    cgroup = make_cgroup(tmp_path, dict.fromkeys(names, ""))
    warnings = cgroup.apply(
        {
            "memory": {"limit": 1000, "swap": 1500, "reservation": 500},
            "cpu": {"quota": 50000, "period": 100000, "shares": 1024, "cpus": "0-1"},
            "pids": {"limit": -1},
        }
    )
    found = {name: (tmp_path / "cove/c" / name).read_text() for name in names}
    assert (found, warnings) == (
        {
            **{"memory.max": "1000", "memory.swap.max": "500", "memory.low": "500", "cpu.max": "50000 100000"},
            **{"cpu.weight": "39", "cpuset.cpus": "0-1", "pids.max": "max"},
        },
        [],
    )


def test_limits_without_a_controller_are_discarded_with_a_warning(tmp_path: Path) -> None:
    cgroup = make_cgroup(tmp_path, {})
    (warning,) = cgroup.apply({"memory": {"limit": 1000}})
    assert warning.startswith("Your kernel does not support memory limit")


@pytest.mark.parametrize("path", ["", "/", "/cove/../../etc", "."])
def test_cgroup_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(cgroups.CgroupError):
        cgroups.Cgroup(path, root="/nowhere")


def test_mount_options_are_sorted() -> None:
    options = mounts.parse_options(["rbind", "ro", "nosuid", "suid", "rslave", "rro", "size=64k", "noswap", "defaults"])
    assert options == mounts.Options(
        set_=syscalls.MOUNT_ATTR_RDONLY,
        clear=syscalls.MOUNT_ATTR_NOSUID,
        set_recursive=syscalls.MOUNT_ATTR_RDONLY,
        clear_recursive=0,
        propagation=syscalls.MS_SLAVE,
        propagation_recursive=True,
        bind=True,
        recursive=True,
        data=[("size", "64k"), ("noswap", None)],
    )


def test_what_cannot_be_frozen_in_time_goes_on(tmp_path: Path) -> None:
    group = make_cgroup(tmp_path, {"cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 0\n"})
    assert not group.freeze(True, 0.05)
    assert (tmp_path / "cove/c/cgroup.freeze").read_text() == "0"
    (tmp_path / "cove/c/cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert group.freeze(True, 0.05)
    assert (tmp_path / "cove/c/cgroup.freeze").read_text() == "1"


def test_lower_directories_may_hold_protected_colons() -> None:
    assert mounts.split_lower(r"/a:/b\:c:/d\\e") == ["/a", "/b:c", r"/d\e"]
    assert mounts.join_lower([Path("/a"), Path("/b:c"), Path(r"/d\e")]) == r"/a:/b\:c:/d\\e"


def test_device_programs_end_where_a_rule_matches_everything() -> None:
    everything = compile_rules([{"allow": True, "type": "c", "major": 1}, {"allow": False, "access": "rwm"}])
    assert len(everything) // 8 == 6 + 2
    one = compile_rules([{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}])
    assert len(one) // 8 == 6 + 1 + 3 + 2 + 2 + 2


def test_namespaces_to_make_and_to_join() -> None:
    spaces = Namespaces(
        {"namespaces": [{"type": "mount"}, {"type": "cgroup"}, {"type": "network", "path": "/run/netns/x"}]}
    )
    assert spaces.clone_flags == syscalls.CLONE_NEWNS
    assert spaces.joined == [(syscalls.CLONE_NEWNET, "/run/netns/x")]
    assert spaces.has(syscalls.CLONE_NEWNET) and not spaces.has(syscalls.CLONE_NEWPID)
    with pytest.raises(ValueError, match="own mount namespace"):
        Namespaces({"namespaces": [{"type": "pid"}]})


@pytest.fixture
def accounts(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nbad\nann:x:1000:1001::/home/ann:/bin/sh\n")
    (tmp_path / "group").write_text("staff:x:50:ann\nann:x:1001:\nwheel:x:10:ann,root\n")
    return str(tmp_path / "passwd"), str(tmp_path / "group")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ann", (1000, 1001, [1001, 50, 10], "/home/ann")),
        ("1000", (1000, 1001, [1001, 50, 10], "/home/ann")),
        ("ann:staff", (1000, 50, [50], "/home/ann")),
        ("4711", (4711, 0, [0], "/")),
        ("4711:4712", (4711, 4712, [4712], "/")),
        ("root", (0, 0, [0, 10], "/root")),
    ],
)
def test_users(accounts: tuple[str, str], name: str, expected: tuple[int, int, list[int], str]) -> None:
    assert users.resolve({"username": name}, *accounts) == expected


@pytest.mark.parametrize("name", ["bob", "ann:nogroup", "99999999999"])
def test_users_that_are_not_there(accounts: tuple[str, str], name: str) -> None:
    with pytest.raises(users.UserError):
        users.resolve({"username": name}, *accounts)


def test_missing_or_odd_account_files_are_as_good_as_empty(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "passwd")
    assert users.resolve({"uid": 5}, str(tmp_path / "passwd"), str(tmp_path / "none")) == (5, 0, [0], "/")


def test_finding_programs(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/tool").write_text("not executable")
    (tmp_path / "b/tool").write_text("#!/bin/sh\n")
    (tmp_path / "b/tool").chmod(0o755)
    search = f"{tmp_path}/a:{tmp_path}/b"
    assert executable.find("tool", search) == f"{tmp_path}/b/tool"
    with pytest.raises(executable.NotExecutable, match=r"executable file not found in \$PATH") as caught:
        executable.find("tool", str(tmp_path / "a"))
    assert caught.value.exit_code == 127


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding"),
    ],
)
def test_parameters_are_written_with_dots_or_slashes(given: str, name: str) -> None:
    assert sysctls.dotted(given) == name


ALONE = Namespaces({"namespaces": [{"type": kind} for kind in ("mount", "ipc", "uts", "network")]})
SHARING = Namespaces({"namespaces": [{"type": "mount"}]})


@pytest.mark.parametrize(
    ("name", "spaces", "words"),
    [
        ("kernel.pid_max", ALONE, 'sysctl "kernel.pid_max" is not in a separate kernel namespace'),
        ("vm.overcommit_memory", ALONE, 'sysctl "vm.overcommit_memory" is not in a separate kernel namespace'),
        ("net.ipv4.ip_forward", SHARING, 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'),
        ("net/ipv4/ip_forward", SHARING, 'sysctl "net/ipv4/ip_forward" not allowed in host network namespace'),
        ("kernel.shmmax", SHARING, 'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace'),
        ("fs.mqueue.msg_max", SHARING, 'sysctl "fs.mqueue.msg_max" is not allowed in the hosts ipc namespace'),
        ("kernel.domainname", SHARING, 'sysctl "kernel.domainname" is not in a separate kernel namespace'),
        (
            "kernel.hostname",
            ALONE,
            'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field',
        ),
        ("net.ipv4/../../kernel/core_pattern", ALONE, "is not in a separate kernel namespace"),
        ("net...kernel.core_pattern", ALONE, "is not in a separate kernel namespace"),
        ("net/../kernel/core_pattern", ALONE, "is not in a separate kernel namespace"),
        ("", ALONE, "is not in a separate kernel namespace"),
    ],
)
def test_parameters_that_are_not_a_containers_own(name: str, spaces: Namespaces, words: str) -> None:
    with pytest.raises(sysctls.SysctlError, match=re.escape(words)):
        sysctls.check([name], spaces)


def test_parameters_of_ones_own_namespaces() -> None:
    sysctls.check(["net.core.somaxconn", "kernel.sem", "fs.mqueue.msg_max", "kernel.domainname"], ALONE)
