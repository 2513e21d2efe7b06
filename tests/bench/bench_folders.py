"""Shared folders by each driver, against a volume on the VM's own disk, and against sshfs, which is the yardstick.

python tests/bench/bench_folders.py [--files N] [--small N] [--mib N] [--drivers 9p,agent,virtiofs] [--home DIR] [--sshfs DIR]

All is done by programs in one container, so that each has the same costs but for the file system: this computer's own git, and busybox.
With `--sshfs` DIR has the unpacked Debian packages sshfs, libfuse3-3 and openssh-sftp-server (`apt-get download`, `dpkg -x`); the
container mounts the same folder through OpenSSH's client to the VM then, as tools do that use sshfs for this.
`--home` is the COVE_HOME of a machine that may be restarted, with HOME below it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from machine_support import START_S, Machine, shared_cache

FASTER, CACHED = 3.0, 2.0
"""Goals: small-file work so many times faster than sshfs, and cached reads within so many times of the VM's disk."""
WORK = r"""
cd "$1" || exit 1
now() { read up rest < /proc/uptime; echo "${up%.*}${up#*.}"; }
cold() { sync; echo 3 > /proc/sys/vm/drop_caches; }
timed() { name=$1; shift; begin=$(now); "$@" > /dev/null || echo "failed: $*" >&2; echo "$name $(($(now) - begin))"; }
cold; timed write dd if=/dev/zero of=big bs=1M count=@MIB@ conv=fsync 2> /dev/null
cold; timed read dd if=big of=/dev/null bs=1M 2> /dev/null
timed reread dd if=big of=/dev/null bs=1M 2> /dev/null
rm big
timed unpack tar xf /small.tar
timed remove rm -rf node_modules
git status > /dev/null
cold; timed status git status
timed status-again git status
cold; timed find find . -type f
timed find-again find . -type f
"""
NAMES = {
    "write": "write {mib} MiB and sync",
    "read": "read {mib} MiB",
    "reread": "read them again",
    "unpack": "unpack {small} files of 2 KiB",
    "remove": "remove them",
    "status": "git status, {files} files",
    "status-again": "git status again",
    "find": "find",
    "find-again": "find again",
}
SMALL_WORK = ("unpack", "remove", "status", "find")


