"""What is imported on macOS and Windows is there on macOS and Windows.

Every module of the client is imported in a process that takes itself for such a computer: while a line of Cove's runs, the modules and
functions that Python has on Linux alone are gone. (Other packages are imported as they are; and of what the client calls, not only
imports, `make check` has mypy look for each system.)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cove
import pytest
from not_on_windows import LEFT_OUT, UNIT

assert cove.__file__ is not None
HOST = Path(cove.__file__).parent
LINUX_ALONE = {"share/watching/inotify.py"}
POSIX_ALONE = LINUX_ALONE | {"share/ninep/posix.py"}
WINDOWS_ALONE = {
    "agent/endsession.py",
    "local/pipes.py",
    "share/watching/notifications.py",
    "share/ninep/nt.py",
    "share/ninep/windows.py",
}
NOT_THERE = {
    "darwin": {"modules": [], "not": LINUX_ALONE | WINDOWS_ALONE},
    "win32": {
        "modules": ["fcntl", "grp", "pty", "pwd", "resource", "termios", "tty", "readline", "syslog", "curses"],
        "not": POSIX_ALONE,
    },
}
MISSING = {
    "darwin": {
        "os": ["O_PATH", "O_TMPFILE", "pidfd_open", "pipe2", "memfd_create", "getxattr", "setxattr", "listxattr", "sched_getaffinity"],
        "select": ["epoll", "EPOLLIN", "EPOLLOUT", "EPOLLET"],
        "socket": ["AF_NETLINK", "AF_PACKET", "AF_VSOCK", "SO_PEERCRED", "SOCK_CLOEXEC", "SOCK_NONBLOCK"],
        "signal": ["pthread_sigmask", "SIGRTMIN", "SIGPWR"],
        "time": ["CLOCK_BOOTTIME"],
    },
    "win32": {
        "os": [
            "O_PATH", "O_TMPFILE", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "pidfd_open", "pipe2",
            "memfd_create", "getxattr", "setxattr", "listxattr", "sched_getaffinity", "fork", "forkpty", "getuid", "geteuid", "getgid",
            "getegid", "getgroups", "setsid", "killpg", "getpgid", "sendfile", "register_at_fork", "chown", "fchown", "lchown", "fchmod",
            "mkfifo", "mknod", "major", "minor", "pread", "pwrite", "statvfs", "fstatvfs", "sysconf", "uname", "WNOHANG", "environb",
            "wait4", "nice", "chroot", "openpty", "ttyname",
        ],
        "select": ["epoll", "poll", "EPOLLIN", "EPOLLOUT", "EPOLLET", "POLLIN", "POLLHUP"],
        "socket": ["AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "SO_PEERCRED", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SCM_RIGHTS",
                   "MSG_DONTWAIT", "MSG_NOSIGNAL", "send_fds", "recv_fds"],
        "signal": ["SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCHLD", "SIGPIPE", "pthread_sigmask", "setitimer"],
        "time": ["CLOCK_BOOTTIME", "CLOCK_REALTIME", "CLOCK_MONOTONIC", "clock_gettime", "tzset"],
        "asyncio": ["open_unix_connection", "start_unix_server"],
    },
}  # fmt: skip

SCRIPT = """
import asyncio, builtins, ctypes, importlib, importlib.metadata, os, select, signal, socket, subprocess, sys, time, types

name, modules, missing, blocked = sys.argv[1], *map(eval, sys.argv[2:])
kept = {(owner, one): getattr(sys.modules[owner], one) for owner in missing for one in missing[owner] if hasattr(sys.modules[owner], one)}
REAL = sys.platform

class Anything(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

def pretend():
    sys.platform = name
    for owner, one in kept:
        vars(sys.modules[owner]).pop(one, None)

def admit():
    sys.platform = REAL
    for (owner, one), value in kept.items():
        setattr(sys.modules[owner], one, value)

def ours(module):
    return module.partition(".")[0] in ("cove", "coved")

inner = builtins.__import__

def imported(module, globals=None, locals=None, fromlist=(), level=0):
    if not ours((globals or {}).get("__name__") or "") or level or ours(module):
        return inner(module, globals, locals, fromlist, level)
    if module.partition(".")[0] in blocked:
        raise ModuleNotFoundError(f"{module} is not there on {name}")
    if name == "win32" and module in ("_winapi", "msvcrt", "winreg"):
        return sys.modules.setdefault(module, Anything(module))
    admit()
    try:
        return inner(module, globals, locals, fromlist, level)
    finally:
        pretend()

if name == "win32":
    for number, one in enumerate(("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP", "CREATE_BREAKAWAY_FROM_JOB")):
        setattr(subprocess, one, 1 << number)
    ctypes.WinDLL = lambda name, **options: Anything(name)
    ctypes.WINFUNCTYPE = ctypes.CFUNCTYPE
builtins.__import__ = imported
failed = 0
pretend()
for module in modules:
    try:
        importlib.import_module(module)
    except BaseException as error:
        admit()
        failed += 1
        print(f"{module}: {error!r}")
        pretend()
admit()
sys.exit(min(failed, 1))
"""


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_every_module_is_imported_where_it_may_be(platform: str) -> None:
    left_out = NOT_THERE[platform]["not"]
    modules = [
        ".".join(["cove", *path.relative_to(HOST).with_suffix("").parts]).removesuffix(".__init__")
        for path in sorted(HOST.rglob("*.py"))
        if str(path.relative_to(HOST)) not in left_out and path.name != "__main__.py" and "recipe" not in path.parts
    ]
    assert len(modules) > 150
    words = [platform, repr(modules), repr(MISSING[platform]), repr(NOT_THERE[platform]["modules"])]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_for_one_system_is_imported_there_alone() -> None:
    for path in HOST.rglob("*.py"):
        file, text = str(path.relative_to(HOST)), path.read_text()
        assert "cove.share.ninep" not in "".join(re.findall(r"(?:from|import) +(\S+)", text)) or file.startswith(
            "share/ninep/"
        )
        for module, line in (
            ("cove.share.watching.inotify", 'if sys.platform == "linux"'),
            ("pipes", 'if sys.platform == "win32"'),
            ("windows", 'if sys.platform == "win32"'),
        ):
            if re.search(rf"(?:from|import) +(?:\S+ import +)?{re.escape(module)}\b", text):
                assert line in text, file


@pytest.mark.parametrize("line", ["import fcntl", "import os; os.getuid", "from socket import AF_UNIX"])
def test_it_would_be_seen(line: str, tmp_path: Path) -> None:
    (tmp_path / "coved.py").write_text(line)
    missing, modules = repr(MISSING["win32"]), repr(NOT_THERE["win32"]["modules"])
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.modules.pop('coved', None)\n{SCRIPT}"
    done = subprocess.run(
        [sys.executable, "-c", script, "win32", "['coved']", missing, modules],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.startswith("coved: ")) == (1, True), done.stderr


def test_what_windows_leaves_out_is_there() -> None:
    for file, left_out in LEFT_OUT.items():
        text = (UNIT / file).read_text()
        for test in () if isinstance(left_out, str) else left_out:
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{file} has no {test}"
