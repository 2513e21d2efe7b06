"""Each trouble is found, told in words, and has its way out; nothing that hangs or breaks keeps the rest from being told."""

from __future__ import annotations

import base64
import datetime
import functools
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cove.cli import main as cli
from cove.cli.diagnose import _bundle_file as bundle_file
from cove.cli.lost_ports import told as said_after_a_start
from cove.drivers.qemu import binary, channels, probe, qcow2
from cove.errors import CoveError, DriverError
from cove.image import assemble, builder, inputs, store
from cove.image.recipe import Recipe
from cove.image.tree import Tree
from cove.machine import certificates, crashes, docker_context, lifecycle, policy, remote, settings
from cove.machine.architecture import AMD64
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from cove.machine.remote import Remote
from cove.support import computer, diagnose, findings, folders, lost_ports, machine
from cove.support.findings import NOTE, OK, PROBLEM, WARNING, Check, Finding
from intercepting_proxy import Proxy, authority


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="cove-d", dir="/tmp"))  # short, for the paths of sockets
    for name in [name for name in os.environ if name.startswith(("COVE_", "DOCKER_")) or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COVE_HOME", str(home / "c"))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    monkeypatch.setattr(policy, "place", lambda: home / "etc/policy.toml")
    monkeypatch.setattr(policy, "OWNER", getattr(os, "getuid", int)())
    yield home
    shutil.rmtree(home)


@pytest.fixture
def paths(home: Path) -> MachinePaths:
    return lifecycle.init("default")


def found(check: str, **environment: str) -> list[Finding]:
    """What one check finds."""
    (one,) = [each for each in diagnose.checks("default", environment) if each.name == check]
    return [*findings.run([one])]


def worst(check: str, **environment: str) -> Finding:
    return max(found(check, **environment), key=lambda each: findings.STATES.index(each.state))


class Engine:
    """A running machine, as far as its files tell; `answers` by path: an object, or a status and words."""

    def __init__(self, paths: MachinePaths) -> None:
        self.paths = paths
        self.answers: dict[str, Any] = {
            "/_ping": "OK",
            "/version": {"Version": "9.8.7", "ApiVersion": "1.51"},
            "/info": {"Containers": 2, "Images": 3, "SystemTime": now(), "Warnings": ["WARNING: be careful"]},
            "/containers/json": [],
            "/distribution/busybox/json": {"Descriptor": {}},
        }
        self.hangs_at = ""
        self._lock = FileLock(paths.vm_lock)
        assert self._lock.try_acquire()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(paths.docker_socket))
        paths.docker_socket.chmod(0o600)
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        kept = []
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            kept.append(client)
            target = client.recv(4096).split(b" ")[1].decode()
            if target == self.hangs_at:
                continue
            answer = self.answers[target]
            status, body = answer if isinstance(answer, tuple) else (200, answer)
            body = {"message": body} if status != 200 else body
            client.sendall(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\r\n{json.dumps(body)}".encode())
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._lock.release()


@pytest.fixture
def engine(paths: MachinePaths) -> Iterator[Engine]:
    made = Engine(paths)
    yield made
    made.close()


def now(shift_s: float = 0) -> str:
    return f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=shift_s):%Y-%m-%dT%H:%M:%S.%f}000Z"


def after_their_start(monkeypatch: pytest.MonkeyPatch, happened: Callable[[Check], bool]) -> None:
    """Each check is followed by the next, and looked at, when that has happened."""
    start = findings._start

    def started(check: Check) -> Any:
        results = start(check)
        assert happened(check)
        return results

    monkeypatch.setattr(findings, "_start", started)


