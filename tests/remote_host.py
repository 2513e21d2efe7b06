"""Another computer with Linux, as far as a program can tell that comes by SSH: namespaces of its own for network, mounts, processes and
cgroups, a root file system of its own, and a real sshd. Between it and this computer is a pair of network devices that can be cut.

For root. Its root file system is this computer's, with an upper layer (`changed` says what is in that), and empty real folders in the
places of `PLACES`, in which file systems of the kind overlay can be made.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "engine"))

from debian_files import sshd_program

START_S, LOOK_S = 60, 120
PLACES = ("/root", "/var/lib", "/opt", "/srv", "/home")
_MOUNTS = """
set -eu
mount --make-rprivate /
mount -t overlay -o lowerdir=/,upperdir={folder}/upper,workdir={folder}/work overlay {folder}/root
cd {folder}/root
for place in {places}; do mount --bind {folder}/places/$(echo $place | tr / _) .$place; done
mount -t tmpfs tmpfs run; mount -t tmpfs -o mode=1777 tmpfs tmp; mkdir run/sshd run/lock
mount -t tmpfs -o mode=755 tmpfs dev
for one in null zero full random urandom tty fuse; do
    [ ! -e /dev/$one ] || {{ : >dev/$one; mount --bind /dev/$one dev/$one; }}
