"""What a host must have for Cove's engine, how scripts get their values, and what is brought there."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cove.errors import RemoteError
from cove.image.tree import Tree, file, symlink
from cove.remote import payload, scripts
from cove.remote.engine import Found, RemoteEngine, look
from cove.remote.host import Host, Ran
from cove.remote.payload import Payload
from coved.remote.places import KEPT, OF_THE_BOOT

GOOD = Found("x86_64", "6.1.0-18-amd64", "alice", 1000, 1000, "sudo", "v2")
NAME, DIGEST = "0123456789abcdef", "ab" * 32


class ThisComputer(Host):
    """Runs what is to be run there in a shell here, and remembers it."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []

    def run(self, command: Sequence[str], *, stdin: Any = b"", timeout_s: float) -> Ran:
        self.commands.append(command)
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s)
        return Ran(done.returncode, done.stdout, done.stderr)

    def open_stream(self, target: str) -> Any:
        raise NotImplementedError


class Says(Host):
    """Answers each command with the next of what it was given."""

    def __init__(self, *answers: Ran) -> None:
        self.answers = list(answers)
        self.commands: list[Sequence[str]] = []

    def run(self, command: Sequence[str], *, stdin: Any = b"", timeout_s: float) -> Ran:
        self.commands.append(command)
        return self.answers.pop(0)

    def open_stream(self, target: str) -> Any:
        raise NotImplementedError


def told(**changes: str) -> Ran:
    lines = {
        "machine": "aarch64", "kernel": "6.1.0", "system": "Linux", "login": "alice", "uid": "1000", "gid": "1000",
        "root": "sudo", "cgroup": "v2",
    }  # fmt: skip
    return Ran(0, "".join(f"{key}={value}\n" for key, value in {**lines, **changes}.items()).encode(), b"")


def test_this_computer_is_looked_at() -> None:
    found = look(ThisComputer())
    assert found.system == "Linux"
    assert found.version > (3, 0)


def test_a_host_that_has_all_is_taken() -> None:
    GOOD.check()
    assert GOOD.architecture.name == "amd64"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": "no"}, "alice is not root there, and may not become it"),
        ({"kernel": "5.10.0-28-amd64"}, "that host has Linux 5.10.0-28-amd64, and Cove's engine needs 5.14 or newer"),
        ({"cgroup": "hybrid"}, "that host has cgroup v1 and v2 mixed, and Cove's engine needs cgroup v2"),
        ({"cgroup": "v1"}, "that host has cgroup v1, and Cove's engine needs cgroup v2"),
        ({"missing": ("gzip", "tar")}, "that host has no gzip and no tar, by which the engine comes there"),
        ({"machine": "riscv64"}, r"Cove has no engine for that host's processor \(riscv64\)"),
        ({"system": "FreeBSD"}, "that host runs FreeBSD, and Cove's engine needs Linux"),
    ],
)
def test_what_a_host_lacks_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RemoteError, match=words):
        replace(GOOD, **changes).check()


def test_nothing_is_asked_of_a_host_where_one_is_nobody() -> None:
    host = Says(told(root="no"))
    with pytest.raises(RemoteError, match="is not root there"):
        RemoteEngine(host, NAME, "").stop()
    assert len(host.commands) == 1, "but for the look"


def test_engines_are_found_with_their_labels() -> None:
    found = look(Says(told(engine=f"{NAME} up default of alice@laptop")))
    assert [(one.name, one.running, one.label) for one in found.engines] == [(NAME, True, "default of alice@laptop")]


def test_a_shell_that_is_none_is_said() -> None:
    with pytest.raises(RemoteError, match="does not answer as a POSIX shell does: Welcome"):
        look(Says(Ran(0, b"Welcome to the switch\n", b"")))


@pytest.mark.parametrize("value", ["", "../..", "a b", "$(id)", "A", "0" * 65])
def test_a_value_that_could_be_more_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is no value for a script"):
        scripts.words(scripts.REMOVE, value)


def test_a_label_is_one_line_and_no_command() -> None:
    words = scripts.words("printf '%s\\n' \"$2\"", NAME, label="$(id)\n;`id` 'x'", root="")
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "$(id) ;`id` 'x'\n"


def test_root_is_had_by_sudo_that_asks_nothing() -> None:
    assert scripts.words(scripts.STOP, NAME, root="sudo")[:3] == ["sudo", "-n", "--"]


def test_what_the_engine_says_of_its_failure_is_told() -> None:
    host = Says(told(), Ran(1, b'{"error": "no room"}\n', b""))
    with pytest.raises(RemoteError, match="the engine does not start on that host: no room"):
        RemoteEngine(host, NAME, "").start(Payload(DIGEST, Path("archive")))


