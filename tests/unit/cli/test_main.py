"""The table of commands is true, listing them imports none, and failures become words and statuses."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cove.cli import main as cli
from cove.errors import CoveError
from cove.progress import Event

ENTRIES = dict(cli.VERBS) | {
    f"{group} {name}": entry for group, (_, commands) in cli.GROUPS.items() for name, entry in commands.items()
}


@pytest.mark.parametrize("path", ENTRIES)
def test_the_table_agrees_with_the_modules(path: str) -> None:
    module, name, short = ENTRIES[path]
    command = import_module(f"cove.cli.{module}").COMMANDS[name]
    # Where docker's words, which a command's own help has, mean docker's program, the lists say it otherwise.
    if re.search(r"(?i)\bdocker\b(?! Hub)", command.short):
        assert not re.search(r"(?i)\bdocker\b", short)
    else:
        assert command.short.startswith(short)
    names = [flag.name for flag in command.flags] + [flag.short for flag in command.flags if flag.short]
    assert len(names) == len(set(names))
    assert command.help(f"cove {path}").startswith(f"Usage:  cove {path}")


def test_every_command_of_the_modules_is_in_the_table() -> None:
    modules = {module for module, _, _ in ENTRIES.values()}
    offered = {(module, name) for module in modules for name in import_module(f"cove.cli.{module}").COMMANDS}
    assert offered == {(module, name) for module, name, _ in ENTRIES.values()}


@pytest.mark.parametrize("words", [["--help"], ["ps", "--help"]])
def test_help_imports_nothing_it_does_not_need(words: list[str]) -> None:
    script = (
        "import atexit, os, sys\n"
        "from cove.cli import main as m\n"
        "os._exit = lambda status: sys.stderr.write(' '.join(sys.modules))\n"
        f"m.main({words!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    loaded = set(done.stderr.split())
    assert "Usage:" in done.stdout
    assert not loaded & {
        "click",
        "rich",
        "requests",
        "paramiko",
        "http.client",
        "asyncio",
        "cove.cli.run",
        "cove.cli.machine",
    }


@pytest.mark.parametrize(
    ("words", "loads"),
    [(["ps"], False), (["run", "busybox"], False), (["container", "ls"], False), (["machine"], True)],
)
def test_only_coves_own_commands_load_click(words: list[str], loads: bool) -> None:
    script = (
        "import os, sys\n"
        "os.environ['COVE_HOST'] = 'unix:///nosuch/docker.sock'\n"
        "from cove.cli import main as m\n"
        "os._exit = lambda status: print('click' in sys.modules)\n"
        f"m.main({words!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"{loads}\n"


def test_an_error_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.report(CoveError("port 8080 is taken", "choose another\nor stop it first"))
    assert capsys.readouterr().err == "cove: port 8080 is taken\n      choose another\n      or stop it first\n"
    assert status == 1


def test_an_error_says_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cli.report(CoveError("image x: \x1b[2J\x1b]0;title\a", "see \x9b2J\tthere"))
    assert capsys.readouterr().err == "cove: image x: ?[2J?]0;title?\n      see ?2J\tthere\n"


def test_a_machine_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, progress: Callable[[Event], None]) -> Path:
        progress(Event("machine", f"{name}: 2 CPUs"))
        raise CoveError("there is no hypervisor", "install one")

    statuses: list[int] = []
    monkeypatch.setenv("COVE_HOME", str(tmp_path))
    monkeypatch.delenv("COVE_HOST", raising=False)
    monkeypatch.setattr("cove.agent.launch.ensure_running", refuse)
    monkeypatch.setattr("os._exit", statuses.append)
    errors = io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    cli.main(["ps"])
    cli.main(["run", "busybox"])
    told = "cove: there is no hypervisor\n      install one\n"
    assert statuses == [1, 125]
    assert errors.getvalue().count("Cove is setting up its machine") == errors.getvalue().count(told) == 2


def test_no_engine_at_cove_host_is_said_as_docker_says_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cove", "-H", "unix:///nosuch/docker.sock", "ps"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == (
        "Cannot connect to the Docker daemon at unix:///nosuch/docker.sock. Is the docker daemon running?\n"
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_without_streams_as_pythonw_has_none_it_works_all_the_same() -> None:
    bare = "import runpy, sys; sys.stdout = sys.stderr = None; sys.argv[1:] = %r; runpy.run_module('cove', run_name='__main__')"
    for words, status in ((["--version"], 0), (["-H", "unix:///nosuch/docker.sock", "ps"], 1)):
        done = subprocess.run([sys.executable, "-c", bare % words], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_every_name_of_a_command_is_in_its_help(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("os._exit", lambda status: None)
    for words, names in (
        (["ps"], "cove container ls, cove container list, cove container ps, cove ps"),
        (["container", "remove"], "cove container rm, cove container remove, cove rm"),
        (["rmi"], "cove image rm, cove image remove, cove rmi"),
        (["network", "list"], "cove network ls, cove network list"),
        (["system", "events"], "cove system events, cove events"),
    ):
        cli.main([*words, "--help"])
        assert f"\n\nAliases:\n  {names}\n" in capsys.readouterr().out
    for words in (["version"], ["container", "inspect"], ["network", "create"], ["system", "df"]):
        cli.main([*words, "--help"])
        assert "Aliases" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["help", "frob"], 1, "unknown help topic: frob\n"),
        (["help", "network", "frob"], 1, "unknown help topic: frob\n"),
        (
            ["network", "frob"],
            1,
            "cove: unknown command: cove network frob\n\nUsage:  cove network\n\n"
            "Run 'cove network --help' for more information\n",
        ),
        (["frob"], 1, "cove: unknown command: cove frob\n\nRun 'cove --help' for more information\n"),
        (
            ["--frob", "ps"],
            125,
            "unknown flag: --frob\n\nUsage:  cove [OPTIONS] COMMAND [ARG...]\n\nRun 'cove --help' for more information\n",
        ),
    ],
)
def test_what_is_not_there_is_told_in_dockers_words(
    words: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr("os._exit", statuses.append)
    cli.main(words)
    assert (statuses, capsys.readouterr().err) == ([status], told)


def test_help_is_found_however_it_is_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("os._exit", lambda status: None)
    for words in (["help", "network", "ls"], ["network", "ls", "--help"]):
        cli.main(words)
        assert capsys.readouterr().out.startswith("Usage:  cove network ls [OPTIONS]\n")
    cli.main(["help", "machine", "config"])
    assert capsys.readouterr().out.startswith("Usage:  cove machine config COMMAND\n")


def test_an_alias_is_told_by_the_commands_own_name(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("os._exit", lambda status: None)
    cli.main(["container", "remove"])
    assert "'cove container rm' requires at least 1 argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "debugged"),
    [
        (["--debug"], True),
        (["-D"], True),
        (["-m", "x", "--debug"], True),
        (["--debug=true"], True),
        (["--debug=false"], False),
        ([], False),
    ],
)
def test_debug_counts_wherever_a_global_flag_may_stand(words: list[str], debugged: bool, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("COVE_DEBUG", "COVE_HOST")}
    done = subprocess.run(
        [sys.executable, "-m", "cove", *words, "machine", "status", "nosuch"],
        env=environment | {"COVE_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert "nosuch" in done.stderr
    assert ("Traceback" in done.stderr) is debugged


@pytest.mark.parametrize("group", sorted({*cli.OWN_GROUPS} - {*cli.OF_AN_ENGINE}))
def test_an_engine_named_for_what_has_nothing_to_do_with_one(
    group: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr("os._exit", statuses.append)
    cli.main(["-H", "unix:///nosuch/docker.sock", group, "ls"])
    assert statuses == [1]
    assert capsys.readouterr().err.startswith(
        f"cove: -H names an engine, with which 'cove {group}' has nothing to do\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["status"], "Did you mean this?\n  machine status\n"),
        (["ssh", "ls"], "Did you mean this?\n  machine ssh\n"),
        (["buildx", "ls"], "'buildx' is a command of docker's own client, which works with Cove: docker buildx\n"),
    ],
)
def test_who_comes_from_other_programs_is_told_the_way(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr("os._exit", statuses.append)
    cli.main(words)
    assert statuses == [1] and told in capsys.readouterr().err
