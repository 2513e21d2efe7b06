"""Completion: what could come next, and that real shells say so."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.cli import complete, complete_names
from cove.cli import main as cli

CONTAINERS = [
    {"Names": ["/web"], "Image": "nginx", "State": "running", "Status": "Up 2 hours"},
    {"Names": ["/worker"], "Image": "busybox:1.36", "State": "exited", "Status": "Exited (0)"},
    {"Names": ["/wedged"], "Image": "busybox", "State": "paused", "Status": "Up (Paused)"},
    {"Names": ["/w$(touch owned)"], "Image": "evil", "State": "running", "Status": "Up\x1b[2J"},
    {"Names": ["/w\nevil"], "Image": "evil", "State": "running", "Status": "Up"},
]
ANSWERS: dict[str, Any] = {
    "/containers/json?all=1": CONTAINERS,
    "/images/json": [
        {"RepoTags": ["busybox:latest", "reg.local:5000/app:v2"]},
        {"RepoTags": ["<none>:<none>"]},
        {"RepoTags": None},
    ],
    "/networks": [{"Name": "bridge", "Driver": "bridge"}, {"Name": "backend", "Driver": "bridge"}],
    "/volumes": {"Volumes": [{"Name": "data", "Driver": "local"}]},
}

PATIENCE_S = 60.0
"""An engine in another thread, or of a busy computer, has this time where a user has a finger on a key."""


class Engine:
    """Answers what completion asks; with `silent` it never does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.silent = False
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        kept = []
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            if self.silent:
                kept.append(client)
                continue
            target = client.recv(4096).split(b" ")[1].decode()
            self.asked.append(target)
            client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(ANSWERS[target]).encode())
            client.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="cove-c", dir="/tmp"))
    for name in [name for name in os.environ if name.startswith("COVE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COVE_HOME", str(folder))
    monkeypatch.setenv("COVE_HOST", f"unix://{folder}/engine.sock")
    monkeypatch.setattr(complete_names, "BOUND_S", PATIENCE_S)
    made = Engine(folder / "engine.sock")
    yield made
    made.close()
    shutil.rmtree(folder)


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert complete.main(["zsh", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [line.partition("\t")[0] for line in out.splitlines()]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pu", ["pull", "push", ":none"]),
        ("image r", ["rm", ":none"]),
        ("-m default network pru", ["prune", ":none"]),
        ("help vol", ["volume", ":none"]),
        ("exec ", ["web", "wedged", ":none"]),
        ("exec web ", [":files"]),
        ("stop web ", ["wedged", ":none"]),
        ("rm -f w", ["web", "worker", "wedged", ":none"]),
        ("container start ", ["worker", ":none"]),
        ("unpause ", ["wedged", ":none"]),
        ("logs --tail 5 wor", ["worker", ":none"]),
        ("logs --tail ", [":files"]),
        ("logs web ", [":none"]),
        ("run --rm -it busy", ["busybox:latest", "busybox", ":none"]),
        ("run --network b", ["bridge", "backend", ":none"]),
        ("run --network=ba", ["--network=backend", ":none"]),
        ("run -v da", ["data", ":files"]),
        ("run -e A=1 busybox ", [":files"]),
        ("run --restart un", ["unless-stopped", ":none"]),
        ("run --workd", ["--workdir", ":none"]),
        ("run busybox --workd", [":files"]),
        ("rmi reg.local:5000/", ["reg.local:5000/app:v2", ":none"]),
        ("tag busybox b", ["busybox:latest", ":none"]),
        ("network connect ba", ["backend", ":none"]),
        ("network connect backend wo", ["worker", ":none"]),
        ("volume rm ", ["data", ":none"]),
        ("inspect b", ["busybox:latest", "busybox", "bridge", "backend", ":none"]),
        ("cp we", ["web:", "wedged:", ":open"]),
        ("cp ./x", [":files"]),
        ("cp web:/etc/", [":files"]),
        ("machine conf", ["config", ":none"]),
        ("config set acc", ["accelerator", ":none"]),
        ("config set accelerator k", ["kvm", ":none"]),
        ("config set share_home read-", ["read-write", "read-only", ":none"]),
        ("config set suspend_running ", ["true", "false", ":none"]),
        ("config set suspend_after n", ["never", ":none"]),
        ("config set ssh_agent ", ["system", "none", ":files"]),
        ("config set qemu ", [":files"]),
        ("config set shared_folders ", [":files"]),
        ("config set cpus ", [":none"]),
        ("config set nosuch ", [":none"]),
        ("machine status --js", ["--json", ":none"]),
        ("machine rm x", [":none"]),
        ("completion ba", ["bash", ":none"]),
        ("nosuch x", [":files"]),
        ("network nosuch x", [":files"]),
        ("config nosuch x", [":none"]),
    ],
)
def test_what_could_come_next(line: str, found: list[str], engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, *line.split(" ")) == found


@pytest.mark.parametrize("path", [*cli.VERBS, *cli.GROUPS, *cli.OWN_GROUPS, *cli.OWN_COMMANDS])
def test_every_command_completes_its_flags(path: str, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert path in asked(capsys, path)
    if path in cli.VERBS:
        flags = [flag for flag in cli.load(cli.VERBS[path]).flags if not flag.hidden]
        assert {f"--{flag.name}" for flag in flags} < set(asked(capsys, path, "--"))
    elif path in cli.GROUPS:
        assert [*cli.GROUPS[path][1], ":none"] == asked(capsys, path, "")


def test_commands_with_arguments_are_those_of_the_tables() -> None:
    known = {name for _, name, _ in cli.VERBS.values()} | {
        name for _, verbs in cli.GROUPS.values() for _, name, _ in verbs.values()
    }
    assert set(complete.ARGUMENTS) <= known


def test_hostile_names_do_not_reach_the_shell(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    complete.main(["fish", "stop", "w"])
    assert capsys.readouterr().out == "web\tnginx, Up 2 hours\nwedged\tbusybox, Up (Paused)\n:none\n"


def test_nothing_is_started_and_nothing_said_when_nothing_runs(tmp_path: Path) -> None:
    environment = {**os.environ, "COVE_HOME": str(tmp_path / "c")}
    environment.pop("COVE_HOST", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "cove", "__complete", "bash", "cove stop ", ":="],
        env=environment, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.stdout, done.stderr) == (":none\n", "")
    assert not (tmp_path / "c").exists()
    # On a computer that has other things to do as well, what it costs says more than how long it takes.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.15


def test_an_engine_that_does_not_answer_is_not_waited_for(
    engine: Engine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complete_names, "BOUND_S", 2.0)
    engine.silent = True
    assert asked(capsys, "stop", "") == [":none"]
    begin = time.monotonic()
    assert asked(capsys, "inspect", "") == [":none"]  # four kinds of names, one bound
    assert time.monotonic() - begin < 7


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cove run --network=ba", ["backend"]),
        ("cove rmi reg.local:50", ["5000/app:v2"]),
        ("cove rmi reg.local:5000/app:", ["v2"]),
        ("cove exec 'we", ["web", "wedged"]),
        ("cove stop web ", ["wedged"]),
        ("cove stop ", ["web", "wedged"]),
    ],
)
def test_bash_parts_words_otherwise(
    line: str, words: list[str], engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    complete.main(["bash", line, " \t\n\"'@><=;|&(:"])
    assert capsys.readouterr().out.splitlines()[:-1] == words


def test_no_such_shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr("os._exit", statuses.append)
    cli.main(["completion", "tcsh"])
    assert statuses == [1]
    assert capsys.readouterr().err.endswith("known are: bash, fish, powershell, zsh\n")


@pytest.fixture
def home(engine: Engine, tmp_path: Path) -> Path:
    program = tmp_path / "bin/cove"
    program.parent.mkdir()
    patient = f"from cove.cli import complete_names, main; complete_names.BOUND_S = {PATIENCE_S}; main.main()"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{patient}" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "a-file").touch()
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{home}/bin:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb", "PS1": "$ "}


def typed(shell: list[str], setup: str, home: Path, keys: dict[str, str]) -> None:
    """Type into a shell at a terminal: after `keys`, each of their values is on the screen."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(home)
        os.execvpe(shell[0], shell, environment(home))
    screen = b""

    def until(text: str) -> None:
        nonlocal screen
        deadline = time.monotonic() + 30
        while text.encode() not in screen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([terminal], [], [], left)[0], (text, screen)
            screen += os.read(terminal, 4096)

    try:
        os.write(terminal, f"{setup}; echo set''up\n".encode())
        until("setup\r\n")
        for line, shown in keys.items():
            screen = b""
            os.write(terminal, line.encode())
            until(shown)
            os.write(terminal, b"\x15")  # Ctrl-U: the line is given up
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


def test_bash_completes(home: Path) -> None:
    typed(
        ["bash", "--norc", "--noprofile", "-i"],
        'eval "$(cove completion bash)"; complete -F _cove docker',
        home,
        {
            "cove vers\t": "cove version ",
            "cove stop web\t": "cove stop web ",
            "cove start \t": "cove start worker ",
            "cove rmi reg\t": "cove rmi reg.local:5000/app:v2 ",
            "cove run --network=bac\t": "cove run --network=backend ",
            "cove cp worke\t": "cove cp worker:",
            "cove build a-\t": "cove build a-file ",
            "docker stop web\t": "docker stop web ",
        },
    )


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_zsh_completes(home: Path) -> None:
    typed(
        ["zsh", "-f", "-i"],
        "PS1='$ '; unsetopt zle_bracketed_paste; source <(cove completion zsh)",
        home,
        {
            "cove vers\t": "ion ",
            "cove start \t": "worker ",
            "cove rmi reg\t": ".local:5000/app:v2 ",
            "cove cp worke\t": "r:",
            "cove build a-\t": "file",
        },
    )


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_fish_completes(home: Path) -> None:
    for line, shown in {
        "cove vers": "version\tShow the versions of this program and of the engine",
        "cove stop web": "web\tnginx, Up 2 hours",
        "cove rmi reg": "reg.local:5000/app:v2",
        "cove build a-": "a-file",
        "cove run --network=bac": "--network=backend\tbridge network",
    }.items():
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"cove completion fish | source; complete -C '{line}'"],
            env=environment(home), cwd=home, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert shown in done.stdout.splitlines(), (done.stdout, done.stderr)