def test_what_a_command_says_of_its_failure_is_told() -> None:
    host = Says(told(), Ran(1, b"", b"sudo: a password is required\n"))
    with pytest.raises(RemoteError, match="does not stop: sudo: a password is required"):
        RemoteEngine(host, NAME, "").stop()


@pytest.mark.parametrize(
    "line", ["engine=x", "engine=../.. up label", f"engine={NAME} sideways label", f"engine={NAME}"]
)
def test_what_is_no_engine_there_is_none(line: str) -> None:
    ran = told()
    assert look(Says(replace(ran, out=ran.out + f"{line}\n".encode()))).engines == ()


@pytest.mark.parametrize("uid", ["", "-5", "x", "9" * 5000])
def test_a_user_without_a_number_is_no_answer(uid: str) -> None:
    with pytest.raises(RemoteError, match="does not answer as a POSIX shell does"):
        look(Says(told(uid=uid)))


def test_a_kernel_of_any_words_is_no_fault_of_ours() -> None:
    assert replace(GOOD, kernel="9" * 5000 + ".1").version == (0, 0)


@pytest.mark.parametrize("out", [b"", b"{}", b'{"system": 1, "boot_id": "b"}', b"[1]", b"[" * 100_000, b"{\xff}"])
def test_an_answer_that_is_none_is_said(out: bytes) -> None:
    with pytest.raises(RemoteError, match="the engine does not start on that host: "):
        RemoteEngine(Says(told(), Ran(0, out, b"")), NAME, "").start(Payload(DIGEST, Path("archive")))


def test_an_engine_of_other_words_is_none_of_ours() -> None:
    said = b'{"system": "/system-1\\u001b[2J", "boot_id": "b", "began": true}'
    with pytest.raises(RemoteError, match="is none of Cove's"):
        RemoteEngine(Says(told(), Ran(0, said, b"")), NAME, "").start(Payload(DIGEST, Path("archive")))


def test_a_failure_without_words_of_the_engine_has_those_of_the_command() -> None:
    host = Says(told(), Ran(1, b'{"boot_id": "b", "system": "s"}\n', b"no such file\n"))
    with pytest.raises(RemoteError, match="does not start on that host: no such file"):
        RemoteEngine(host, NAME, "").start(Payload(DIGEST, Path("archive")))


