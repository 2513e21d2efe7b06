"""A machine's files, locks, keys and places: what a crash, another process or another user can do to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cove.errors import CoveError, MachineBusy, MachineExists, MachineNotFound
from cove.local import sockets
from cove.machine import docker_context, files, keys, lifecycle, paths, settings, sizes, space, tomlfile
from cove.machine.follow import follow
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # pytest's own folder is too long for sockets.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cove-m", dir="/tmp") as folder:
        monkeypatch.setenv("COVE_HOME", folder)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        yield Path(folder)


def test_a_file_is_replaced_whole_and_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "fdopen"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: Any, step: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(path, b"new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_log_is_rotated_when_it_is_too_long(tmp_path: Path) -> None:
    log = tmp_path / "log"
    files.rotate(log, 5)
    log.write_text("12345")
    files.rotate(log, 5)
    assert log.read_text() == "12345"
    log.write_text("123456")
    files.rotate(log, 5)
    assert not log.exists()
    assert (tmp_path / "log.1").read_text() == "123456"


def test_a_log_that_somebody_reads_is_rotated_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"123456")
    with log.open("rb"):
        files.rotate(log, 5)
    assert not log.exists() or not log.stat().st_size
    assert (tmp_path / "log.1").read_bytes().endswith(b"23456")


def test_a_log_that_others_append_to_is_cut_and_its_end_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not files.cut(log, 5)
    with log.open("ab", buffering=0) as other:
        other.write(b"12345")
        assert not files.cut(log, 5)
        other.write(b"6789")
        assert files.cut(log, 5)
        assert (tmp_path / "log.1").read_bytes() == b"56789"
        other.write(b"0")
        assert log.read_bytes() == b"0"


def test_a_tail_reads_the_end_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert files.tail(log, 3) == []
    log.write_bytes(b"first\r\n\xff\xfe noise\nlast")
    assert files.tail(log, 2) == ["\ufffd\ufffd noise", "last"]
    log.write_bytes(b"x" * 100 + b"\nend\n")
    assert files.tail(log, 5, max_bytes=10) == ["xxxxx", "end"]


def test_follow_goes_over_rotations_and_cuts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n")

    def cut() -> None:
        log.write_text("")

    steps = iter(
        [
            lambda: log.open("a").write("two\n"),
            lambda: (log.open("a").write("three\n"), log.rename(tmp_path / "log.1")),
            lambda: log.write_text("four\n"),
            cut,
            lambda: log.open("a").write("five\n"),
        ]
    )

    def wait() -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    read = b""
    with pytest.raises(KeyboardInterrupt):
        for data in follow(log, wait):
            read += data
    assert read == b"one\ntwo\nthree\nfour\nfive\n"


HOLD = """
import sys
from pathlib import Path
from cove.machine.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
assert lock.try_acquire()
if len(sys.argv) > 2:
    import subprocess
    subprocess.Popen(["sleep", "60"], pass_fds=(lock.fd,), stdout=subprocess.DEVNULL)
