"""The dashboard's process: begun by a command, found by the next, ended as it should, whatever became of the one before."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cove.cli.dashboard import PROCESS
from cove.cli.dashboard_process import login
from cove.dashboard import launch
from cove.dashboard.places import Places, served
from cove.errors import CoveError
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths

BOUND_S = 60.0


@pytest.fixture
def places(paths: MachinePaths) -> Iterator[Places]:
    yield Places(paths.name)
    for name in served():
        launch.end(name)


def cove(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cove", *words], capture_output=True, text=True, timeout=BOUND_S, check=False,
        env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def opened(url: str) -> Any:
    return urllib.request.build_opener(NoRedirect).open(url, timeout=BOUND_S)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def http_error_303(self, *args: Any) -> Any:
        return args[1]


def pid_of(lock: Path) -> int:
    """Of the process that has a file open."""
    target = str(lock)
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if any(str(fd.readlink()) == target for fd in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:
                continue
    raise AssertionError("nobody has it")


def wait_ended(places: Places) -> None:
    lock = FileLock(places.lock)
    lock.acquire(BOUND_S, "the dashboard")
    lock.release()


def test_a_command_prints_the_address_that_opens_it(places: Places) -> None:
    done = cove("dashboard", "--no-open")
    assert (done.returncode, done.stderr) == (0, "")
    url = done.stdout.strip()
    assert urlsplit(url).hostname == "127.0.0.1"
    assert opened(url).status == 303
    told = json.loads(cove("dashboard", "--no-open", "--json").stdout)
    assert (told["machine"], told["opened"]) == ("default", False)
    assert urlsplit(told["url"]).port == urlsplit(url).port, "the process is the same"
    assert told["url"] != url


def test_it_opens_the_users_browser_with_another_address_than_it_prints(places: Places, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" >{tmp_path}/seen\n')
    browser.chmod(0o755)
    done = cove("dashboard", "--json", BROWSER=f"{browser} %s", DISPLAY=":0")
    told = json.loads(done.stdout)
    assert told["opened"]
    seen = (tmp_path / "seen").read_text()
    assert seen != told["url"]
    assert opened(seen).status == opened(told["url"]).status == 303


def test_it_knows_dockers_logins(places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    auth = base64.b64encode(b"me:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.example": {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    told = json.loads(base64.urlsafe_b64decode(login("r.example/a/b:1")))
    assert (told["username"], told["password"]) == ("me", "secret")
    assert "password" not in json.loads(base64.urlsafe_b64decode(login("other.example/a")))
    assert login("NO NAME") == ""


def test_commands_at_the_same_time_begin_one_process(places: Places) -> None:
    with ThreadPoolExecutor(4) as pool:
        ports = {urlsplit(url).port for url in pool.map(lambda _: launch.address(places.name, PROCESS), range(4))}
    assert len(ports) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(places: Places, number: signal.Signals) -> None:
    launch.address(places.name, PROCESS)
    os.kill(pid_of(places.lock), number)
    wait_ended(places)
    assert not places.socket.exists()
    lines = [json.loads(line) for line in places.log.read_text().splitlines()]
    assert [line["level"] for line in lines] == ["info", "info"]
    assert lines[-1]["message"] == "the dashboard ends"


def test_one_that_was_killed_is_followed_by_another(places: Places) -> None:
    first = launch.address(places.name, PROCESS)
    os.kill(pid_of(places.lock), signal.SIGKILL)
    wait_ended(places)
    second = launch.address(places.name, PROCESS)
    assert opened(second).status == 303
    with pytest.raises(OSError):
        opened(first)


def test_that_of_another_cove_is_replaced(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pid_of(places.lock) if launch.address(places.name, PROCESS) else 0
    monkeypatch.setattr(launch, "version", lambda _: "another")
    launch.address(places.name, PROCESS)
    assert pid_of(places.lock) != first


def test_one_that_cannot_begin_says_where_its_log_is(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.make()
    places.socket.mkdir()  # in the way
    with pytest.raises(CoveError) as error:
        launch.address(places.name, PROCESS)
    assert str(places.log) in error.value.hint
    places.socket.rmdir()


def test_each_machine_has_its_own(places: Places) -> None:
    other = cove("dashboard", "--no-open", "-m", "other").stdout.strip()
    assert urlsplit(other).port != urlsplit(launch.address(places.name, PROCESS)).port
    assert served() == ["default", "other"]


def test_its_files_are_this_users_alone(places: Places) -> None:
    launch.address(places.name, PROCESS)
    assert stat.S_IMODE(places.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(places.socket.stat().st_mode) == 0o600


def test_uninstalling_ends_it(places: Places) -> None:
    launch.address(places.name, PROCESS)
    pid = pid_of(places.lock)
    done = cove("uninstall", "--force")
    assert done.returncode == 0, done.stderr
    assert not places.folder.exists()
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()


def test_no_name_of_a_machine_is_taken_for_another_file(places: Places) -> None:
    done = cove("dashboard", "--no-open", "-m", "../x")
    assert done.returncode == 1
    assert "cannot be the name of a machine" in done.stderr