class AHost:
    """What START and STOP find, as far as scripts go: an iptables, and an engine's program in place of chroot(1)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.program("modprobe", "exit 0")
        self.program("ip6tables", 'case "$*" in *-D*) exit 1;; esac')
        self.engine('{"boot_id": "b", "system": "system-1", "began": true}', 0)
        (folder / "kept" / NAME / f"system-{DIGEST}" / "usr/share/cove").mkdir(parents=True)
        (folder / "kept" / NAME / f"system-{DIGEST}" / "usr/share/cove/payload").write_text(DIGEST)

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{self.folder}/done\n{text}\n')
        (self.programs / name).chmod(0o755)

    def engine(self, says: str, status: int) -> None:
        self.program("chroot", f"echo '{says}'; exit {status}")

    def iptables(self, rules: str, inserts: int = 0) -> None:
        """Args: inserts: the status of `-I`."""
        self.program(
            "iptables",
            f"""case "$*" in -V) echo 'v1.8 (nf_tables)';; *-S*) echo '{rules}';; *-I*) exit {inserts};; *) exit 1;; esac""",
        )

    def runs(self, script: str, *values: str) -> Ran:
        script = script.replace(KEPT, f"{self.folder}/kept").replace(OF_THE_BOOT, f"{self.folder}/boot")
        script = script.replace("PATH=$PATH", f"PATH={self.programs}:$PATH")
        return ThisComputer().run(scripts.words(script, *values), timeout_s=60)

    def done(self) -> list[str]:
        lines = (self.folder / "done").read_text().splitlines()
        return [line for line in lines if line.startswith("chroot") or " -I " in line or " -D " in line]


@pytest.fixture
def a_host(tmp_path: Path) -> AHost:
    return AHost(tmp_path)


@pytest.mark.parametrize(
    "rules", ["-P FORWARD DROP", "-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited"]
)
def test_rules_that_forward_nothing_let_containers_through(a_host: AHost, rules: str) -> None:
    a_host.iptables(rules)
    ran = a_host.runs(scripts.START, NAME, DIGEST, "0", "0")
    assert (ran.status, scripts.KEPT_OUT.encode() in ran.out) == (0, False)
    assert len([line for line in a_host.done() if " -I FORWARD" in line]) == 2


def test_rules_that_forward_are_left_alone(a_host: AHost) -> None:
    a_host.iptables("-P FORWARD ACCEPT\n-A FORWARD -s 192.0.2.0/24 -j DROP")
    assert a_host.runs(scripts.START, NAME, DIGEST, "0", "0").status == 0
    assert not [line for line in a_host.done() if "tables" in line]


def test_an_engine_runs_though_its_hosts_rules_cannot_be_changed(a_host: AHost) -> None:
    a_host.iptables("-P FORWARD DROP", inserts=2)
    ran = a_host.runs(scripts.START, NAME, DIGEST, "0", "0")
    running = RemoteEngine(Says(told(), ran), NAME, "").start(Payload(DIGEST, Path("archive")))
    assert (running.boot_id, running.digest, running.began) == ("b", "1", True)
    assert "iptables forwards nothing" in running.amiss


def test_an_engine_that_does_not_stop_keeps_its_way_out(a_host: AHost) -> None:
    a_host.iptables("-P FORWARD DROP")
    a_host.engine('{"error": "busy"}', 1)
    assert a_host.runs(scripts.STOP, NAME).status == 1
    assert len(a_host.done()) == 1
    a_host.engine("{}", 0)
    assert a_host.runs(scripts.STOP, NAME).status == 0
    assert [" -D " in line for line in a_host.done()[1:]] == [False, *[True] * (len(a_host.done()) - 2)]


@pytest.mark.parametrize(("allowed", "root"), [("true", "no"), ("sh -c :", "sudo")])
def test_sudo_that_runs_no_shell_is_none(a_host: AHost, allowed: str, root: str) -> None:
    a_host.program("id", "case $1 in -u | -g) echo 1000;; *) echo alice;; esac")
    a_host.program("sudo", f'[ "$*" = "-k -n {allowed}" ] || [ "$*" = "-n {allowed}" ]')
    found = look(Says(a_host.runs(scripts.LOOK)))
    assert (found.uid, found.root) == (1000, root)


def system() -> Tree:
    tree = Tree()
    tree.add("usr/bin/python3.13", file(b"program", 0o755))
    tree.add("usr/bin/qemu-arm", file(b"another processor's"))
    tree.add("usr/lib/modules/6.12/bridge.ko", file(b"the VM's kernel's"))
    tree.add("etc/hosts", file(b"127.0.0.1 localhost\n"))
    tree.add("usr/bin/python3", symlink("python3.13"))
    return tree


def test_what_belongs_to_a_vm_stays_behind(tmp_path: Path) -> None:
    digest = payload.write(system(), tmp_path / "archive")
    with tarfile.open(tmp_path / "archive") as archive:
        members = {member.name: member for member in archive}
        mark = archive.extractfile(payload.MARK)
        assert mark is not None
        assert mark.read().decode() == f"{digest}\n"
        assert archive.getnames()[-1] == payload.MARK
    assert members["usr/bin/python3.13"].mode == 0o755
    assert members["usr/bin/python3"].linkname == "python3.13"
    assert members["etc/hosts"].linkname == "/host/etc/hosts"
    assert members["usr/lib/modules"].isdir()
    assert members["host"].isdir()
    assert not {"usr/bin/qemu-arm", "usr/lib/modules/6.12/bridge.ko"} & {*members}


def test_the_same_system_is_the_same_archive(tmp_path: Path) -> None:
    digests = {payload.write(system(), tmp_path / name) for name in ("one", "other")}
    assert len(digests) == 1
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_what_a_host_says_does_nothing_to_the_terminal() -> None:
    found = look(Says(told(kernel="4.1\x1b]0;owned\x07\x1b[2J", login="ann\x1b[1m")))
    with pytest.raises(RemoteError) as refused:
        replace(found, root="no").check()
    assert str(refused.value).startswith("ann?[1m is not root there")
    assert found.kernel.isprintable()
    engine = RemoteEngine(Says(told(), Ran(1, b'{"error": "it is\\u001b[2J\\nmachine gone"}', b"")), NAME, "ann")
    with pytest.raises(RemoteError, match=r"does not stop: it is\?\[2J machine gone$"):
        engine.stop()


@pytest.mark.parametrize("path", ["/x'; touch /tmp/owned; '", "run/docker.sock", "/a b", "/x\x1b[2J", "/" + "x" * 200])
def test_a_socket_of_an_odd_name_is_none(path: str) -> None:
    found = look(Says(told(docker=path, podman="/run/user/1000/podman/podman.sock")))
    assert (found.docker, found.podman) == ("", "/run/user/1000/podman/podman.sock")