print("held", flush=True)
sys.stdin.readline()
"""


def holder(path: Path, *more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_is_one_processs_until_it_dies(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.is_free()
    process = holder(lock.path)
    assert not lock.is_free()
    assert not lock.try_acquire()
    begin = time.monotonic()
    with pytest.raises(MachineBusy, match="another process has been holding machine x for 0 s") as error:
        lock.acquire(0.2, "machine x")
    assert time.monotonic() - begin < 30
    assert lock.path.name in error.value.hint
    process.kill()
    process.wait(10)
    lock.acquire(5, "machine x")
    assert not FileLock(lock.path).is_free()
    lock.release()
    lock.release()
    assert lock.is_free()


def test_two_who_ask_at_once_do_not_see_each_other(tmp_path: Path) -> None:
    import fcntl

    lock = FileLock(tmp_path / "lock")
    lock.path.touch()
    with lock.path.open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)  # as long as the other asks
        assert lock.is_free()
    answers: list[bool] = []
    askers = [threading.Thread(target=lambda: answers.extend(lock.is_free() for _ in range(500))) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert answers == [True] * 2000


def test_whoever_waits_gets_the_lock_when_it_is_let_go(tmp_path: Path) -> None:
    process = holder(tmp_path / "lock")
    threading.Timer(0.2, process.kill).start()
    with FileLock(tmp_path / "lock") as lock:
        lock.acquire(10, "it")
    process.wait(10)


def test_a_child_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    process = holder(lock.path, "with a child")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait(10)
    assert not lock.is_free()
    os.kill(int(children[0]), signal.SIGKILL)
    lock.acquire(5, "it")
    lock.release()


def test_keys_are_made_once_and_fit_each_other(home: Path) -> None:
    machine = lifecycle.init("one")
    keys.ensure(machine)
    before = machine.ssh_key.read_bytes(), machine.host_key.read_bytes(), machine.known_hosts.read_bytes()
    keys.ensure(machine)
    assert (machine.ssh_key.read_bytes(), machine.host_key.read_bytes(), machine.known_hosts.read_bytes()) == before
    for path in (machine.ssh_key, machine.host_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    host = paramiko.Ed25519Key.from_private_key_file(str(machine.host_key))
    assert machine.known_hosts.read_text().split() == ["cove-one", "ssh-ed25519", host.get_base64()]
    own = paramiko.Ed25519Key.from_private_key_file(str(machine.ssh_key))
    seed = json.loads(keys.seed(machine, "b" * 32))
    assert (seed["boot_id"], seed["machine"], seed["hostname"]) == ("b" * 32, "one", "cove-one")
    assert seed["authorized_key"].split()[1] == own.get_base64()
    assert seed["host_key"] == machine.host_key.read_text()
    assert json.loads(keys.seed(machine, "b" * 32))["entropy"] != seed["entropy"]


@pytest.mark.parametrize("lost", ["host_key", "known_hosts"])
def test_half_a_host_key_is_made_anew_as_a_whole(home: Path, lost: str) -> None:
    machine = lifecycle.init("one")
    keys.ensure(machine)
    getattr(machine, lost).unlink()
    keys.ensure(machine)
    host = paramiko.Ed25519Key.from_private_key_file(str(machine.host_key))
    assert machine.known_hosts.read_text().split()[2] == host.get_base64()


def test_a_machine_comes_and_goes_with_its_docker_context(home: Path, tmp_path: Path) -> None:
    machine = lifecycle.init("one", settings.Settings(cpus=3))
    assert lifecycle.names() == ["one"]
    assert settings.load(machine.settings).cpus == 3
    assert stat.S_IMODE(machine.folder.stat().st_mode) == 0o700
    (meta,) = (tmp_path / "docker/contexts/meta").glob("*/meta.json")
    told = json.loads(meta.read_text())
    assert told["Name"] == docker_context.name_for("one") == "cove-one"
    assert told["Endpoints"]["docker"]["Host"] == sockets.url(machine.docker_socket)
    with pytest.raises(MachineExists):
        lifecycle.init("one")
    with FileLock(machine.vm_lock) as lock:
        assert lock.try_acquire()
        with pytest.raises(MachineBusy, match="is running"):
            lifecycle.remove("one")
    lifecycle.remove("one")
    assert lifecycle.names() == []
    assert not machine.folder.exists()
    assert not meta.exists()
    with pytest.raises(MachineNotFound, match="there is no machine one"):
        lifecycle.existing("one")


def test_a_copy_of_a_machines_folder_is_no_machine(home: Path) -> None:
    folder = lifecycle.init("one").folder
    for name in ("one.bak", "One", "one-", "o" * 32):
        shutil.copytree(folder, folder.parent / name)
    shutil.copytree(folder, folder.parent / "two")
    assert lifecycle.names() == ["one", "two"]


def test_dockers_client_does_not_stay_at_a_machine_that_is_gone(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "docker/config.json"
    lifecycle.init("one")
    config.write_text('{"auths": {}, "currentContext": "cove-two"}')
    lifecycle.remove("one")
    assert json.loads(config.read_text()) == {"auths": {}, "currentContext": "cove-two"}
    lifecycle.init("two")
    config.rename(tmp_path / "dotfiles.json")
    config.symlink_to(tmp_path / "dotfiles.json")
    lifecycle.remove("two")
    assert json.loads(config.read_text()) == {"auths": {}}
    assert config.is_symlink()


def test_a_context_of_another_place_stays_while_that_is_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = lifecycle.init("one")
    gone = machine.docker_socket.parent, machine.folder
    told = docker_context.meta_file("one").read_text()
    monkeypatch.setenv("COVE_HOME", str(home / "b"))
    second = lifecycle.init("one").docker_socket
    assert docker_context.meta_file("one").read_text() == told
    lifecycle.remove("one")
    assert docker_context.meta_file("one").read_text() == told
    for folder in gone:  # by hand, with all of its COVE_HOME
        shutil.rmtree(folder)
    lifecycle.init("one")
    assert sockets.url(second) in docker_context.meta_file("one").read_text()
    docker_context.meta_file("one").write_text('{"Endpoints": {"docker": {"Host": "ssh://elsewhere"}}}')
    lifecycle.remove("one")
    lifecycle.init("one")
    assert "ssh://elsewhere" in docker_context.meta_file("one").read_text()


def test_a_context_goes_with_its_machine_from_another_session_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets are elsewhere there, and with them what the context leads to."""
    monkeypatch.delenv("COVE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "a"))
    lifecycle.init("one")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "b"))
    lifecycle.remove("one")
    assert not docker_context.meta_file("one").exists()


