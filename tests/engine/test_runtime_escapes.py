"""Ways out of a container that have been tried elsewhere. Each test fails when the guard that it names is taken away."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from coved.runtime import syscalls
from coved.runtime.errors import CreateError, RuntimeFailure, StartError
from coved.runtime.shim_client import ShimClient
from coved.runtime.spawner_client import SpawnerClient
from coved.runtime.spec import Process, Spec, Stdio

from isolation_support import Make, shim_of
from runtime_support import Client, Harness, frames, process, with_harness

pytestmark = pytest.mark.root

INTERPRETER = os.path.realpath(sys.executable)


def with_python(spec: Spec) -> None:
    """The tests' own Python at its own place: a container's process that can make any system call."""
    for source, target in (
        ("/usr", "/usr"),
        ("/usr/lib", "/lib"),
        ("/usr/lib64", "/lib64"),
        (sys.base_prefix, sys.base_prefix),
    ):
        if Path(source).is_dir():
            spec["mounts"].append({"destination": target, "type": "bind", "source": source, "options": ["rbind"]})


def python(code: str, **values: Any) -> Process:
    return process(INTERPRETER, "-I", "-c", code, **values)


async def run_exec(shim: ShimClient, init: Process, name: str) -> tuple[int, bytes, bytes]:
    client = Client()
    await shim.exec(name, init, stdio=Stdio(), attach=[client.attachment()])
    client.handed_over()
    streams = frames(await client.read_all())
    client.close()
    return (await shim.wait(name)).code, streams[1], streams[2]


# -- the runtime's own program (CVE-2019-5736). Guard: spawner._protect_interpreter


@with_harness
async def test_a_container_that_is_the_runtimes_program_cannot_change_it(made: Harness) -> None:
    """As an image would whose command is /proc/self/exe: it is executed by the interpreter, and holds it open."""
    before = os.stat(INTERPRETER)
    code = (
        "import os, sys\n"
        "assert os.path.samefile('/proc/self/exe', sys.argv[1]), os.readlink('/proc/self/exe')\n"
        "for attempt in (lambda: os.utime('/proc/self/exe', (0, 0)), lambda: os.chmod('/proc/self/exe', 0o777)):\n"
        "    try:\n"
        "        attempt()\n"
        "    except OSError as error:\n"
        "        print(error.strerror)\n"
        "    else:\n"
        "        print('changed')\n"
    )
    init = process("/proc/self/exe", "-I", "-c", code, INTERPRETER, env=["PATH=/bin", f"PYTHONHOME={sys.base_prefix}"])
    try:
        status, out, err = await made.run(init, change=with_python)
        assert (status, out.splitlines()) == (0, [b"Read-only file system"] * 2), err
    finally:
        os.utime(INTERPRETER, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.chmod(INTERPRETER, before.st_mode & 0o7777)


# -- descriptors


class LeakyHarness(Harness):
    """Whoever started the spawner has left the machine's root open in it, as CVE-2024-21626 has shown to happen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.spawner.kill()
        self.spawner.wait(10)
        self.leak = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        read_end, write_end = os.pipe()
        words = [sys.executable, "-m", "coved.runtime.spawner", "--foreground", "--socket", str(self.socket)]
        words += ["--shims", str(self.shims), "--ready-fd", str(write_end)]
        self.spawner = subprocess.Popen(words, pass_fds=(self.leak, write_end), stdin=subprocess.DEVNULL)
        os.close(write_end)
        assert os.read(read_end, 1)
        os.close(read_end)
        self.client = SpawnerClient(self.socket, self.shims)

    async def close(self) -> None:
        await super().close()
        os.close(self.leak)


LIST = "for f in /proc/self/fd/* /proc/1/fd/*; do readlink $f; done; true"


def with_leaky_harness(test: Callable[[LeakyHarness], Any]) -> Callable[[], None]:
    def swapped(made: Harness) -> Any:
        async def inner() -> None:
            leaky = LeakyHarness(made.folder / "leaky")
            try:
                await test(leaky)
            finally:
                await leaky.close()

        (made.folder / "leaky").mkdir()
        return inner()

    swapped.__name__, swapped.__doc__, swapped.__module__ = test.__name__, test.__doc__, test.__module__
    return with_harness(swapped)


