"""What a `sudo cove` has made root's: told in words with the command that mends it, by all commands, checks and bundles."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.cli import main as cli
from cove.errors import SettingsError
from cove.machine import lifecycle, ownership, settings
from cove.machine.paths import MachinePaths

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners of a Unix")
NOBODY = 65534
PR_CAPBSET_DROP = 24


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = Path(
        tempfile.mkdtemp(prefix="cove-o", dir="/tmp")
    )  # short, for the paths of sockets, and others may look in
    home.chmod(0o755)
    for name in [name for name in os.environ if name.startswith(("COVE_", "DOCKER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COVE_HOME", str(home / "c"))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    yield home
    shutil.rmtree(home)


def refused(path: Path) -> PermissionError:
    return PermissionError(errno.EACCES, "Permission denied", str(path))


def test_the_uppermost_folder_that_is_anothers_is_given_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = lifecycle.init("default")
    data = home / "c/data"
    told = ownership.refusal(refused(paths.settings))
    assert told is not None
    assert told.message == f"{paths.settings} cannot be used: permission denied"
    assert told.hint == f"make it yours: chmod -R u+rwX '{paths.settings}'"  # it is, but for its mode
    monkeypatch.setattr("os.getuid", lambda: NOBODY)
    assert ownership.way_out(paths.settings) == f"sudo chown -R $USER '{data}'"
    assert ownership.way_out(paths.docker_socket) == f"sudo chown -R $USER '{home}/c/run'"
    shutil.rmtree(home / "c")
    assert ownership.way_out(paths.settings) == f"sudo install -d -o $USER '{data}'"


def test_what_is_not_coves_is_not_taken(home: Path) -> None:
    assert ownership.refusal(refused(home / "mine")) is None
    assert ownership.refusal(PermissionError(errno.EACCES, "Permission denied")) is None


def test_commands_say_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = home / "c/data/machines"
    assert cli.report(refused(place), 125) == 125
    told = f"cove: {place} cannot be used: permission denied\n      make it yours: sudo install -d -o $USER '{home}/c/data'\n"
    assert capsys.readouterr().err == told
    cli.report(refused(home / "mine"))
    assert "this is a bug in Cove" in capsys.readouterr().err


LOOK = """
import sys
from pathlib import Path
from cove.support import bundle, diagnose, findings
names = ("settings", "permissions", "processes", "disk", "docker", "engine", "ports", "folders", "clock")
found = [*findings.run([each for each in diagnose.checks("default", {}) if each.name in names])]
for each in found:
    print(each.check, each.state, each.text, "|", each.fix)
print(*bundle.write(Path(sys.argv[1]), "default", found, lambda words, bound: "", {}))
"""


def as_others_are() -> None:
    """Root's rights over the files of others go: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, at the exec that follows."""
    for capability in (1, 2):
        if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError("the capability cannot be given up")


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root can make files another's"
)
def test_another_user_is_told_by_all(home: Path) -> None:
    paths = lifecycle.init("default")
    paths.ssh_key.write_text("key")
    for path in (paths.folder, paths.settings, paths.ssh_key):
        os.chown(path, NOBODY, NOBODY)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], preexec_fn=as_others_are,
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    fix = f"sudo chown -R $USER '{paths.folder}'"
    for words in (
        ("machine", "status"),
        ("machine", "stop"),
        ("config", "list"),
        ("config", "set", "cpus", "3"),
        ("ps",),
    ):
        done = run("-m", "cove", *words)
        assert done.returncode == 1, words
        assert "a bug in Cove" not in done.stderr
        assert f"make it yours: {fix}\n" in done.stderr, words
    looked = run("-c", LOOK, str(home / "b.zip"))
    assert looked.returncode == 0, looked.stderr
    assert "this check failed" not in looked.stdout
    assert f"permissions problem {paths.folder} belongs to user {NOBODY}, not to you | {fix}\n" in looked.stdout
    assert f"engine problem {paths.remote} cannot be used: permission denied | make it yours: {fix}\n" in looked.stdout
    assert looked.stdout.count("belongs to user") == 1  # the keys in it go with it
    assert "b/findings.json" in looked.stdout


def test_settings_that_cannot_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MachinePaths("default").settings

    def refuse(*_: object, **__: object) -> None:
        raise refused(file)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SettingsError, match="cannot be read: Permission denied") as told:
        settings.load(file)
    assert told.value.hint.endswith(f"sudo install -d -o $USER '{home}/c/data'")