def test_what_hangs_or_breaks_is_told_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    said = {"a": threading.Event(), "d": threading.Event()}

    def hangs(check: str) -> Iterator[tuple[str, str]]:
        yield OK, "so far"
        said[check].set()
        never.wait(60)

    def breaks() -> Iterator[tuple[str, str]]:
        raise RuntimeError("oh")
        yield OK, ""

    after_their_start(monkeypatch, lambda check: check.name not in said or said[check.name].wait(10))
    a, d = (Check(name, functools.partial(hangs, name), 0.2) for name in said)
    told = [*findings.run([a, Check("b", breaks, 30), Check("c", lambda: [], 30), d])]  # which is less than hangs take
    assert [(each.check, each.state, each.text) for each in told] == [
        ("a", OK, "so far"),
        ("a", WARNING, "this could not be found out within 0 s"),
        ("b", WARNING, "this check failed: RuntimeError: oh"),
        ("c", OK, "nothing to tell"),
        ("d", OK, "so far"),
        ("d", WARNING, "this could not be found out within 0 s"),
    ]
    never.set()


def test_bounds_of_what_hangs_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    never, ended = threading.Event(), threading.Event()

    def hangs() -> Iterator[tuple[str, str]]:
        never.wait(60)
        yield OK, ""

    def ends() -> Iterator[tuple[str, str]]:
        yield OK, "there"
        ended.set()

    after_their_start(monkeypatch, lambda check: check.look is hangs or ended.wait(10))
    begin = time.monotonic()
    told = [*findings.run([*(Check(str(n), hangs, 2) for n in range(8)), Check("ends", ends, 0.9)])]
    assert time.monotonic() - begin < 15
    assert [each.state for each in told] == [WARNING] * 8 + [OK]  # it ended in time, though it was not looked at
    never.set()


def test_without_a_machine_nothing_is_wrong_and_nothing_is_made(home: Path) -> None:
    for check in ("settings", "disk", "processes", "engine", "clock", "ports", "registry", "permissions", "policy"):
        assert worst(check).state in (OK, NOTE), check
    assert worst("settings").text == "there is no machine yet"
    (check,) = [each for each in diagnose.checks("mistyped", {}) if each.name == "settings"]
    (told,) = findings.run([check])
    assert (told.state, told.text) == (PROBLEM, "there is no machine mistyped")
    assert not (home / "c").exists()


def test_of_a_machine_that_was_never_made_is_said_so_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(diagnose.OF_A_MACHINE) < {each.name for each in diagnose.checks("default", {})}
    assert cli._dispatch(["diagnose"]) in (0, 1)
    shown = capsys.readouterr().out
    assert shown.count("there is no machine") == 1
    assert "does not run" not in shown


@pytest.mark.parametrize("name", ["foo.rar", "foo", "foo.tar"])
def test_a_bundle_of_an_unknown_kind_is_refused_at_once(home: Path, name: str) -> None:
    with pytest.raises(CoveError, match="is no name of a bundle") as refused:
        bundle_file(str(home / name))
    assert refused.value.hint == f"cove diagnose --bundle '{home}/foo.tar.gz'"


def test_a_machine_that_is_stopped(paths: MachinePaths) -> None:
    assert worst("settings").state == OK
    assert worst("processes") == Finding("processes", OK, "the machine default is stopped; the next command starts it")
    assert worst("docker").state in (OK, NOTE)
    paths.suspended_run.write_text("{}")
    assert worst("processes").text == "the machine default is suspended; the next command starts it"


def test_settings(paths: MachinePaths, home: Path) -> None:
    told = worst("settings", COVE_CPU="3")
    assert (told.state, told.text, told.fix) == (
        WARNING, "the variable COVE_CPU means nothing to Cove", "did you mean COVE_CPUS?",
    )  # fmt: skip
    assert "overridden: cpus by COVE_CPUS" in worst("settings", COVE_CPUS="1").text
    assert "this computer" in worst("settings", COVE_CPUS="256").text
    paths.settings.write_text("cpus = 1\nmemroy = 1\n")
    told = worst("settings")
    assert told.state == PROBLEM
    assert "machine.toml:2:1: memroy is not a setting; did you mean memory?" in told.text


def test_policy(paths: MachinePaths, home: Path) -> None:
    folder = home / "etc"
    folder.mkdir(mode=0o755)
    file = folder / "policy.toml"
    file.write_text("allowed_registries = []\n[locked]\ncpus = 1\n")
    file.chmod(0o644)
    assert worst("policy").text == f"{file}: locked: cpus; registries allowed: none"
    file.chmod(0o666)
    told = worst("policy")
    assert (told.state, told.fix) == (PROBLEM, f"take that from them: sudo chmod go-w '{file}'")


