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
