"""`cove image bootstrap`: what it refuses before anything is downloaded, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cove.cli import bootstrap as command
from cove.cli import main as cli
from cove.image import mirror


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    statuses: list[int] = []
    monkeypatch.setattr(cli.os, "_exit", statuses.append)
    cli.main(["image", "bootstrap", *words])
    said = capsys.readouterr()
    return statuses[0], said.out, said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--platform", "linux/mips", "debian:13"], "Debian has no packages for linux/mips"),
        (["--platform", "linux/arm/v6", "debian:13"], "Debian has no packages for linux/arm/v6"),
        (["--platform", "windows/amd64", "debian:13"], "base images of Debian are for linux, not for windows"),
        (["--platform", "linux//", "debian:13"], "is an invalid component"),
        (["--platform", "linux/arm64", "debian:13"], "Cannot connect to the Docker daemon"),
        (["alpine:3"], "'alpine:3' is no image that can be made here"),
        (["--mirror", "ftp://x/debian", "debian:13"], "cannot be a Debian mirror"),
        (["debian:13"], "Cannot connect to the Docker daemon"),
    ],
)
def test_refusals(capsys: Any, monkeypatch: Any, tmp_path: Path, words: list[str], said: str) -> None:
    monkeypatch.setenv("COVE_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("COVE_HOME", str(tmp_path))
    status, out, err = run(capsys, monkeypatch, *words)
    assert (status, out) == (1, "")
    assert said in err
    assert "Traceback" not in err


def test_an_engine_of_another_kind_is_refused(capsys: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("COVE_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setattr("cove.cli.client.EngineClient.json", lambda *_: {"Arch": "mips"})
    status, _, err = run(capsys, monkeypatch, "debian:13")
    assert status == 1
    assert "Debian has no packages for linux/mips" in err


def test_help_says_what_there_is(capsys: Any, monkeypatch: Any) -> None:
    status, out, _ = run(capsys, monkeypatch, "--help")
    assert status == 0
    for word in (
        "debian:13",
        "debian:bookworm",
        "-slim",
        "COVE_DEBIAN_MIRROR",
        "--mirror",
        "--quiet",
    ):
        assert word in out


def test_the_command_line_loads_none_of_it_for_others() -> None:
    script = "import sys\nimport cove.cli.main, cove.cli.images, cove.cli.run, cove.cli.stream\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("cove.debian") or name == command.__name__]


def test_whose_mirror_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COVE_HOME", str(tmp_path))
    monkeypatch.delenv("COVE_DEBIAN_MIRROR", raising=False)
    monkeypatch.delenv("COVE_DEBIAN_SECURITY_MIRROR", raising=False)
    assert mirror.find(tmp_path) == mirror.PUBLIC, "a Mac, Windows, or another Linux, of which nobody has said anything"
    monkeypatch.setenv("COVE_DEBIAN_SECURITY_MIRROR", "http://secure.test/s")
    assert mirror.find(tmp_path) == mirror.Mirrors(mirror.PUBLIC.debian, "http://secure.test/s")
    monkeypatch.delenv("COVE_DEBIAN_SECURITY_MIRROR")
    (tmp_path / "sources.list").write_text("deb http://ubuntu.test/ubuntu noble main\n")
    assert mirror.find(tmp_path) == mirror.PUBLIC
    (tmp_path / "sources.list").write_text("deb http://apt.test/debian trixie main\n")
    assert mirror.find(tmp_path).debian == "http://apt.test/debian"
    monkeypatch.setenv("COVE_DEBIAN_MIRROR", "http://set.test/debian/")
    assert mirror.find(tmp_path).debian == "http://set.test/debian"
    assert mirror.named("http://given.test/d") == mirror.Mirrors("http://given.test/d", "http://given.test/d-security")