def test_qemu(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert worst("qemu", COVE_QEMU="/none").state in (OK, PROBLEM)
    monkeypatch.setenv("COVE_QEMU", "/no/such/qemu")
    assert "/no/such/qemu" in worst("qemu").text
    assert worst("qemu").state == PROBLEM
    assert worst("virtualisation").text == "without QEMU nothing can be said of it"
    program = home / "qemu"
    program.write_text('#!/bin/sh\necho "QEMU emulator version 6.2.0"\n')
    program.chmod(0o755)
    monkeypatch.setenv("COVE_QEMU", str(program))
    told = worst("qemu")
    assert (told.state, told.fix) == (WARNING, binary.install_hint(AMD64))
    assert told.text == f"QEMU 6.2.0 ({program}) is old: Cove is tested with 7.2 and later"
    program.write_text('#!/bin/sh\necho "QEMU emulator version 7.2.22"\n')
    assert worst("qemu").state == OK
    monkeypatch.setattr(channels, "of", channels.TlsChannels)  # as on Windows, where a start refuses it
    told = worst("qemu")
    assert (told.state, told.text) == (PROBLEM, f"QEMU 7.2.22 ({program}) is too old: 8.0 is needed here")


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("/dev/kvm is absent", "turn virtualisation on"),
        ("permission denied on /dev/kvm: add", "usermod -aG kvm"),
        ("/dev/kvm is there but did not boot the kernel within 4 s", "nested virtualisation does not work"),
    ],
)
def test_virtualisation(reason: str, fix: str, paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "find", lambda *_: Path("/q"))
    monkeypatch.setattr(binary, "version", lambda program: "7.2.0")
    monkeypatch.setattr(probe, "run", lambda *_: probe.Probe("tcg", reason, False))
    first, second = found("virtualisation")
    assert (first.state, second.state) == (WARNING, NOTE)
    assert reason in first.text
    assert fix in first.fix
    monkeypatch.setattr(probe, "run", lambda *_: probe.Probe("kvm", "", True))
    assert worst("virtualisation").state == OK

    def none(*_: object) -> None:
        raise DriverError("no accelerator runs", "reinstall QEMU")

    monkeypatch.setattr(probe, "run", none)
    assert worst("virtualisation") == Finding("virtualisation", PROBLEM, "no accelerator runs", "reinstall QEMU")


def test_room(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((100 << 30, OK), (1 << 30, WARNING), (1 << 20, PROBLEM)):
        monkeypatch.setattr(computer.shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        assert worst("room").state == state


def test_image(paths: MachinePaths) -> None:
    assert worst("image").state == NOTE
    folder = store.new_directory()
    base = assemble.Base(b"kernel", Tree(), Tree())
    manifest = builder.write(folder, Recipe.load(inputs.recipe_dir(), AMD64), base, [])
    image = store.publish(folder, manifest["digest"], inputs.key(AMD64))
    assert worst("image") == Finding("image", OK, f"the VM image {image.digest[:12]} is whole")
    for path in (image.kernel, image.initramfs, image.system):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        told = worst("image")
        assert (told.state, told.text) == (PROBLEM, f"{path} is not what was built")
        path.write_bytes(data)
    image.kernel.unlink()
    assert "a part of it is missing" in worst("image").text


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:5000], "it has been cut off"),
        (lambda data: data[:50], "it ends within its header"),
        (lambda data: data[:79] + b"\2" + data[80:], "QEMU has marked it as corrupt"),
        (lambda data: data[:23] + b"\x40" + data[24:], "its header is wrong"),
        (lambda data: b"nonsense" + data[8:], "is not a disk image of Cove's"),
    ],
)
def test_disk(spoil: Callable[[bytes], bytes], said: str, paths: MachinePaths) -> None:
    qcow2.create(paths.disk, 60 << 30)
    assert worst("disk").state == OK
    paths.disk.write_bytes(spoil(paths.disk.read_bytes()))
    told = worst("disk")
    assert told.state == PROBLEM
    assert said in told.text
    assert told.fix