done
mkdir dev/pts dev/shm; mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts; ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
mount -t proc proc proc; mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for path in {shared}; do mkdir -p .$path; mount --bind $path .$path; done
mkdir -p run/before; pivot_root . run/before; umount -l run/before; rmdir run/before
hostname {name}; ip link set lo up; echo 0 >/proc/sys/net/ipv4/ip_forward
exec {python} -c {init}
"""
_INIT = """
import os, subprocess, sys
os.chdir("/")
subprocess.Popen(["/usr/sbin/sshd", "-D", "-e"], stdin=subprocess.DEVNULL, stdout=sys.stderr)
print("up", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
_SSHD = """
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
UsePAM no
Subsystem sftp internal-sftp
"""


class RemoteHost:
    """Up from `start` to `close`. `shared` are folders of this computer that are there as well, at the same paths."""

    def __init__(self, *, shared: tuple[Path, ...] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cove-far-", dir="/tmp"))
        self.name = f"far-{secrets.token_hex(3)}"
        self.shared = shared
        number = secrets.randbelow(1 << 14) * 4
        self.near_address, self.address = (f"198.18.{number >> 8}.{(number & 255) + one}" for one in (1, 2))
        self.device = f"cf{secrets.token_hex(4)}"
        self.cgroup = _cgroup_root() / f"cove-{self.name}"
        self.user_key, self._host_key = self.folder / "user_key", self.folder / "host_key"
        self._init: subprocess.Popen[bytes] | None = None
        for part in ("upper", "work", "root", "places"):
            (self.folder / part).mkdir()
        for place in PLACES:
            (self.folder / "places" / place.replace("/", "_")).mkdir()
        for key in (self.user_key, self._host_key):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key), "-C", "")
        self._write(self.folder / "places/_root/.ssh/authorized_keys", self.user_key.with_suffix(".pub").read_text())
        self._bring(*sshd_program())
        self.sshd(_SSHD)
        self.new_host_key(self._host_key)

    def _bring(self, sshd: Path, libraries: Path) -> None:
        """An SSH server that this computer need not have installed."""
        if sshd == Path("/usr/sbin/sshd"):
            return
        for source, place in ((sshd, "usr/sbin"), (libraries / "libwrap.so.0", "usr/lib/x86_64-linux-gnu")):
            (self.folder / "upper" / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, self.folder / "upper" / place)
        users = Path("/etc/passwd").read_text()
        if not any(line.startswith("sshd:") for line in users.splitlines()):
            self._write(self.folder / "upper/etc/passwd", f"{users}sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
            (self.folder / "upper/etc/passwd").chmod(0o644)

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700 if path.parent.name == ".ssh" else 0o755)
        path.touch(0o600)
        path.write_text(text)

    def sshd(self, configuration: str) -> None:
        """From its next start on."""
        self._write(self.folder / "upper/etc/ssh/sshd_config", configuration)

    def new_host_key(self, key: Path | None = None) -> None:
        """From its next start on; that of a computer which is another one, unless it is given."""
        if key is None:
            key = self.folder / f"host_key-{secrets.token_hex(3)}"
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key), "-C", "")
        self._host_key = key
        self._write(self.folder / "upper/etc/ssh/ssh_host_ed25519_key", key.read_text())
        self._write(self.folder / "upper/etc/ssh/ssh_host_ed25519_key.pub", key.with_suffix(".pub").read_text())

    @property
    def host_key(self) -> str:
        """Its public key: kind and base64."""
        return " ".join(self._host_key.with_suffix(".pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        """ "SHA256:...", as ssh-keygen shows it."""
        return _run("ssh-keygen", "-l", "-f", str(self._host_key.with_suffix(".pub"))).split()[1]

    def start(self) -> None:
        self.cgroup.mkdir(exist_ok=True)
        script = _MOUNTS.format(
            folder=self.folder, places=" ".join(PLACES), shared=" ".join(map(str, self.shared)) or "''", name=self.name,
            python=shlex.quote(os.path.realpath("/usr/bin/python3")), init=shlex.quote(_INIT),
        ).replace("for path in ''", "for path in")  # fmt: skip
        enter = f"echo 0 >{self.cgroup}/cgroup.procs; exec unshare -nmpuiC --fork sh -c {shlex.quote(script)}"
        with (self.folder / "log").open("ab") as log:
            self._init = subprocess.Popen(
                ["sh", "-c", enter], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        assert self._init.stdout is not None
        if not select.select([self._init.stdout], [], [], START_S)[0] or self._init.stdout.readline() != b"up\n":
            raise AssertionError(f"the far host does not start:\n{self.log()[-3000:]}")
        net = self.pid
        _run("ip", "link", "add", self.device, "type", "veth", "peer", "name", "eth0", "netns", str(net))
        _run("ip", "address", "add", f"{self.near_address}/30", "dev", self.device)
        _run(*self.inside("ip", "address", "add", f"{self.address}/30", "dev", "eth0"))
        _run("ip", "link", "set", self.device, "up")
        self.restore()

    @property
    def pid(self) -> int:
        """Of its PID 1, as this computer counts."""
        assert self._init is not None
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        return int(children[0])

    def inside(self, *words: str) -> list[str]:
        """A command line of this computer that runs there."""
        return ["nsenter", "-t", str(self.pid), "-a", *words]

    def sh(self, script: str) -> str:
        """What a shell there says; what goes wrong there is a failure."""
        return _run(*self.inside("sh", "-c", script))

    def begin(self, script: str) -> None:
        """What goes on there when this returns, with its words in the log."""
        with (self.folder / "log").open("ab") as log:
            words = self.inside("setsid", "-f", "sh", "-c", script)
            subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=LOOK_S, check=True)

    def cut(self) -> None:
        """What is sent from now on is lost; this computer is told no more than that there is no carrier."""
        _run(*self.inside("ip", "link", "set", "eth0", "down"))

    def restore(self) -> None:
        _run(*self.inside("ip", "link", "set", "eth0", "up"))

    def stop(self) -> None:
        """As a power cut does; what is on its disks stays."""
        if self._init is not None:
            with contextlib.suppress(OSError, IndexError):
                os.kill(self.pid, 9)
            self._init.wait(30)
            assert self._init.stdout is not None
            self._init.stdout.close()
            self._init = None
        subprocess.run(["ip", "link", "delete", self.device], capture_output=True, timeout=LOOK_S)
        deadline = time.monotonic() + START_S
        while self.cgroup.exists():
            for one in sorted(self.cgroup.rglob("*/"), key=lambda path: -len(path.parts)):
                with contextlib.suppress(OSError):
                    one.rmdir()
            with contextlib.suppress(OSError):
                self.cgroup.rmdir()
                break
            assert time.monotonic() < deadline, "processes of the far host do not end"
            time.sleep(0.05)

    def reboot(self) -> None:
        self.stop()
        self.start()

    def changed(self) -> set[str]:
        """Paths there that are not this computer's: files, and folders that are empty. What is in /run and /tmp is not among them."""
        found = set()
        for base, there in [
            (self.folder / "upper", ""),
            *((self.folder / "places" / place.replace("/", "_"), place) for place in PLACES),
        ]:
            for folder, folders, files in os.walk(base):
                at = Path(folder).relative_to(base)
                found |= {str(Path(f"{there}/") / at / one) for one in files}
                if not folders and not files and folder != str(base):
                    found.add(str(Path(f"{there}/") / at))
        return found

    def traces(self) -> dict[str, str]:
        """What a program could leave there beside files on its disks, each as text to compare."""
        # This checkout may lie in /tmp, and has byte code written into it meanwhile.
        not_ours = " ".join(f"-not -path {shlex.quote(f'{one}*')}" for one in ("/run/before", *self.shared))
        return {
            "processes": " ".join(sorted(self._processes())),
            "mounts": self.sh("awk '{print $5, $9}' /proc/self/mountinfo | sort"),
            "devices": self.sh("ls /sys/class/net"),
            "cgroups": self.sh("find /sys/fs/cgroup -mindepth 1 -type d"),
            "run": self.sh(f"find /run /tmp -mindepth 1 {not_ours} | sort"),
            "sysctls": self.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/route_localnet"),
            "sockets": self.sh("awk 'NR > 1 {print $2, $4}' /proc/net/tcp /proc/net/tcp6 | grep ' 0A$' | sort"),
        }

    def _processes(self) -> list[str]:
        """Names of all that was started there, and not from here."""
        names = []
        for file in self.cgroup.rglob("cgroup.procs"):
            for pid in file.read_text().split():
                with contextlib.suppress(OSError):
                    names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        return names

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _cgroup_root() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("this computer has no cgroup v2")


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=LOOK_S, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{shlex.join(words)[:2000]}\n{done.stdout}{done.stderr}"
    return done.stdout