def add_programs(file: Path, sshfs: Path | None, mib: int, small: int) -> None:
    """To an archive of a root file system: git and sshfs, which are Debian's, with their libraries."""
    programs = [shutil.which("git")]
    search = dict(os.environ)
    if sshfs is not None:
        programs.append(str(sshfs / "usr/bin/sshfs"))
        search["LD_LIBRARY_PATH"] = ":".join(str(one) for one in sshfs.glob("**/lib/*-linux-gnu"))
    with tarfile.open(file, mode="a") as archive:
        seen: set[str] = set()
        for program in filter(None, programs):
            archive.add(os.path.realpath(program), f"bin/{Path(program).name}")
            listed = subprocess.run(["ldd", program], capture_output=True, text=True, env=search, check=False).stdout
            for library in re.findall(r"(/\S+)", listed):
                name = (
                    f"lib64/{Path(library).name}"
                    if "ld-linux" in library
                    else f"lib/x86_64-linux-gnu/{Path(library).name}"
                )
                if name not in seen:
                    seen.add(name)
                    archive.add(os.path.realpath(library), name)
        _add(archive, "small.tar", _small(small))
        _add(archive, "work.sh", WORK.replace("@MIB@", str(mib)).encode())
        _add(archive, "etc/gitconfig", b"[safe]\n\tdirectory = *\n[gc]\n\tauto = 0\n")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _small(files: int) -> bytes:
    """As npm ci unpacks: eight files in a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for index in range(files):
            _add(archive, f"node_modules/package{index // 8}/lib/file{index % 8}.js", b"x" * 2048)
    return buffer.getvalue()


def repository(folder: Path, files: int) -> None:
    for index in range(files):
        place = folder / f"d{index // 400}" / f"e{index // 20}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file{index}.txt").write_text(f"{index}\n" * 40)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-c", "safe.directory=*", "-C", str(folder), *words], check=True)


class Bench:
    def __init__(self, machine: Machine, folder: Path, chosen: argparse.Namespace) -> None:
        self.machine = machine
        self.folder = folder
        archive = machine.home / "bench.tar"
        self.docker("rm", "-f", "bench", check=False)
        self.docker("create", "--name", "bench", "busybox")
        self.docker("export", "-o", str(archive), "bench")
        self.docker("rm", "bench")
        add_programs(archive, chosen.sshfs, chosen.mib, chosen.small)
        self.docker("import", str(archive), "bench-folders")

    def docker(self, *words: str, check: bool = True) -> str:
        return self.machine.docker(*words, timeout_s=3600, check=check).stdout

    def restart(self, driver: str) -> None:
        self.machine.cove("config", "set", "folder_driver", driver)
        self.machine.cove("machine", "restart", timeout_s=START_S)

    def check_shared(self, driver: str) -> None:
        told = json.loads(self.machine.cove("machine", "status", "--json").stdout)
        if told["folders"][0]["state"] != "shared":
            raise SystemExit(f"{driver}: {told['folders']}")

    @contextlib.contextmanager
    def container(self, *mounts: str) -> Iterator[None]:
        self.docker("run", "-d", "--name", "bench", "--privileged", *mounts, "bench-folders", "sleep", "100000")
        try:
            yield
        finally:
            self.docker("rm", "-f", "bench")

    def measure(self) -> dict[str, float]:
        said = self.docker("exec", "bench", "sh", "/work.sh", "/work")
        return {name: int(hundredths) / 100 for name, hundredths in (line.split() for line in said.splitlines())}

    def by_driver(self, driver: str) -> dict[str, float]:
        self.restart(driver)
        with self.container("-v", f"{self.folder}:/work"):
            self.check_shared(driver)
            return self.measure()

    def on_disk(self) -> dict[str, float]:
        with self.container("-v", "bench-folders:/work", "-v", f"{self.folder}:/from:ro"):
            self.docker("exec", "bench", "cp", "-a", "/from/.", "/work/")
            result = self.measure()
        self.docker("volume", "rm", "bench-folders")
        return result

    def by_sshfs(self, sshfs: Path) -> dict[str, float]:
        port = json.loads(self.machine.cove("machine", "status", "--json").stdout)["ssh_port"]
        files = self.machine.folder
        with self.container():
            pid = self.docker("inspect", "-f", "{{.State.Pid}}", "bench").strip()
            self.docker("exec", "bench", "mkdir", "-p", "/work")
            inside = f"busybox nsenter -t {pid} -m -- /bin/sshfs -f -o passive,cache=yes,allow_other laptop:{self.folder} /work"
            ssh = [
                "ssh",
                "-i",
                str(files / "ssh_key"),
                "-p",
                str(port),
                "-o",
                f"UserKnownHostsFile={files / 'known_hosts'}",
            ]
            ssh += ["-o", f"HostKeyAlias=cove-{files.name}", "-o", "LogLevel=ERROR", "root@127.0.0.1", inside]
            server = sshfs / "usr/lib/openssh/sftp-server"
            there, here = os.pipe(), os.pipe()
            with (
                subprocess.Popen([server], stdin=there[0], stdout=here[1]) as serving,
                subprocess.Popen(ssh, stdin=here[0], stdout=there[1]) as carrying,
            ):
                for descriptor in (*there, *here):
                    os.close(descriptor)
                try:
                    look = "until grep -q ' /work fuse' /proc/mounts; do sleep 0.2; done"
                    self.docker("exec", "bench", "sh", "-c", look)
                    return self.measure()
                finally:
                    carrying.terminate()
                    serving.terminate()


def table(results: dict[str, dict[str, float]], chosen: argparse.Namespace) -> None:
    disk = results["the VM's disk"]
    print(f"| seconds | {' | '.join(results)} |")
    print(f"| --- |{' ---: |' * len(results)}")
    for name, shown in NAMES.items():
        cells = [
            f"{one[name]:.2f} ({one[name] / max(disk[name], 0.01):.1f})" if one is not disk else f"{one[name]:.2f}"
            for one in results.values()
        ]
        print(f"| {shown.format(**vars(chosen))} | {' | '.join(cells)} |")
    print("\nIn brackets: times of the VM's own disk.\n")
    yardstick = results.get("sshfs")
    for driver, one in results.items():
        if one in (disk, yardstick):
            continue
        cached = one["reread"] / max(disk["reread"], 0.01)
        words = [f"{driver}: cached re-read {cached:.1f} times the VM's disk (goal {CACHED:g})"]
        if yardstick is not None:
            faster = sum(yardstick[name] for name in SMALL_WORK) / sum(one[name] for name in SMALL_WORK)
            words.append(f"small-file work {faster:.1f} times as fast as sshfs (goal {FASTER:g})")
        print(f"* {', '.join(words)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--small", type=int, default=2000, help="files that are unpacked")
    parser.add_argument("--mib", type=int, default=64, help="MiB that are written and read")
    parser.add_argument("--drivers", default="9p,agent,virtiofs")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--sshfs", type=Path)
    chosen = parser.parse_args()
    home = chosen.home or Path(tempfile.mkdtemp(prefix="cove-b", dir="/tmp"))
    if not chosen.home:
        (home / "user").mkdir()
        (home / "cache").symlink_to(shared_cache(), target_is_directory=True)
    machine = Machine(home)
    folder = home / "user/bench"
    results: dict[str, dict[str, float]] = {}
    try:
        machine.cove("machine", "start", timeout_s=START_S)
        repository(folder, chosen.files)
        bench = Bench(machine, folder, chosen)
        for driver in chosen.drivers.split(","):
            results[driver] = bench.by_driver(driver)
            print(driver, results[driver], file=sys.stderr)
        if chosen.sshfs:
            results["sshfs"] = bench.by_sshfs(chosen.sshfs)
        results["the VM's disk"] = bench.on_disk()
        table(results, chosen)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not chosen.home:
            machine.cove("machine", "rm", "--force", timeout_s=180, check=False)
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
