"""What PID 1 decides: about disks, the seed, and services that die."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import time
from pathlib import Path

import pytest
from coved.boot import bytecode, disk, foreign, seed, services, system
from coved.boot.console import BootError
from coved.boot.services import MAX_DELAY_S, Service

SEED = {
    "version": 1,
    "boot_id": "ab" * 16,
    "machine": "default",
    "hostname": "cove-default",
    "authorized_key": "ssh-ed25519 AAAA cove",
    "host_key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "entropy": "AAAA",
    "time_ns": 1_700_000_000 * 10**9,
    "registries": {},
    "outside": None,
}


def test_a_blank_disk_may_be_formatted() -> None:
    assert disk.filesystem_size(bytes(1 << 16)) is None


def test_an_ext4_file_system_tells_its_size() -> None:
    head = bytearray(1 << 16)
    struct.pack_into("<H", head, 1024 + 56, 0xEF53)
    struct.pack_into("<I", head, 1024 + 4, 1000)
    struct.pack_into("<I", head, 1024 + 24, 2)
    struct.pack_into("<I", head, 1024 + 336, 1)
    assert disk.filesystem_size(bytes(head)) == ((1 << 32) + 1000) * 4096


def test_unknown_content_is_never_formatted() -> None:
    with pytest.raises(disk.UnknownContent, match="left as it is"):
        disk.filesystem_size(b"\0" * 5000 + b"precious" + bytes(60000))


def test_the_seed_gives_its_texts() -> None:
    texts = {name: SEED[name] for name in SEED if name != "version"}
    assert seed.parse(json.dumps(SEED).encode()) == texts | {"streams_key": ""}
    assert seed.parse(json.dumps(SEED | {"streams_key": "ab" * 32}).encode()) == texts | {"streams_key": "ab" * 32}
    for wrong in ("x", "ab", 7, "ab" * 33):
        with pytest.raises(BootError, match="seed is not right"):
            seed.parse(json.dumps(SEED | {"streams_key": wrong}).encode())
    without = {name: SEED[name] for name in SEED if name != "time_ns"}
    with pytest.raises(BootError, match="seed is not right: 'time_ns'"):
        seed.parse(json.dumps(without).encode())


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"host_key": ""}, {"hostname": 5}, {"time_ns": "1"}, {"boot_id": "a\0b"}]
)
def test_a_seed_that_is_not_right_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BootError, match="seed is not right"):
        seed.parse(json.dumps(SEED | change).encode())


def test_a_host_may_ask_for_something_before_it_gives_the_seed() -> None:
    mine, hosts = socket.socketpair()
    with mine, hosts:
        hosts.sendall(b"bytecode\n")
        got: list[bytes] = []
        asked = {b"bytecode\n": lambda port: (os.write(port, b"3\nabc"), hosts.sendall(b"{}\n"))}
        assert seed.receive(mine.fileno(), asked) == b"{}\n"
        while not b"".join(got).endswith(b"ok\n"):
            got.append(hosts.recv(100))
        assert b"".join(got) == b"3\nabcok\n"


def test_what_was_compiled_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "archive"
    monkeypatch.setattr(bytecode, "_ARCHIVE", str(archive))
    archive.write_bytes(b"code")
    for answer in (b"4\ncode", b"0\n"):
        reading, writing = os.pipe()
        bytecode.give(writing)
        os.close(writing)
        assert os.read(reading, 100) == answer
        os.close(reading)


def test_a_service_that_dies_at_once_is_started_later_and_later() -> None:
    service = Service("engine", "coved")
    delays = []
    for _ in range(12):
        service._started = time.monotonic()
        delays.append(service.ended(1))
    assert delays[0] < delays[3] < delays[-1] == MAX_DELAY_S


def test_a_service_that_ran_for_long_is_started_at_once() -> None:
    service = Service("engine", "coved")
    service._started = -1000.0
    assert service.ended(-9) == 0.0


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(services, "LOGS", str(tmp_path))
    return tmp_path


def test_the_console_says_why_a_service_ended_with_a_status(logs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (logs / "engine.log").write_bytes(b"x\n" * 9000 + b"coved: write \x1b[31m/x: no space left on device\n\n")
    service = Service("engine", "coved")
    service.ended(1)
    assert "engine ended with status 1: coved: write ?[31m/x: no space left on device; starting it again" in (
        capfd.readouterr().err
    )
    service.ended(-9)  # it could not say anything
    assert "engine ended with signal 9; starting it again" in capfd.readouterr().err
    (logs / "engine.log").unlink()
    service.ended(1)
    assert "engine ended with status 1; starting it again" in capfd.readouterr().err


def test_a_service_whose_log_cannot_be_opened_writes_to_the_console(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        log = services.open_log("engine")
    os.write(log, b"here")
    os.close(log)
    assert capfd.readouterr().err == "here"


def test_an_interpreter_is_registered_with_flags_of_ours() -> None:
    record, interpreter = foreign.parsed(
        ":qemu-arm:M::\\x7f\\x45:\\xff\\xff:/usr/libexec/qemu-binfmt/arm-binfmt-P:OPF\n"
    )
    assert record == ":qemu-arm:M::\\x7f\\x45:\\xff\\xff:/usr/libexec/qemu-binfmt/arm-binfmt-P:POCF"
    assert interpreter == "/usr/libexec/qemu-binfmt/arm-binfmt-P"
    assert foreign.parsed("!x!E!!py!!/bin/x!")[0] == "!x!E!!py!!/bin/x!POCF"


def test_a_record_that_cannot_be_read_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    contents = {"a": b"", "b": b":x:M::\xff:::/x:OCF", "c": b":x:M::\0:::/x:OCF", "z": b":good:M::x::/bin/x:OCF"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "d").mkdir()
    (tmp_path / "e").symlink_to("gone")
    registered = []
    monkeypatch.setattr(foreign, "RECORDS", str(tmp_path))
    monkeypatch.setattr(system, "mount", lambda *_: None)
    monkeypatch.setattr(system, "write", lambda path, record: registered.append(record))
    foreign.register()
    assert registered == [":good:M::x::/bin/x:POCF"]
    told = capfd.readouterr().err
    assert [name for name in "abcdez" if f"{tmp_path}/{name} cannot be read, and is not used" in told] == [*"abcde"]
