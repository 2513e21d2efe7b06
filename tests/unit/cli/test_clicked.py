"""Cove's own commands are click's, and nobody can tell: pages, words, statuses and spellings are those of docker's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module

import click
import pytest
from cove.cli import clicked
from cove.cli import main as cli
from cove.cli.command import Context
from cove.cli.errors import CliError

PLAY_HELP = """\
Usage:  cove toy play [OPTIONS] TUNE [TIMES]

Play a tune

Aliases:
  cove toy play, cove toy sing

Options:
  -l, --loud           Wake everybody
  -q, --quick          Hurry
      --times int      How often
  -m, --where string   The room
"""


@click.group(cls=clicked.Group, aliases={"sing": "play"})
def toy() -> None:
    """Toys"""


@toy.command(short_help="Play")
@click.argument("tune", metavar="TUNE")
@click.argument("again", metavar="[TIMES]", required=False)
@click.option("--times", type=clicked.Integer(), help="How often")
@click.option("--where", "-m", type=clicked.MachineName(), default="", help="The room")
@clicked.switch("--loud", "-l", help="Wake everybody")
@clicked.switch("--quick", "-q", help="Hurry")
def play(**given: object) -> None:
    """Play a tune"""
    print(*(f"{key}={value}" for key, value in sorted(given.items()) if value not in (None, "", False)))


@toy.command(context_settings={"allow_interspersed_args": False})
@click.argument("words", metavar="[WORD...]", nargs=-1, type=click.UNPROCESSED)
def end(words: Sequence[str]) -> int:
    """End with a status of its own"""
    print(words)
    return 7


@toy.group()
def box() -> None:
    """Boxes"""


@box.command()
def shut() -> None:
    """Shut it"""


def run(*words: str) -> int:
    return clicked.run(toy, "cove toy", words, Context("cove toy"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("play x", "tune=x"),
        ("sing x 3 --times 0x10", "again=3 times=16 tune=x"),
        ("play -lq x -m=here", "loud=True quick=True tune=x where=here"),
        ("play -mhere x", "tune=x where=here"),
        ("play x --where -l", "tune=x where=-l"),
        ("play --loud=t -q=1 x", "loud=True quick=True tune=x"),
        ("play --loud -lq x --loud=false -q=F", "tune=x"),
        ("play -- --loud=false -l", "again=-l tune=--loud=false"),
    ],
)
def test_spellings_of_docker(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words.split()) == 0
    assert capsys.readouterr().out == told + "\n"


@pytest.mark.parametrize(
    ("words", "status", "told", "path", "usage"),
    [
        ("play --slow x", 125, "unknown flag: --slow", "play", "[OPTIONS] TUNE [TIMES]"),
        ("sing --slow=2", 125, "unknown flag: --slow", "play", "[OPTIONS] TUNE [TIMES]"),
        ("play -x", 125, "unknown shorthand flag: 'x' in -x", "play", "[OPTIONS] TUNE [TIMES]"),
        ("play -lxq", 125, "unknown shorthand flag: 'x' in -xq", "play", "[OPTIONS] TUNE [TIMES]"),
        ("play --times", 125, "flag needs an argument: --times", "play", "[OPTIONS] TUNE [TIMES]"),
        ("play -lm", 125, "flag needs an argument: 'm' in -m", "play", "[OPTIONS] TUNE [TIMES]"),
        (
            "play --loud=loud x",
            125,
            'invalid argument "loud" for "-l, --loud" flag: strconv.ParseBool: parsing "loud": invalid syntax',
            "play",
            "[OPTIONS] TUNE [TIMES]",
        ),
        (
            "play --times few x",
            125,
            'invalid argument "few" for "--times" flag: strconv.ParseInt: parsing "few": invalid syntax',
            "play",
            "[OPTIONS] TUNE [TIMES]",
        ),
        (
            "play",
            1,
            "cove: 'cove toy play' requires at least 1 and at most 2 arguments",
            "play",
            "[OPTIONS] TUNE [TIMES]",
        ),
        (
            "play a b c",
            1,
            "cove: 'cove toy play' requires at least 1 and at most 2 arguments",
            "play",
            "[OPTIONS] TUNE [TIMES]",
        ),
        ("box shut x", 1, "cove: 'cove toy box shut' accepts no arguments", "box shut", ""),
        ("box --slow", 125, "unknown flag: --slow", "box", "COMMAND"),
        ("box open", 1, "cove: unknown command: cove toy box open", "box", "COMMAND"),
    ],
)
def test_words_and_statuses_of_docker(words: str, status: int, told: str, path: str, usage: str) -> None:
    with pytest.raises(CliError) as raised:
        run(*words.split())
    line = f"Usage:  cove toy {path} {usage}".rstrip()
    assert raised.value.message == f"{told}\n\n{line}\n\nRun 'cove toy {path} --help' for more information"
    assert raised.value.status == status


def test_pages_of_docker(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("play", "--help"), ("sing", "-h")):
        assert run(*words) == 0
        assert capsys.readouterr() == (PLAY_HELP, "")
    page = (
        "Usage:  cove toy COMMAND\n\nToys\n\nCommands:\n  box         Boxes\n  end         End with a status of its own\n"
        "  play        Play\n\nRun 'cove toy COMMAND --help' for more information on a command.\n"
    )
    assert run("--help") == 0
    assert capsys.readouterr() == (page, "")
    assert run() == 0
    assert capsys.readouterr() == ("", page)


def test_a_commands_own_status_and_words_come_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("end", "free", "-m", "--help", "--", "--json=false") == 7
    assert capsys.readouterr().out == "('free', '-m', '--help', '--', '--json=false')\n"


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


@pytest.mark.parametrize("name", cli.OWN_GROUPS)
def test_the_table_of_own_groups_agrees_with_their_modules(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, short = cli.OWN_GROUPS[name]
    group = import_module(f"cove.cli.{module}").group
    assert (group.name, group.help) == (name, short)
    for path, command in commands(group, f"cove {name}"):
        assert isinstance(command, clicked.Command | clicked.Group)
        assert command.help.startswith(command.short_help or command.help)
        words = [*path.split()[2:], "--help"]
        assert clicked.run(group, f"cove {name}", words, Context(f"cove {name}")) == 0
        assert capsys.readouterr().out.startswith(f"Usage:  {path}")
    for alias, meant in group.aliases.items():
        assert alias not in group.commands
        assert meant in group.commands


@pytest.mark.parametrize("name", cli.OWN_COMMANDS)
def test_the_table_of_own_commands_agrees_with_their_modules(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = cli.own(name)
    assert isinstance(command, clicked.Command)
    assert command.name == name
    assert cli.OWN_COMMANDS[name][1].startswith((command.short_help or "").partition(",")[0])
    assert clicked.run(command, f"cove {name}", ["--help"], Context(f"cove {name}")) == 0
    assert capsys.readouterr().out.startswith(f"Usage:  cove {name} ")


NO_JSON = {"cove completion", "cove machine ssh"}
"""They print what is not theirs, or nothing."""


def test_all_own_commands_that_print_have_json() -> None:
    found = {f"cove {name}": cli.own(name) for name in cli.OWN_COMMANDS}
    for name in cli.OWN_GROUPS:
        group = cli.own(name)
        assert isinstance(group, click.Group)
        found |= {path: each for path, each in commands(group, f"cove {name}") if not isinstance(each, click.Group)}
    without = {path for path, each in found.items() if not any(one.name == "json" for one in clicked.as_flags(each))}
    assert without == NO_JSON
    assert len(found) > 20
    for path in (
        "hello",
        "image bootstrap",
        "image sbom",
        "image scan",
        "volume export",
        "volume import",
    ):  # Cove's own beside docker's
        group, _, name = path.rpartition(" ")
        entry = cli.GROUPS[group][1][name] if group else cli.VERBS[name]
        assert any(flag.name == "json" for flag in cli.load(entry).flags), path
    for path in (
        "hello",
        "image bootstrap",
        "image sbom",
        "image scan",
        "volume export",
        "volume import",
    ):  # Cove's own beside docker's
        group, _, name = path.rpartition(" ")
        entry = cli.GROUPS[group][1][name] if group else cli.VERBS[name]
        assert any(flag.name == "json" for flag in cli.load(entry).flags), path
