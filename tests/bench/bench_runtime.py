"""What the runtime costs: create, start, wait, delete of ``/bin/true`` against the bare floor of the same kernel work.

Run as root: ``python tests/bench/bench_runtime.py [--rounds N]``. The goal is at most 3 times the floor.
"""

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from coved.runtime import syscalls
from coved.runtime.logfile import LogFile
from coved.runtime.spec import LogTarget, Seccomp, Stdio
from runtime_support import Harness, harness, process, rootfs

# About as many rules as docker's profile.
PROFILE: Seccomp = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "syscalls": [
        {
            "names": (
                "accept accept4 access arch_prctl bind brk capget capset chdir chmod chown clock_gettime clone"
                " close connect copy_file_range dup dup2 dup3 epoll_create1 epoll_ctl epoll_wait eventfd2 execve"
                " exit exit_group faccessat faccessat2 fchdir fchmod fchown fcntl fdatasync flock fork fstat"
                " fstatfs fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getgroups getpeername"
                " getpgrp getpid getppid getrandom getrlimit getsockname getsockopt gettid gettimeofday getuid"
                " ioctl kill link listen lseek lstat madvise mkdir mknod mmap mprotect mremap munmap nanosleep"
                " newfstatat open openat pause pipe pipe2 poll ppoll prctl pread64 prlimit64 pwrite64 read"
                " readlink readv recvfrom recvmsg rename rmdir rseq rt_sigaction rt_sigprocmask rt_sigreturn"
                " select sendfile sendmsg sendto set_robust_list set_tid_address setgid setgroups setitimer"
                " setpgid setsid setsockopt setuid shutdown sigaltstack socket socketpair stat statfs statx"
                " symlink sysinfo tgkill time timer_create umask uname unlink unlinkat utimensat vfork wait4"
                " waitid write writev"
            ).split(),
            "action": "SCMP_ACT_ALLOW",
        }
    ],
}


def floor(folder: Path) -> None:
    """fork, six namespaces, overlay, proc, dev, pivot_root, exec, reap: nothing else."""
    flags = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC
    flags |= syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP | syscalls.CLONE_NEWPID
    pid = os.fork()
    if pid == 0:
        syscalls.unshare(flags)
        inner = os.fork()
        if inner == 0:
            merged = str(folder / "merged")
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            options = f"lowerdir={rootfs()},upperdir={folder}/upper,workdir={folder}/work"
            syscalls.mount("overlay", merged, "overlay", 0, options)
            syscalls.mount("proc", f"{merged}/proc", "proc", 0)
            syscalls.mount("tmpfs", f"{merged}/dev", "tmpfs", 0, "mode=755")
            os.mknod(f"{merged}/dev/null", 0o20666, os.makedev(1, 3))
            os.chdir(merged)
            syscalls.pivot_root(".", ".")
            syscalls.umount2(".", syscalls.MNT_DETACH)
            os.execv("/bin/true", ["true"])
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0


class Floor:
    """Done by a process of its own, which is forked before there is an event loop: its forks shall have little to copy."""

    def __init__(self, folder: Path) -> None:
        self._sock, theirs = socket.socketpair()
        if os.fork() == 0:
            self._sock.close()
            while number := theirs.recv(16).decode():
                for name in ("upper", "work", "merged"):
                    (folder / number / name).mkdir(parents=True)
                started = time.perf_counter()
                floor(folder / number)
                theirs.send(str(time.perf_counter() - started).encode())
            os._exit(0)
        theirs.close()

    def seconds(self, number: int) -> float:
        self._sock.send(str(number).encode())
        return float(self._sock.recv(64))

    def close(self) -> None:
        self._sock.close()


async def through_the_runtime(made: Harness, steps: dict[str, list[float]]) -> None:
    container_id = made.new_id()
    spec = made.spec(process("/bin/true"), container_id, seccomp=PROFILE)
    marks = [time.perf_counter()]
    shim = await made.client.create(
        container_id,
        spec,
        stdio=Stdio(),
        log=LogTarget(made.folder / f"{container_id}.log"),
        exit_file=made.folder / f"{container_id}.exit",
    )
    marks.append(time.perf_counter())
    await shim.start()
    marks.append(time.perf_counter())
    assert (await shim.wait()).code == 0
    marks.append(time.perf_counter())
    await shim.delete()
    marks.append(time.perf_counter())
    for index, name in enumerate(("create", "start", "wait", "delete")):
        steps[name].append(marks[index + 1] - marks[index])
    steps["all"].append(marks[-1] - marks[0])


def log_lines(count: int) -> float:
    data = b"".join(b"line number %d\n" % number for number in range(count))
    with tempfile.TemporaryDirectory() as folder:
        log = LogFile(f"{folder}/log")
        started = time.perf_counter()
        for start in range(0, len(data), 65536):
            log.feed("stdout", data[start : start + 65536])
        log.close()
        return time.perf_counter() - started


async def run(rounds: int) -> float:
    folder = Path(tempfile.mkdtemp(prefix="cove-floor-"))
    rootfs()
    os.sync()  # the end of an overlay waits for dirty data of its file system
    bare, floors = Floor(folder), []
    steps: dict[str, list[float]] = {name: [] for name in ("create", "start", "wait", "delete", "all")}
    async with harness() as made:
        await through_the_runtime(made, {name: [] for name in steps})  # compiles the seccomp profile
        for number in range(rounds):  # in turn, so that the computer's load weighs on both
            floors.append(bare.seconds(number))
            await through_the_runtime(made, steps)
    bare.close()
    shutil.rmtree(folder)
    ratio = statistics.median(steps["all"]) / statistics.median(floors)
    print("| what | least ms | median ms | 95 % ms |")
    print("| --- | ---: | ---: | ---: |")
    for name, values in (("floor", floors), *steps.items()):
        ordered = sorted(values)
        shown = (ordered[0], statistics.median(values), ordered[int(len(ordered) * 0.95)])
        print(f"| {name} | " + " | ".join(f"{value * 1000:.2f}" for value in shown) + " |")
    print(f"\nratio of all to floor: {ratio:.2f} (goal: at most 3)")
    print(f"200,000 log lines: {log_lines(200_000) * 1000:.0f} ms")
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    return 0 if asyncio.run(run(parser.parse_args().rounds)) <= 3 else 1


if __name__ == "__main__":
    sys.exit(main())