def test_a_disk_that_is_none_of_coves_names_its_machine(paths: MachinePaths) -> None:
    paths.disk.write_bytes(b"nonsense" * 100)
    assert worst("disk").fix.endswith(f"cove machine rm {paths.name}")


def test_a_disk_that_the_settings_want_smaller(paths: MachinePaths) -> None:
    qcow2.create(paths.disk, 70 << 30)
    assert "cannot become smaller" in worst("disk").text


def test_permissions(paths: MachinePaths, home: Path) -> None:
    paths.ssh_key.write_text("key")
    paths.ssh_key.chmod(0o644)
    paths.run_dir.chmod(0o755)
    assert {(each.state, each.fix) for each in found("permissions")} == {
        (PROBLEM, f"chmod 600 '{paths.ssh_key}'"),
        (PROBLEM, f"chmod 700 '{paths.run_dir}'"),
    }


def test_a_folder_that_its_owner_may_not_use(paths: MachinePaths) -> None:
    paths.run_dir.chmod(0o300)
    assert found("permissions") == [
        Finding("permissions", PROBLEM, f"you may not use {paths.run_dir} yourself", f"chmod 700 '{paths.run_dir}'")
    ]


def test_what_belongs_to_another_user(paths: MachinePaths, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert {(each.state, each.fix) for each in found("permissions")} == {
        (PROBLEM, f"sudo chown -R $USER '{home}/c/data'"),
        (PROBLEM, f"sudo chown -R $USER '{home}/c/run'"),
    }


def test_a_check_that_may_not_look(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    for check in ("processes", "disk", "docker"):
        told = worst(check)
        assert told.state == PROBLEM
        assert "cannot be used: permission denied" in told.text
        assert told.fix.startswith("make it yours: ")
    assert worst("room").state != PROBLEM


def test_an_agent_that_does_not_answer(paths: MachinePaths) -> None:
    lock = FileLock(paths.lock)
    assert lock.try_acquire()
    told = worst("processes")
    assert told.state == PROBLEM
    assert "lives, and does not answer" in told.text
    assert f"fuser -v '{paths.lock}'" in told.fix
    lock.release()
    assert worst("processes").state == OK


def test_a_vm_that_died_and_one_without_an_agent(paths: MachinePaths, engine: Engine) -> None:
    assert worst("processes").text == "the VM runs without its agent, which was killed"
    engine._lock.release()
    run = {
        "boot_id": "x",
        "ssh_port": 1,
        "image": "i",
        "accelerator": "tcg",
        "accelerator_reason": "",
        "qemu_version": "9",
    }
    paths.run_state.write_text(json.dumps({**run, "cpus": 1, "memory": 1, "started_at": time.time()}))
    assert worst("processes").text == "the VM ended by itself last time: QEMU ended"
    assert any("is left of a process that was killed" in each.text for each in found("processes"))
    paths.run_state.unlink()
    crashes.note(paths, "VM", "QEMU was killed by SIGKILL", ["the guest is up"], "x")
    told = worst("processes")  # it was started since, and stopped
    assert told.state == WARNING
    assert "QEMU was killed by SIGKILL (the guest is up)" in told.text
    assert str(paths.console_log) in told.fix
    crashes.note(paths, "engine", "SIGKILL", [], "x", time.time() - 2 * crashes.FRESH_S)
    assert [each.state for each in found("processes") if "the engine ended by itself at" in each.text] == [NOTE]


def test_an_engine_that_answers(engine: Engine) -> None:
    assert [(each.state, each.text) for each in found("engine")] == [
        (OK, "engine 9.8.7, API 1.51, 2 containers, 3 images"),
        (NOTE, "the engine says: WARNING: be careful"),
    ]
    engine.answers["/info"]["SystemTime"] = now()
    assert worst("clock").state == OK
    assert worst("registry") == Finding("registry", OK, "Docker Hub is reached from the machine")
    assert worst("ports").text == "no ports are published"


def test_an_engine_that_does_not(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ENGINE_S", 0.3)
    engine.answers["/info"] = (500, "the database is locked")
    assert "the database is locked" in worst("engine").text
    engine.hangs_at = "/info"
    told = worst("engine")
    assert (told.state, "answers, but not to all" in told.text) == (WARNING, True)
    engine.hangs_at = "/_ping"
    told = worst("engine")
    assert (told.state, "did not answer in time" in told.text or "timed out" in told.text) == (PROBLEM, True)
    assert "engine.log" in told.fix


@pytest.mark.parametrize(("shift", "said"), [(3600, "s ahead of"), (-90, "s behind")])
def test_a_clock_that_is_wrong(shift: float, said: str, engine: Engine) -> None:
    engine.answers["/info"]["SystemTime"] = now(shift)
    told = worst("clock")
    assert told.state == WARNING
    assert said in told.text


@pytest.mark.parametrize(
    ("answer", "state", "said"),
    [
        ((500, "Get https://registry-1.docker.io: dial tcp: lookup registry-1.docker.io: no such host"), WARNING, "names are not found"),
        ((500, "tls: failed to verify certificate: x509: certificate signed by unknown authority"), WARNING, "certificate is not trusted"),
        ((500, "dial tcp 1.2.3.4:443: connect: connection refused"), WARNING, "is not reached"),
        ((403, "denied: <title>Blocked</title> Your certificate and lookup"), WARNING, "refuses the machine: denied: <title>"),
        ((403, "pulling from docker.io is not allowed by your administrator's policy (/p)"), NOTE, "is not allowed"),
        ((401, "unauthorized"), OK, "is reached"),
        ((429, "toomanyrequests"), OK, "is reached"),
    ],
)  # fmt: skip
def test_the_way_to_a_registry(answer: tuple[int, str], state: str, said: str, engine: Engine) -> None:
    engine.answers["/distribution/busybox/json"] = answer
    told = worst("registry")
    assert told.state == state
    assert said in told.text


def test_ports(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_, socket.create_server(("127.0.0.1", 0)) as closed:
        here, gone = open_.getsockname()[1], closed.getsockname()[1]
        closed.close()
        published = [{"IP": "0.0.0.0", "PublicPort": port, "Type": "tcp"} for port in (here, gone)]
        engine.answers["/containers/json"] = [
            {
                "Names": ["/web"],
                "Ports": [*published, {"PrivatePort": 1, "Type": "tcp"}, {"IP": "::", "PublicPort": 1, "Type": "tcp"}],
            }
        ]
        told = found("ports")
    assert [each.state for each in told] == [PROBLEM, OK, OK]
    assert f"127.0.0.1:{gone}, which the container web publishes, is not open" in told[0].text
    assert [each.text for each in told[1:]] == [
        "1 published port is open",
        "1 published port is of UDP or IPv6, and not tried",
    ]


def test_no_ports_are_said_to_be_published_only_when_none_is(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    web: dict[str, Any] = {"Names": ["/web"], "Ports": []}
    engine.answers["/containers/json"] = [web]
    web["Id"] = "abc"
    engine.answers["/containers/abc/json"] = {"Name": "/web", "HostConfig": {}}
    monkeypatch.setattr(lost_ports, "ask", lambda *_: {"lost_ports": {"127.0.0.1:80/tcp": "", "127.0.0.1:81/tcp": ""}})
    assert found("ports") == [Finding("ports", NOTE, "2 published ports are lost, as is said of processes")]
    monkeypatch.setattr(lost_ports, "ask", lambda *_: {})
    assert found("ports") == [Finding("ports", OK, "no ports are published")]
    web["Ports"] = [{"IP": "127.0.0.1", "PublicPort": 53, "Type": "udp"}]
    assert [each.text for each in found("ports")] == ["1 published port is of UDP or IPv6, and not tried"]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        web["Ports"] = [{"IP": "127.0.0.1", "PublicPort": closed.getsockname()[1], "Type": "tcp"}]
    assert [each.state for each in found("ports")] == [PROBLEM]


def test_a_folder_of_the_settings_that_is_missing(
    paths: MachinePaths, engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVE_SHARE_HOME", "no")
    monkeypatch.setenv("COVE_SHARED_FOLDERS", f"{home}/none,{home}/there")
    (home / "there").mkdir()
    shared = {"path": str(home / "there"), "access": "read-write", "driver": "9p", "state": "shared"}
    monkeypatch.setattr(folders, "ask", lambda *_: {"folders": [shared]})
    told = found("folders")
    assert [each.state for each in told] == [WARNING, OK]
    assert f"{home}/none is not shared: there is no such folder" in told[0].text
    assert "cove machine restart default" in told[0].fix
    monkeypatch.setattr(folders, "ask", lambda *_: {"folders": [], "state": "running"})
    assert f"{home}/there is not shared yet: the machine was started without it" in found("folders")[1].text
    remote.save(paths, Remote(remote.address("me@there"), "ssh-ed25519 AAAA", "docker", "/run/docker.sock"))
    far = found("folders")[-1]
    assert (far.state, "restart" in far.fix) == (NOTE, False)
    assert f"{home}/there is not shared: folders of this computer are not for the docker of another one" in far.text
    paths.remote.unlink()
    engine._lock.release()
    assert [each.state for each in found("folders")] == [NOTE, WARNING]


FAR = Remote(remote.address("me@there"), "ssh-ed25519 AAAA", "cove", instance="ab12")


@pytest.fixture
def far(paths: MachinePaths, engine: Engine) -> MachinePaths:
    """A machine of another computer that runs."""
    remote.save(paths, FAR)
    paths.remote_run.write_text("{}")
    return paths


def test_of_a_computer_that_is_out_of_reach_each_check_says_so_once(
    far: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (machine, folders):
        monkeypatch.setattr(each, "ask", lambda *_: {"state": "unreachable"})
    for check in ("engine", "clock", "ports", "registry", "folders"):
        (told,) = found(check)
        assert (told.state, told.fix) == (NOTE, "")
        assert told.text.startswith("the other computer cannot be reached")


def test_what_is_proposed_for_another_computer_can_be_done_there(
    far: MachinePaths, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = "the machine cannot mount it: the kernel of that host has no 9p (modules 9p and 9pnet_fd)"
    shared = {"path": "/data", "access": "read-only", "driver": "Cove's own 9p", "state": state}
    for each in (machine, folders):
        monkeypatch.setattr(each, "ask", lambda *_: {"state": "running", "folders": [shared]})
    assert "modprobe 9p 9pnet_fd there" in worst("folders").fix
    shared["state"] = "its server has ended"
    assert "folder_driver" not in worst("folders").fix
    engine.answers["/distribution/busybox/json"] = (500, "dial tcp: lookup x: no such host")
    assert "me@there asks its own resolver" in worst("registry").fix
    engine.answers["/info"] |= {"Warnings": ["WARNING: No memory limit support", "WARNING: No pids limit support"]}
    (told,) = [each for each in found("engine") if each.state == NOTE]
    assert told.text.endswith("No memory limit support; WARNING: No pids limit support")
    assert "cgroup controllers" in told.fix
    engine.answers["/_ping"] = (500, "it hangs")
    assert "cove machine logs default;" in worst("engine").fix
    remote.save(far, replace(FAR, engine="podman", socket="/run/podman.sock"))
    assert "cove machine logs --agent default;" in worst("engine").fix
    assert "give podman a mirror there" in worst("registry").fix


LOST = {"127.0.0.1:8080/tcp": "nginx (process 123) has it", "[::1]:53/udp": "", "0.0.0.0:9003/tcp": ""}
MADE_WITH = {
    "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}],
    "53/udp": [{"HostIp": "::1", "HostPort": "53"}],
    "53/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9003"}],  # another address than the one that is lost
    "9000/tcp": None,
}


def test_a_lost_port_is_told_with_its_container_and_who_has_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [
        ("a", "/web", MADE_WITH),
        ("b", "/range", {"1/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9000-9010"}]}),
        ("c", "/none", None),
    ]
    engine.answers["/containers/json"] = [{"Id": each, "Names": [name], "Ports": []} for each, name, _ in ids]
    for each, name, made in ids:
        engine.answers[f"/containers/{each}/json"] = {"Name": name, "HostConfig": {"PortBindings": made}}
    monkeypatch.setattr(lost_ports, "ask", lambda *_: {"lost_ports": LOST})
    monkeypatch.setattr(machine, "ask", lambda *_: {"state": "running", "lost_ports": LOST})
    monkeypatch.setattr(machine, "answers", lambda _: True)
    agent = FileLock(engine.paths.lock)
    assert agent.try_acquire()
    told = [each for each in found("processes") if each.state == WARNING]
    assert [each.text for each in told] == [
        "the published port 127.0.0.1:8080/tcp of the container web is lost: nginx (process 123) has it",
        "the published port [::1]:53/udp of the container web is lost: another program has it",
        "the published port 0.0.0.0:9003/tcp of the container range is lost: another program has it",
    ]
    assert all("end that program" in each.fix for each in told)
    agent.release()
    shown = said_after_a_start("default")
    assert [(one.port, one.container) for one in shown] == [
        ("127.0.0.1:8080/tcp", "web"), ("[::1]:53/udp", "web"), ("0.0.0.0:9003/tcp", "range"),
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert "the published port 127.0.0.1:8080/tcp of the container web is lost: nginx (process 123) has it\n" in said
    assert said.endswith(
        "      end that program; each is published again when docker or `cove machine status` asks next\n"
    )


def test_a_lost_port_is_told_though_the_engine_says_nothing(paths: MachinePaths) -> None:
    (one,) = lost_ports.named(paths, {"127.0.0.1:80/tcp": ""})
    assert str(one) == "127.0.0.1:80/tcp is lost: another program has it"


def test_proxies(home: Path) -> None:
    assert worst("proxy").text == "no proxy is set"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert worst("proxy", http_proxy=f"http://joe:hunter2@{address}").text == f"http_proxy: {address} answers"
    told = worst("proxy", http_proxy=f"http://joe:hunter2@{address}", HTTPS_PROXY=f"http://joe:hunter2@{address}")
    assert (told.state, told.fix) == (PROBLEM, "correct it, or unset it: unset http_proxy; unset HTTPS_PROXY")
    assert "hunter2" not in told.text
    assert worst("proxy", http_proxy="http://[broken").state == PROBLEM
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        heard: list[bytes] = []

        def answer() -> None:
            for words in (b"407 Who", b"502 Bad", b"200 Fine", b""):
                client, _ = server.accept()
                with client:
                    heard.append(client.recv(1 << 16))
                    client.sendall(b"HTTP/1.1 %s\r\n\r\n" % words if words else b"")
                    if words.startswith(b"200"):
                        client.recv(1 << 16)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        told = worst("proxy", HTTPS_PROXY=f"http://joe:hunter2@{address}")
        assert (told.state, told.text) == (
            PROBLEM, f"HTTPS_PROXY: {address} wants to know who asks, and does not take what it is told",
        )  # fmt: skip
        assert base64.b64encode(b"joe:hunter2") in heard[0]
        assert (
            "does not lead to registry-1.docker.io (it says 502)"
            in worst("proxy", HTTPS_PROXY=f"http://{address}").text
        )
        assert worst("proxy", HTTPS_PROXY=f"http://{address}").state == NOTE  # ends TLS amid its beginning
        assert "gives no answer" in worst("proxy", HTTPS_PROXY=f"http://{address}").text
        thread.join(10)


def test_a_proxy_is_taken_back_where_it_is_given(
    paths: MachinePaths, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    settings.set_value(paths.settings, "https_proxy", address)
    assert worst("proxy").fix == "correct it, or unset it: cove config unset https_proxy"
    monkeypatch.setenv("COVE_HTTPS_PROXY", address)
    assert worst("proxy").fix == "correct it, or unset it: unset COVE_HTTPS_PROXY"
    file = home / "etc/policy.toml"
    file.parent.mkdir(mode=0o755)
    file.write_text(f'[locked]\nhttps_proxy = "{address}"\n')
    file.chmod(0o644)
    assert worst("proxy").fix == f"it is your administrator's: ask who administers this computer ({file})"


def test_commands_are_about_the_machine_that_is_diagnosed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fixes(name: str) -> set[str]:
        lifecycle.init(name)
        settings.set_value(MachinePaths(name).settings, "cpus", "256")
        settings.set_value(MachinePaths(name).settings, "https_proxy", address)
        chosen = [each for each in diagnose.checks(name, {}) if each.name in ("settings", "proxy")]
        return {each.fix.rpartition(": ")[2] for each in findings.run(chosen) if each.fix}

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    mended = {f"config set cpus {os.cpu_count()}", "config unset https_proxy"}
    assert fixes("default") == {f"cove {each}" for each in mended}
    assert fixes("other") == {f"cove -m other {each}" for each in mended}
    monkeypatch.setenv("COVE_MACHINE", "third")
    assert fixes("third") == {f"cove -m third {each}" for each in mended}


def test_a_proxy_that_inspects(paths: MachinePaths, tmp_path: Path) -> None:
    authority(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        route = {"registry-1.docker.io:443": f"127.0.0.1:{listener.getsockname()[1]}"}
        threading.Thread(target=Proxy(listener, tmp_path, "", route).run, daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        told = worst("proxy", HTTPS_PROXY=address)
        assert told.state == WARNING
        assert "shows a certificate for registry-1.docker.io that nobody here trusts" in told.text
        assert "cove config set extra_certificates" in told.fix
        settings.set_value(paths.settings, "extra_certificates", str(tmp_path / "ca.crt"))
        settings.set_value(paths.settings, "certificates", "none")  # of this computer's nothing is known
        assert worst("proxy", HTTPS_PROXY=address).text.endswith("leads to registry-1.docker.io")
        assert "trusts 1 authority beside Mozilla's; this computer's store is not asked" in worst("certificates").text
    (tmp_path / "ca.crt").write_text("hello")
    assert worst("certificates").text == f"extra_certificates: {tmp_path / 'ca.crt'}: it is no certificate"


def test_certificates_that_are_left_out(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    left = certificates.Trusted("", ("this computer's store cannot be read: no",))
    monkeypatch.setattr(certificates, "trusted", lambda settings: left)
    told = worst("certificates")
    assert (told.state, told.text) == (
        WARNING, "the machine does not trust all that this computer does: this computer's store cannot be read: no",
    )  # fmt: skip


def test_names(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(computer.socket, "getaddrinfo", missing)
    assert worst("names").state == WARNING


def test_docker(paths: MachinePaths) -> None:
    assert any(each.text == "the docker context cove leads to the machine" for each in found("docker"))
    assert any("DOCKER_HOST is set" in each.text for each in found("docker", DOCKER_HOST="unix:///other"))
    meta = docker_context.meta_file("default")
    meta.write_text(meta.read_text().replace("docker.sock", "other.sock"))
    assert "is of another place" in worst("docker").text
    meta.write_text("{")
    assert "cannot be read" in worst("docker").text
    meta.unlink()
    assert worst("docker").fix.startswith("docker context create cove")


def test_the_command(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr("os._exit", statuses.append)
    states = [OK, WARNING]
    monkeypatch.setattr(
        diagnose, "checks",
        lambda name: [Check(f"c{n}", lambda s=state: [(s, f"text of {name}", "mend it")]) for n, state in enumerate(states)],
    )  # fmt: skip
    cli.main(["diagnose"])
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "ok       c0              text of default",
        "                         do:  mend it",
        "warning  c1              text of default",
        "                         do:  mend it",
        "",
        "0 problems, 1 warning",
    ]
    assert "\033" not in out  # no terminal, no colours
    states.append(PROBLEM)
    cli.main(["-m", "x", "diagnose", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["machine"], told["problems"], told["warnings"]) == ("x", 1, 1)
    assert told["findings"][2] == {"check": "c2", "state": PROBLEM, "text": "text of x", "fix": "mend it"}
    assert statuses == [0, 1]
