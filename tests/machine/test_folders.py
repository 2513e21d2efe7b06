"""Folders of this computer in containers, by each of the drivers, with docker's own client: what works, and what must not be reached."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from folder_events import they_arrive

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

CONTAINER = """
set -e
cat /x/told
echo back > /x/made; mkdir -p /x/deep/er; chmod 750 /x/deep
echo one > /x/old; mv /x/old /x/deep/new; ln /x/deep/new /x/hard; ln -s told /x/soft
echo more >> /x/told; rm /x/going
dd if=/dev/zero of=/x/big bs=1M count=5 2>/dev/null; wc -c < /x/big
cat /x/soft
"""


@pytest.fixture(scope="module")
def home(machine: Any) -> Path:
    """The home folder of the machine's user, with a folder beside it that is not shared."""
    (machine.home / "secret").mkdir(exist_ok=True)
    (machine.home / "secret/file").write_text("nobody may read this")
    return Path(machine.environment["HOME"])


@pytest.fixture(scope="module", autouse=True)
def _as_it_was(machine: Any, home: Path) -> Iterator[None]:
    yield
    machine.cove("config", "unset", "folder_driver")
    machine.cove("config", "unset", "shared_folders")
    machine.cove("machine", "restart", timeout_s=400)


def told(machine: Any) -> dict[str, Any]:
    return dict(json.loads(machine.cove("machine", "status", "--json").stdout))


@pytest.mark.parametrize(("driver", "carrier"), [("auto", "agent"), ("9p", "9p"), ("virtiofs", "virtiofs")])
def test_folders(machine: Any, home: Path, driver: str, carrier: str) -> None:
    read_only = machine.home / "models"
    read_only.mkdir(exist_ok=True)
    (read_only / "weights").write_text("heavy")
    machine.cove("config", "set", "shared_folders", f"{read_only}:ro")
    machine.cove("config", "set", "folder_driver", driver)
    # Also for those who are connected still from tests before: their connections would keep it from being suspended.
    machine.cove("machine", "restart", timeout_s=400)
    eventually(lambda: [one["state"] for one in told(machine)["folders"]] == ["shared"] * 2, 60)  # soon after the start
    assert told(machine)["folder_driver"] == carrier
    work = home / driver
    work.mkdir()
    it_works(machine, work)
    if carrier != "9p":  # QEMU's opens no special files, not even to make them
        machine.docker("run", "--rm", "-v", f"{work}:/x", "busybox", "mkfifo", "/x/pipe")
        assert stat.S_ISFIFO((work / "pipe").stat().st_mode)
    if carrier == "agent":
        they_arrive(machine, work)
        compose_finds_it(machine, work)
    it_keeps_to_the_folder(machine, work)
    it_cannot_be_written(machine, read_only)
    if carrier != "9p":  # QEMU is its server
        its_server_may_die(machine, work)
    it_can_be_suspended(machine, work)


def it_works(machine: Any, work: Path) -> None:
    (work / "told").write_text("hello\n")
    (work / "going").touch()
    begin = work.stat()
    said = machine.docker("run", "--rm", "-v", f"{work}:/x", "busybox", "sh", "-c", CONTAINER, timeout_s=120).stdout
    assert said.split() == ["hello", "5242880", "hello", "more"]
    assert (work / "made").read_text() == "back\n"
    assert stat.S_IMODE((work / "deep").stat().st_mode) == 0o750
    assert (work / "deep/new").samefile(work / "hard")
    assert (work / "soft").readlink() == Path("told")
    assert not (work / "going").exists()
    assert {one.stat().st_uid for one in work.iterdir() if not one.is_symlink()} == {begin.st_uid}
    # What this computer changes, the next container sees; also one that runs.
    machine.docker("run", "-d", "--name", "looks", "-v", f"{work}/deep:/deep:ro", "busybox", "sleep", "1000")
    (work / "deep/late").write_text("late")
    assert machine.docker("exec", "looks", "cat", "/deep/late").stdout == "late"
    assert "Read-only" in machine.docker("exec", "looks", "touch", "/deep/no", check=False).stderr
    mounted = json.loads(machine.docker("inspect", "-f", "{{json .Mounts}}", "looks").stdout)
    assert mounted[0]["Source"] == f"{work}/deep"
    # -v makes what is missing, --mount does not.
    machine.docker("run", "--rm", "-v", f"{work}/new/er:/n", "busybox", "touch", "/n/there")
    assert (work / "new/er/there").exists()
    refused = bind(machine, work / "nosuch")
    assert "bind source path does not exist" in refused
    assert not (work / "nosuch").exists()


