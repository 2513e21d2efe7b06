"""Builds from git repositories over SSH: a real sshd, asked with the keys of the client's agent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import debian_files

pytestmark = [pytest.mark.root, pytest.mark.native]

DOCKERFILE = "FROM busybox\nCOPY . /x/\nRUN --network=none cat /x/* /x/inner/* 2>/dev/null | xargs echo has\n"
CONFIG = """
Port 22
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/mine.pub
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
"""
# It separates its privileges, for which there is to be a user, and a folder.
START = """
mount --bind {folder}/passwd /etc/passwd && mount -t tmpfs tmpfs /run && mkdir /run/sshd &&
exec env LD_LIBRARY_PATH={libraries} {program} -D -e -f {folder}/config
"""


@pytest.fixture
def folder(own_engine: Any, tmp_path: Path) -> Iterator[Path]:
    """Of a server whose user `git` knows the key `mine`; `git/x.git` there has a submodule beside it."""
    for name in ("host", "mine", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    for name in ("inner", "x"):
        _repository(tmp_path / f"git/{name}.git", f"file of {name}")
    x = tmp_path / "git/x.git"
    _git(x, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "git/inner.git"), "inner")
    _git(x, "config", "-f", ".gitmodules", "submodule.inner.url", "../inner.git")
    _git(x, "commit", "-q", "-a", "-m", "second")
    program, libraries = debian_files.sshd_program()
    (tmp_path / "config").write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "passwd").write_text("git:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\nsshd:x:100:65534::/:/bin/false\n")
    start = START.format(folder=tmp_path, libraries=libraries, program=program)
    words = own_engine.in_network("unshare", "-m", "sh", "-c", start)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        try:
            assert running.stderr is not None
            assert "listening on 127.0.0.1 port 22" in running.stderr.readline()
            yield tmp_path
        finally:
            os.killpg(running.pid, signal.SIGTERM)


def _git(work: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)


def _repository(work: Path, text: str) -> None:
    work.mkdir(parents=True)
    _git(work, "init", "-q", "-b", "main")
    (work / "file").write_text(f"{text}\n")
    (work / "Dockerfile").write_text(DOCKERFILE)
    (work / ".dockerignore").write_text("**/ignored\n")
    (work / "ignored").write_text("ignored\n")
    _git(work, "add", "-A")
    _git(work, "commit", "-q", "-m", "first")


@contextmanager
def agent(folder: Path, key: str) -> Iterator[dict[str, str]]:
    """What in the environment leads to an agent with one key."""
    socket = folder / "a.sock"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            running.stdout.readline()  # it listens
            there = {"SSH_AUTH_SOCK": str(socket)}
            subprocess.run(["ssh-add", "-q", folder / key], env={**os.environ, **there}, check=True)
            yield there
        finally:
            running.terminate()


def build(engine: Any, environment: dict[str, str], *words: str, status: int = 0) -> str:
    """What it says."""
    command = [sys.executable, "-m", "cove", "--host", engine.url, "build", "--progress=plain", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == status, done.stderr
    return done.stderr


def test_contexts_and_add_over_ssh(own_engine: Any, folder: Path, tmp_path: Path) -> None:
    url, short = f"ssh://git@127.0.0.1{folder}/git/x.git", f"git@127.0.0.1:{folder}/git/x.git"
    with agent(folder, "mine") as mine:
        said = build(own_engine, mine, "--ssh=default", url)
        assert "file of x" in said
        assert "file of inner" in said  # of the submodule, whose address is relative
        assert "ignored" not in said
        # What others may build from as well is as it was.
        kept = [*(own_engine.root / "build/git").glob("*/tree/ignored")]
        assert len(kept) == 1
        (tmp_path / "c").mkdir()
        (tmp_path / "c/Dockerfile").write_text(f"FROM busybox\nADD {short}#main /y/\nRUN --network=none cat /y/file\n")
        assert "file of x" in build(own_engine, mine, "--ssh=default", str(tmp_path / "c"))
        words = 'failed to fetch remote .*: no SSH key "default" forwarded from the client'
        assert_said(words, build(own_engine, mine, url, status=1))
        missing = f"ssh://git@127.0.0.1:22{folder}/git/none's!.git"
        assert_said(r"none's!\.git' does not appear", build(own_engine, mine, "--ssh=default", missing, status=1))
    with agent(folder, "other") as other:
        words = r"git@127\.0\.0\.1: Permission denied \(publickey"
        assert_said(words, build(own_engine, other, "--ssh=default", url, status=1))


def assert_said(words: str, said: str) -> None:
    assert re.search(words, said), said