@with_leaky_harness
async def test_nothing_that_leaked_into_the_spawner_is_open_in_a_container(made: LeakyHarness) -> None:
    """Guard: close_range(CLOSE_RANGE_CLOEXEC) before execve."""
    shim = await made.create(process("sleep", "60"))
    await shim.start()
    _, out, _ = await run_exec(shim, process("sh", "-c", LIST), "one")
    code, first, _ = await made.run(process("sh", "-c", LIST))
    for text in (out, first):
        names = text.decode().splitlines()
        assert len(names) >= 6
        # The folder that the shell lists is its own; everything else is null or a pipe.
        assert all(name == "/dev/null" or name.startswith(("pipe:", "/proc/")) for name in names), names
    assert code == 0


@with_leaky_harness
async def test_no_working_directory_leads_out(made: LeakyHarness) -> None:
    """/proc/self/fd/N is a folder of the machine while the process is set up. Guard: the check of getcwd after chdir."""
    running = await made.create(process("sleep", "60"))
    await running.start()
    refused = 0
    for number in range(3, 24):
        try:
            _, out, _ = await made.run(process("pwd", cwd=f"/proc/self/fd/{number}"))
            assert out.startswith(b"/") and b"unreachable" not in out
        except (CreateError, StartError) as error:
            refused += "possible container breakout" in str(error)
        try:
            _, out, _ = await run_exec(running, process("pwd", cwd=f"/proc/self/fd/{number}"), f"e{number}")
            assert out.startswith(b"/") and b"unreachable" not in out
        except RuntimeFailure as error:
            refused += "possible container breakout" in str(error)
    assert refused >= 2  # the leak was tried, by init and by an exec


# -- processes that are being set up


@with_harness
async def test_a_process_that_is_set_up_in_a_shared_pid_namespace_is_closed_to_others(made: Harness) -> None:
    """It still is the runtime, with its memory and open files. Guard: PR_SET_DUMPABLE 0."""
    shim = await made.create(process("sleep", "60"))
    await shim.start()

    def joined(spec: Spec) -> None:
        spec["linux"]["namespaces"] = [
            {"type": "pid", "path": f"/proc/{shim.pid}/ns/pid"} if one["type"] == "pid" else one
            for one in spec["linux"]["namespaces"]
        ]

    waiting = await made.create(process("true"), change=joined)  # it waits before execve
    script = (
        "for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || ls -d $p; done 2>/dev/null | grep -v self;"
        "for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) ;; *) for x in exe root cwd fd/0; do "
        "readlink $p/$x >/dev/null 2>&1 && echo open $p/$x; done; head -c 1 $p/mem 2>/dev/null;; esac; done"
    )
    _, out, _ = await run_exec(shim, process("sh", "-c", script), "look")
    seen = out.decode().split()
    assert seen[0].startswith("/proc/")  # it was seen ...
    assert not any(word == "open" for word in seen), seen  # ... but not looked into
    await waiting.start()
    assert (await waiting.wait()).code == 0


def test_the_shim_is_closed_to_a_container_among_the_machines_processes(engine: Any, make: Make) -> None:
    """--pid host shows the shim; who may look into it has the machine. Guard: the capabilities that are dropped."""
    container = make(pid_mode="host")
    shim = shim_of(engine, container)
    script = (
        f"cat /proc/{shim}/comm; ls /proc/{shim}/root/ /proc/{shim}/cwd/ /proc/{shim}/fd/0/; head -c 1 /proc/{shim}/mem"
    )
    code, text = container.exec_run(["sh", "-c", script])
    lines = text.decode().splitlines()
    assert lines[0].startswith("shim:")
    assert code != 0 and len(lines) == 5
    assert all("Permission denied" in line for line in lines[1:]), lines


def test_the_shim_cannot_be_seen_from_inside(make: Make) -> None:
    """Guard: the pid namespace."""
    _, text = make().exec_run(["sh", "-c", "cat /proc/[0-9]*/comm"])
    assert sorted(set(text.decode().split())) == ["cat", "sh", "sleep"] or sorted(set(text.decode().split())) == [
        "cat",
        "sleep",
    ]


# -- paths that are masked or read-only