def compose_finds_it(machine: Any, work: Path) -> None:
    from debian_files import compose_program

    volumes = f"['./deep:/y', '~/{work.name}/told:/told:ro', 'mine:/mine']"
    mine = "{driver_opts: {type: none, o: bind, device: ./deep}}".replace("./", f"{work}/")
    project = f"services:\n  one:\n    image: busybox\n    volumes: {volumes}\nvolumes:\n  mine: {mine}\n"
    (work / "compose.yaml").write_text(project)
    words = [str(compose_program()), "-p", "folders", "-f", str(work / "compose.yaml")]
    environment = machine.environment | {"DOCKER_HOST": machine.docker_host}
    done = subprocess.run(
        [*words, "run", "--rm", "-T", "one", "cat", "/y/new", "/told", "/mine/late"], env=environment, capture_output=True,
        text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.stdout == "one\nhello\nmore\nlate", done
    subprocess.run([*words, "down", "-v"], env=environment, capture_output=True, timeout=120, check=True)


def it_keeps_to_the_folder(machine: Any, work: Path) -> None:
    outside = machine.home / "secret"
    assert f"{outside} is not in a folder that this computer shares" in bind(machine, outside)
    for name, target in (
        ("evil", "/var/lib/cove"),
        ("up", "../../secret"),
        ("abs", str(outside)),
        ("root", "/proc/1/root"),
    ):
        (work / name).symlink_to(target)
        for path in (work / name, work / name / "file"):
            assert "is not in a folder that this computer shares" in bind(machine, path)
    # As root of the VM, beside the engine: links lead into the VM, and whatever is in the folder is all that there is.
    place = f"/run/cove/host/folder0/{work.name}"
    script = f"""
    cd {place}
    ln -s {outside}/file stolen; cat stolen
    cat {place}/up/file; cat {place}/../../secret/file; cat /run/cove/host/folder0/../secret/file
    ln {place}/abs/file linked; mv {place}/abs/file moved; mknod disk b 254 0 && cat disk | head -c 1
    find /run/cove/host -xdev -name file -path '*secret*'
    echo end
    """
    done = machine.cove("machine", "ssh", "sh", "-c", shlex.quote(script), check=False, timeout_s=120)
    assert done.stdout == "end\n", done
    assert (outside / "file").read_text() == "nobody may read this"
    # A container that makes its folder a link while it is mounted anew gets what is in the folder or nothing.
    swap = "while :; do mkdir /x/t; rmdir /x/t; ln -s /var/lib/cove /x/t; rm /x/t; done"
    machine.docker("run", "-d", "--name", "swaps", "-v", f"{work}:/x", "busybox", "sh", "-c", swap)
    for _ in range(3):
        done = machine.docker("run", "--rm", "-v", f"{work}/t:/t", "busybox", "ls", "/t", check=False)
        assert "containers" not in done.stdout
    machine.docker("rm", "-f", "swaps", "looks")


def it_cannot_be_written(machine: Any, read_only: Path) -> None:
    """Not even by root of the VM: this computer refuses."""
    assert machine.docker("run", "--rm", "-v", f"{read_only}:/m", "busybox", "cat", "/m/weights").stdout == "heavy"
    assert (
        "Read-only"
        in machine.docker("run", "--rm", "-v", f"{read_only}:/m", "busybox", "rm", "/m/weights", check=False).stderr
    )
    script = "cd /run/cove/host/folder1 && mount -o remount,rw . ; echo x > weights; touch new; rm weights; chmod 777 weights; mkdir d"
    machine.cove("machine", "ssh", "sh", "-c", shlex.quote(script), check=False, timeout_s=120)
    assert [one.name for one in read_only.iterdir()] == ["weights"]
    assert (read_only / "weights").read_text() == "heavy"
    assert stat.S_IMODE((read_only / "weights").stat().st_mode) != 0o777


def its_server_may_die(machine: Any, work: Path) -> None:
    """Who has something open gets errors, soon; the next container gets the folder."""
    machine.docker("run", "-d", "--name", "waits", "-v", f"{work}:/x", "busybox", "sleep", "1000")
    run = machine.home / "run/default"
    before = (run / "folder0.pid").read_text()
    os.kill(int(before), signal.SIGKILL)

    def another() -> bool:
        try:
            return (run / "folder0.pid").read_text() not in ("", before)
        except FileNotFoundError:
            return False

    eventually(lambda: another() and told(machine)["folders"][0]["state"] == "shared", 60)
    done = machine.docker("run", "--rm", "-v", f"{work}:/x", "busybox", "cat", "/x/made", timeout_s=120)
    assert done.stdout == "back\n"
    dead = machine.docker("exec", "waits", "ls", "/x/deep", check=False, timeout_s=60)
    assert dead.returncode != 0
    machine.docker("restart", "-t", "0", "waits")
    assert machine.docker("exec", "waits", "cat", "/x/made").stdout == "back\n"
    machine.docker("rm", "-f", "waits")


def it_can_be_suspended(machine: Any, work: Path) -> None:
    machine.docker("run", "-d", "--name", "holds", "-v", f"{work}:/x", "busybox", "sleep", "1000")
    refused = machine.cove("machine", "suspend", check=False)
    assert "while containers use folders of this computer: holds" in refused.stderr
    assert machine.docker("exec", "holds", "cat", "/x/made").stdout == "back\n"
    machine.docker("rm", "-f", "holds")
    machine.cove("machine", "suspend", timeout_s=120)
    assert told(machine)["state"] == "suspended"
    done = machine.docker("run", "--rm", "-v", f"{work}:/x", "busybox", "cat", "/x/made", timeout_s=120)
    assert done.stdout == "back\n"


def bind(machine: Any, source: Path) -> str:
    """What is said to a mount that is to fail."""
    words = ["run", "--rm", "--mount", f"type=bind,source={source},target=/b", "busybox", "ls", "/b"]
    done: subprocess.CompletedProcess[str] = machine.docker(*words, check=False)
    assert done.returncode == 125, done
    assert done.stdout == ""
    return done.stderr


def eventually(holds: Any, timeout_s: float) -> None:
    """For what no event tells: look until it holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.2)