def test_a_directory_of_somebody_elses_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(CoveError, match="is not a directory of yours"):
        paths.private_dir(tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(CoveError, match="is not a directory of yours"):
        paths.private_dir(tmp_path / "file")
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    assert stat.S_IMODE(paths.private_dir(tmp_path / "open").stat().st_mode) == 0o700
    if os.geteuid() == 0:
        os.chown(tmp_path / "open", 12345, 12345)
        with pytest.raises(CoveError, match="is not a directory of yours"):
            paths.private_dir(tmp_path / "open")


def test_everything_is_under_cove_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVE_HOME", "/srv/c")
    for folder in (paths.data_dir(), paths.config_dir(), paths.cache_dir(), paths.runtime_dir(), paths.images_dir()):
        assert folder.is_relative_to("/srv/c")
    machine = MachinePaths("one")
    for name in ("docker_socket", "agent_socket", "qmp_socket", "link_socket"):
        assert getattr(machine, name).is_relative_to("/srv/c/run/one")


def test_without_it_sockets_are_in_the_session_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COVE_HOME", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/77")
    assert paths.runtime_dir() == Path("/run/user/77/cove")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert paths.runtime_dir() in (Path(f"/run/user/{os.getuid()}/cove"), Path(f"/tmp/cove-{os.getuid()}"))


def test_on_macos_they_are_in_a_short_folder_that_nobody_cleans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COVE_HOME", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("sys.platform", "darwin")
    longest = MachinePaths("m" * 31)
    for home, wanted in (
        ("/Users/firstname.lastname", Path("/Users/firstname.lastname/.cove/run")),
        (f"/Users/{'x' * 50}", Path(f"/tmp/cove-{os.getuid()}")),
    ):
        monkeypatch.setattr(Path, "home", lambda home=home: Path(home))
        assert paths.runtime_dir() == wanted
        assert len(os.fsencode(longest.folder_socket("folder10.fs"))) <= paths.MAX_SOCKET_PATH < 104