HOSTILE_WRITES = (
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/irq/default_smp_affinity",
    "/proc/sys/vm/drop_caches",
)


def test_the_kernels_files_cannot_be_written(engine: Any, make: Make) -> None:
    """Guard: the read-only paths. Root of the container owns them all."""
    script = "; ".join(
        f"cat {path} > /tmp/x 2>/dev/null; cat /tmp/x > {path} && echo written" for path in HOSTILE_WRITES
    )
    container = make("sh", "-c", f"touch /tmp/x; {script}; true", cap_add=["SYS_RESOURCE"])
    container.wait(timeout=30)
    text = container.logs().decode()
    assert "written" not in text
    assert text.count("Read-only file system") == sum(engine.exists(path) for path in HOSTILE_WRITES)


def test_what_tells_of_the_machine_is_empty(make: Make) -> None:
    """Guard: the masked paths."""
    paths = "/proc/kcore /proc/keys /proc/timer_list /proc/interrupts"
    script = f"for p in {paths}; do [ -e $p ] && head -c 1 $p | wc -c; done; ls /proc/acpi /sys/firmware /proc/scsi 2>/dev/null | grep -v :"
    container = make("sh", "-c", script)
    container.wait(timeout=30)
    counts = container.logs().decode().split()
    assert counts and set(counts) == {"0"}


@with_harness
async def test_masks_cannot_be_taken_off_without_capabilities(made: Harness) -> None:
    _, out, err = await made.run(
        process("sh", "-c", "umount /proc/keys; umount -l /proc/sys; mount -o remount,rw /proc/sys; true")
    )
    assert out == b"" and err.count(b"ermission denied") + err.count(b"not permitted") == 3


# -- mounts


@pytest.fixture
def shared_folder(engine: Any, scratch: Path) -> Iterator[Path]:
    """A folder of the machine on a mount that passes on what is mounted in it."""
    engine.sh(
        f"mount --bind {scratch} {scratch}; mount --make-shared {scratch}; mkdir {scratch}/inside {scratch}/outside"
    )
    yield scratch
    engine.sh(f"umount -l {scratch}")


@pytest.mark.parametrize(
    ("propagation", "out_to_host", "in_to_container"),
    [("", False, False), ("rslave", False, True), ("rshared", True, True)],
)
def test_mounts_go_only_where_they_were_let(
    engine: Any, make: Make, shared_folder: Path, propagation: str, out_to_host: bool, in_to_container: bool
) -> None:
    """Guard: bind mounts are private unless asked otherwise, and the new mount namespace is a slave of the machine's."""
    mode = f":{propagation}" if propagation else ""
    container = make(
        volumes=[f"{shared_folder}:/data{mode}"], cap_add=["SYS_ADMIN"], security_opt=["seccomp=unconfined"]
    )
    assert container.exec_run(["mount", "-t", "tmpfs", "cove-inside", "/data/inside"]).exit_code == 0
    assert ("cove-inside" in engine.read("/proc/self/mountinfo")) is out_to_host
    engine.sh(f"mount -t tmpfs cove-outside {shared_folder}/outside")
    seen = container.exec_run(["cat", "/proc/self/mountinfo"]).output.decode()
    assert ("cove-outside" in seen) is in_to_container
    container.exec_run(["umount", "/data/inside"])
    engine.sh(f"umount {shared_folder}/outside")


def test_the_machines_root_is_not_below_the_containers(engine: Any, make: Make) -> None:
    """Guard: pivot_root and the unmounting of the old root. chroot out is of no use without it."""
    container = make(cap_add=["SYS_ADMIN", "SYS_CHROOT"], security_opt=["seccomp=unconfined"])
    script = "mkdir /deep; umount / 2>/dev/null; chroot /deep /bin/true; cd /; ls -d ../../../etc/hostname; cat /proc/self/mountinfo"
    text = container.exec_run(["sh", "-c", script]).output.decode()
    own = engine.read("/proc/self/mountinfo").splitlines()
    root = next(line for line in own if line.split()[4] == "/").split()
    assert not any(line.split()[2] == root[2] and line.split()[3] == "/" for line in text.splitlines() if " - " in line)


# -- programs that give more rights


