"""What a container can see and do, and above all what it cannot."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from coved.runtime.errors import CreateError, StartError
from coved.runtime.spec import Seccomp, Spec

from runtime_support import Harness, gone, process, with_harness

pytestmark = pytest.mark.root


def shell(script: str, **values: object) -> object:
    return process("sh", "-c", script, **values)


@with_harness
async def test_init_is_pid_1_with_its_own_hostname(made: Harness) -> None:
    code, out, _ = await made.run(
        process("sh", "-c", "echo $$; hostname; cat /proc/1/comm; readlink /proc/self/ns/uts")
    )
    pid, name, comm, namespace = out.decode().split()
    assert (code, pid, name, comm) == (0, "1", "testhost", "sh")
    assert namespace != os.readlink("/proc/self/ns/uts")


@with_harness
async def test_mounts_do_not_reach_the_host_and_vanish_with_the_container(made: Harness) -> None:
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    inside = Path(f"/proc/{shim.pid}/mountinfo").read_text()
    assert " / / " in inside and "overlay" in inside
    assert shim.container_id not in Path("/proc/self/mountinfo").read_text()
    # The old root is gone: nothing of the host's tree is visible.
    assert len(inside.splitlines()) < 25
    await shim.delete()
    assert list((made.folder / shim.container_id / "merged").iterdir()) == []


@with_harness
async def test_masked_and_read_only_paths(made: Harness) -> None:
    script = "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/domainname || echo refused"
    _, out, err = await made.run(process("sh", "-c", script))
    assert out.split() == [b"0", b"0", b"refused"]
    assert b"Read-only file system" in err


@with_harness
async def test_read_only_root(made: Harness) -> None:
    def change(spec: Spec) -> None:
        spec["root"]["readonly"] = True

    _, out, err = await made.run(
        process("sh", "-c", "touch /x || echo refused; touch /dev/shm/y && echo ok"), change=change
    )
    assert out.split() == [b"refused", b"ok"]
    assert b"Read-only file system" in err


@with_harness
async def test_capabilities_are_exactly_those_given(made: Harness) -> None:
    _, out, _ = await made.run(process("grep", "^Cap", "/proc/self/status"))
    assert dict(line.split() for line in out.decode().splitlines()) == {
        "CapInh:": "0000000000000000",
        "CapPrm:": "00000000a80425fb",
        "CapEff:": "00000000a80425fb",
        "CapBnd:": "00000000a80425fb",
        "CapAmb:": "0000000000000000",
    }


@with_harness
async def test_a_user_keeps_only_ambient_capabilities(made: Harness) -> None:
    names = ["CAP_NET_BIND_SERVICE"]
    sets = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), names)
    _, out, _ = await made.run(
        process("sh", "-c", "id -u; grep ^CapEff /proc/self/status", user={"uid": 1000, "gid": 1001}, capabilities=sets)
    )
    assert out.split() == [b"1000", b"CapEff:", b"0000000000000400"]


@with_harness
async def test_names_of_users_and_groups_are_looked_up_inside(made: Harness) -> None:
    _, out, _ = await made.run(process("sh", "-c", "id -u; id -g; id -G; echo $HOME", user={"username": "ann"}))
    assert out.decode().splitlines() == ["1000", "1001", "1001 50", "/home/ann"]
    with pytest.raises(CreateError, match="unable to find user bob: no matching entries in passwd file"):
        await made.create(process("true", user={"username": "bob"}))


PROFILE: Seccomp = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
    "syscalls": [
        {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {
            "names": ["kill"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}],
        },
    ],
}


@with_harness
async def test_seccomp_with_and_without_no_new_privs(made: Harness) -> None:
    script = (
        "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; mkdir /tmp/x; kill -USR1 $$ || echo refused;"
        " kill -0 $$ && echo fine"
    )
    for no_new_privs in (False, True):
        _, out, err = await made.run(process("sh", "-c", script, noNewPrivileges=no_new_privs), seccomp=PROFILE)
        assert out.decode().split() == [
            *("NoNewPrivs:", str(int(no_new_privs)), "Seccomp:", "2", "refused", "fine"),
        ]
        assert b"Function not implemented" in err


@with_harness
async def test_debians_profile_as_a_user(made: Harness) -> None:
    """A profile that allows only a list must still let set-up finish, for root and for others."""
    allowed = (
        "access arch_prctl brk capget capset chdir clone close dup2 execve exit exit_group faccessat faccessat2 fcntl"
        " fstat futex getcwd getdents64 getegid geteuid getgid getpid getppid getrandom getuid ioctl lseek lstat mmap"
        " mprotect munmap newfstatat open openat poll prctl pread64 prlimit64 read readlink rseq rt_sigaction"
        " rt_sigprocmask rt_sigreturn sendto set_robust_list set_tid_address setgid setgroups setuid stat sysinfo uname"
        " vfork wait4 write writev"
    ).split()
    profile: Seccomp = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}],
    }
    for uid in (0, 1000):
        code, out, err = await made.run(process("sh", "-c", "id -u", user={"uid": uid, "gid": uid}), seccomp=profile)
        assert (code, out.strip(), err) == (0, str(uid).encode(), b"")


@with_harness
async def test_devices_that_are_not_allowed_cannot_be_opened_even_with_a_node(made: Harness) -> None:
    script = "mknod /tmp/disk b 254 0; head -c1 /tmp/disk; head -c1 /dev/zero | wc -c; echo x >/dev/null && echo ok"
    _, out, err = await made.run(process("sh", "-c", script))
    assert out.split() == [b"1", b"ok"]
    assert b"/tmp/disk: Operation not permitted" in err


@with_harness
async def test_no_descriptor_of_the_runtime_is_left_open(made: Harness) -> None:
    _, out, _ = await made.run(
        process("sh", "-c", "for f in /proc/self/fd/*; do readlink $f; done; ls /proc/1/fd; true")
    )
    listed = out.decode().split()
    assert [name for name in listed if name.isdigit()] == ["0", "1", "2"]
    assert listed[0] == "/dev/null"
    assert "anon_inode" not in out.decode() and "socket" not in out.decode()


@with_harness
async def test_a_link_in_the_image_cannot_lead_a_mount_out(made: Harness) -> None:
    """``/data -> /../../../etc`` and the like are resolved inside the root; missing targets are made there."""
    source = made.folder / "source"
    source.mkdir()
    (source / "file").write_text("mounted")
    victim = made.folder / "victim"
    victim.mkdir()

    def change(spec: Spec) -> None:
        upper = Path(next(o for o in spec["mounts"][0]["options"] if o.startswith("upperdir="))[9:])
        (upper / "absolute").symlink_to(victim)
        (upper / "climbing").symlink_to("../../../../../../../../.." + str(victim))
        (upper / "loop").symlink_to("loop")
        for name in ("absolute", "climbing"):
            spec["mounts"].append(
                {"destination": f"/{name}/in", "type": "bind", "source": str(source), "options": ["rbind", "ro"]}
            )

    code, out, err = await made.run(
        process("sh", "-c", f"cat {victim}/in/file; touch {victim}/in/new || echo refused"), change=change
    )
    assert (code, out) == (0, b"mountedrefused\n"), err
    assert list(victim.iterdir()) == []
    assert not (source / "new").exists()

    def loop(spec: Spec) -> None:
        upper = Path(next(o for o in spec["mounts"][0]["options"] if o.startswith("upperdir="))[9:])
        (upper / "loop").symlink_to("loop")
        spec["mounts"].append({"destination": "/loop/in", "type": "bind", "source": str(source), "options": ["rbind"]})

    with pytest.raises(CreateError, match=r"error mounting"):
        await made.create(process("true"), change=loop)

    def proc_link(spec: Spec) -> None:
        upper = Path(next(o for o in spec["mounts"][0]["options"] if o.startswith("upperdir="))[9:])
        (upper / "elsewhere").mkdir()
        (upper / "proc").symlink_to("elsewhere")

    with pytest.raises(CreateError, match='error mounting "proc"'):
        await made.create(process("true"), change=proc_link)


@with_harness
async def test_read_only_binds_are_read_only_all_the_way_down(made: Harness) -> None:
    source = made.folder / "tree"
    (source / "sub").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "sub"], check=True, timeout=10)
    try:

        def change(spec: Spec) -> None:
            spec["mounts"].append(
                {"destination": "/data", "type": "bind", "source": str(source), "options": ["rbind", "rro", "rprivate"]}
            )

        _, out, _ = await made.run(
            process("sh", "-c", "touch /data/a || echo no; touch /data/sub/a || echo no"), change=change
        )
        assert out.split() == [b"no", b"no"]
    finally:
        subprocess.run(["umount", source / "sub"], check=True, timeout=10)


@with_harness
async def test_the_interpreter_cannot_be_written_through_proc_exe(made: Harness) -> None:
    """CVE-2019-5736: the file behind /proc/<pid>/exe of the runtime lies on a read-only mount."""
    exe = f"/proc/{made.spawner.pid}/exe"
    status = os.stat(exe)
    # While it is executed a write fails anyway (ETXTBSY); setting its times tells how the mount is.
    with pytest.raises(OSError, match="Read-only file system"):
        os.utime(exe, ns=(status.st_atime_ns, status.st_mtime_ns))


@with_harness
async def test_sysctls_limits_umask_and_working_directory(made: Harness) -> None:
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -n; umask; pwd; stat -c %a ."
    init = process(
        *("sh", "-c", script),
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
        user={"uid": 0, "gid": 0, "umask": 0o77},
        cwd="/made/by/runtime",
    )
    _, out, _ = await made.run(init, sysctl={"net.ipv4.ip_unprivileged_port_start": "0"})
    assert out.decode().split() == ["0", "100", "0077", "/made/by/runtime", "755"]


@with_harness
async def test_limits_that_may_not_be_raised_fail_a_creation(made: Harness) -> None:
    import resource

    # No process may open more files than this, whatever it may do.
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    limit = {"type": "RLIMIT_NOFILE", "soft": most + 1, "hard": most + 1}
    with pytest.raises(
        CreateError, match=f"error setting rlimit type {resource.RLIMIT_NOFILE}: operation not permitted"
    ):
        await made.create(process("true", rlimits=[limit]))
    with pytest.raises(CreateError, match=f"error setting rlimit type {resource.RLIMIT_NOFILE}: invalid argument"):
        await made.create(process("true", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]))
    with pytest.raises(CreateError, match="invalid rlimit type: RLIMIT_FOO"):
        await made.create(process("true", rlimits=[{"type": "RLIMIT_FOO", "soft": 20, "hard": 10}]))


@with_harness
async def test_a_user_namespace_maps_root_to_somebody_else(made: Harness) -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    kinds = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")

    def change(spec: Spec) -> None:
        made.folder.chmod(0o755)
        spec["linux"]["namespaces"] = [{"type": kind} for kind in kinds]  # type: ignore[typeddict-item]
        spec["linux"]["uidMappings"] = mapping  # type: ignore[typeddict-item]
        spec["linux"]["gidMappings"] = mapping  # type: ignore[typeddict-item]
        home = made.folder / Path(spec["root"]["path"]).parent.name
        os.chown(home / "upper", 100000, 100000)

    shim = await made.create(process("sh", "-c", "id -u; echo x > /dev/null; touch /mine; sleep 60"), change=change)
    await shim.start()
    assert os.stat(f"/proc/{shim.pid}").st_uid == 100000
    await shim.kill(9)
    assert (await shim.wait()).code == 137


@with_harness
async def test_what_cannot_be_executed(made: Harness) -> None:
    cases = [
        ("nowhere", 127, r'exec: "nowhere": executable file not found in \$PATH: unknown$'),
        ("/no/where", 127, r'exec: "/no/where": stat /no/where: no such file or directory: unknown$'),
        ("/etc/passwd", 126, r'exec: "/etc/passwd": permission denied: unknown$'),
        ("/etc", 126, r'exec: "/etc": permission denied: unknown$'),
    ]
    for name, code, text in cases:
        shim = await made.create(process(name))
        with pytest.raises(StartError, match=text) as caught:
            await shim.start()
        assert caught.value.exit_code == code
        assert caught.value.message.startswith("failed to create task for container: failed to create shim task: OCI")
        assert (await shim.wait()).code == code
        assert json.loads((made.folder / f"{shim.container_id}.exit").read_text())["code"] == code
        await shim.delete()


@with_harness
async def test_a_failed_creation_leaves_nothing_behind(made: Harness) -> None:
    def change(spec: Spec) -> None:
        spec["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["rbind"]})

    with pytest.raises(CreateError, match=r"/no/such/source"):
        await made.create(process("true"), change=change, container_id="failing")
    assert list(made.shims.iterdir()) == []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            left = comm.read_text() == "shim:failing\n"
        except OSError:
            continue
        if left:  # it ends right after its answer
            await gone(int(comm.parent.name))
    assert (await made.run(process("true"), container_id="failing"))[0] == 0