def test_a_socket_path_that_is_too_long_is_told_before_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVE_HOME", "/" + "x" * 90)
    with pytest.raises(CoveError, match="is too long") as error:
        _ = MachinePaths("one").docker_socket
    assert "COVE_HOME" in error.value.hint


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30),
        ("512m", 512 << 20),
        ("1t", 1 << 40),
        ("5", 5),
        ("7 kib", 7168),
        ("3B", 3),
        ("4gb", 4 << 30),
        ("4GB", 4 << 30),
        ("4g", 4 << 30),
        ("1.5GiB", 1536 << 20),
        ("0.1k", 102),
        ("4294967296", 4 << 30),
        ("1p", 1 << 50),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert sizes.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1G", "1.5.5GiB", ".5g", "1GB!", "1gbb", "4XB", "1e3", "\u0661G" * 20, "1" * 13]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        sizes.parse_size(text)


def test_sizes_are_shown_whole_or_about() -> None:
    assert [sizes.format_size(size) for size in (2 << 30, 1536 << 20, 5, 0)] == ["2GiB", "1536MiB", "5B", "0B"]
    assert [sizes.approximate_size(size) for size in (5, 1536, 300 << 20, 3 << 40)] == [
        "5 B",
        "1.5 KiB",
        "300 MiB",
        "3.0 TiB",
    ]


def test_only_a_full_disk_is_called_full(tmp_path: Path) -> None:
    with pytest.raises(CoveError, match=r"the disk is full: there is no room in .* for the image \(.* are left\)"):
        with space.room(tmp_path, "the image"):
            raise OSError(28, "No space left on device")
    with pytest.raises(PermissionError):
        with space.room(tmp_path, "the image"):
            raise PermissionError(13, "Permission denied")
    assert "are left" not in space.full(tmp_path / "nowhere", "x").message


@pytest.mark.parametrize(
    "text",
    [
        "shared_folders = 3\n",
        "shared_folders = ['src']\n",
        "shared_folders = [':ro']\n",
        "shared_folders = ['/a', 1]\n",
    ],
)
def test_folders_that_cannot_be_shared_are_named(text: str) -> None:
    with pytest.raises(CoveError, match=r"machine.toml:1:18: shared_folders"):
        settings.parse(text, "machine.toml")


def test_a_settings_file_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_bytes(b"cpus = 2\n# \xff\n")
    with pytest.raises(CoveError, match=r"machine.toml:2:3: not UTF-8 text"):
        settings.load(file)
    file.write_bytes(b"#" * (tomlfile.MAX_FILE + 1))
    with pytest.raises(CoveError, match="has over"):
        settings.load(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(CoveError, match="cannot be read: Is a directory"):
        settings.load(file)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cpus", "0", "must be a whole number from 1"),
        ("cpus", "two", "must be a whole number"),
        ("memory", "1MiB", "must be between 256MiB"),
        ("disk", "1025KiB", "must be between"),
        ("accelerator", "xen", "must be one of auto, kvm"),
        ("bind_address", "::1", "must be an IPv4 address"),
        ("qemu", "bin/qemu", "must be an absolute path"),
        ("shared_folders", "x", "must have absolute paths of folders"),
        ("share_home", "yes", "must be one of read-write"),
        ("colour", "red", "colour is not a setting"),
    ],
)
def test_a_wrong_value_is_refused_and_the_file_stays(tmp_path: Path, key: str, value: str, said: str) -> None:
    file = tmp_path / "machine.toml"
    file.write_text("# mine\ncpus = 2\n")
    with pytest.raises(CoveError, match=said):
        settings.set_value(file, key, value)
    assert file.read_text() == "# mine\ncpus = 2\n"


def test_a_machine_that_somebody_starts_meanwhile_is_not_removed(home: Path) -> None:
    paths = lifecycle.init("default")
    told: list[Exception] = []

    def remove() -> None:
        try:
            lifecycle.remove("default")
        except CoveError as error:
            told.append(error)

    with FileLock(paths.launch_lock) as launching, FileLock(paths.lock) as agent:
        launching.acquire(1, "the start")
        removing = threading.Thread(target=remove)
        removing.start()
        time.sleep(0.2)
        assert removing.is_alive()
        agent.acquire(1, "the machine")
        launching.release()
        removing.join(10)
    assert isinstance(told[0], MachineBusy)
    assert paths.settings.exists()