def test_setuid_programs_give_nothing_with_no_new_privileges(make: Make) -> None:
    """Guard: PR_SET_NO_NEW_PRIVS. tini is the program: it keeps whom it was made to be."""
    script = "cp /sbin/docker-init /tmp/su && chmod 4755 /tmp/su && exec sleep 300"
    for options, expected in (([], "0"), (["no-new-privileges"], "1000")):
        container = make("sh", "-c", script, init=True, security_opt=options)
        container.exec_run(["sh", "-c", "until [ -u /tmp/su ]; do :; done"])
        container.exec_run(["/tmp/su", "-s", "--", "sleep", "4711"], user="1000", detach=True)
        find = "until grep -l su /proc/[0-9]*/comm; do :; done; for p in /proc/[0-9]*; do grep -qx su $p/comm && grep Uid: $p/status; done"
        text = container.exec_run(["sh", "-c", find]).output.decode()
        effective = text.split("Uid:")[1].split()[1]
        assert effective == expected


# -- keys


SEARCH = (
    "import ctypes, sys\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    f"found = libc.syscall({syscalls.SYS_keyctl}, 10, -3, b'user', b'cove-secret', 0)\n"  # KEYCTL_SEARCH, session keyring
    "print('found' if found > 0 else 'nothing', flush=True)\n"
)


def keyed_spawner(folder: Path) -> int:
    """A spawner whose starter has the key in its session keyring; its pid. The tests' own session is left alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    add = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.new_session_keyring()
            assert libc.syscall(add, b"user", b"cove-secret", b"x", 1, -3) > 0
            own = subprocess.run([sys.executable, "-c", SEARCH], capture_output=True, text=True, timeout=20).stdout
            words = [sys.executable, "-m", "coved.runtime.spawner", "--socket", str(folder / "keyed.sock")]
            words += ["--shims", str(folder / "keyed"), "--ready-fd", str(write_end), "--foreground"]
            spawner = subprocess.Popen(words, pass_fds=(write_end,), start_new_session=True)
            (folder / "keyed.pid").write_text(f"{spawner.pid} {own}")
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    assert os.read(read_end, 1)
    os.close(read_end)
    spawner_pid, own = (folder / "keyed.pid").read_text().split()
    assert own == "found"  # the key is there for whoever shares that session
    return int(spawner_pid)


ADD = (
    "import ctypes, os, sys\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "number = {'x86_64': 248, 'aarch64': 217}[os.uname().machine]\n"
    "print('added' if libc.syscall(number, b'user', b'cove-secret', b'x', 1, -3) > 0 else 'refused', flush=True)\n"
)


@with_harness
async def test_keys_of_one_container_are_not_anothers(made: Harness) -> None:
    """Guard: a new session keyring for every init and for every exec."""
    first = await made.create(python(ADD + "sys.stdin.read()\n"), change=with_python, stdio=Stdio(open_stdin=True))
    client = await made.attach(first)
    await first.start()
    assert b"added" in await client.read_until(b"\n")
    client.close()
    assert (await made.run(python(SEARCH), change=with_python))[1] == b"nothing\n"
    # Execs come from the shim, as the next container comes from the spawner.
    assert (await run_exec(first, python(ADD), "one"))[1] == b"added\n"
    assert (await run_exec(first, python(SEARCH), "two"))[1] == b"nothing\n"


@with_harness
async def test_no_key_of_whoever_started_the_engine_is_had(made: Harness) -> None:
    """Guard: a new session keyring for every init and exec, and one for the spawner where those cannot be had."""
    spawner_pid = keyed_spawner(made.folder)
    ours = made.client
    made.client = SpawnerClient(made.folder / "keyed.sock", made.folder / "keyed")
    try:
        shim = await made.create(
            python(SEARCH + "sys.stdin.read()\n"), change=with_python, stdio=Stdio(open_stdin=True, stdin_once=True)
        )
        client = await made.attach(shim, stdin=True)
        await shim.start()
        assert b"nothing" in await client.read_until(b"\n")
        assert (await run_exec(shim, python(SEARCH), "one"))[1] == b"nothing\n"
        client.half_close()
        await shim.wait()
        await shim.delete()
        client.close()
    finally:
        made.client = ours
        os.kill(spawner_pid, 9)
