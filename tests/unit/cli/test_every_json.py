"""Every command of Cove's own that prints something prints it as JSON, too (docs/cli.md, "JSON"); and its help names its arguments."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from cove.cli import main

PRINT_NOTHING_OF_THEIR_OWN = {"machine ssh", "completion"}
DOCKERS_LIKE = ("hello", "version", "info")


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, f"{path} {name}")
    else:
        yield path, command


OWN = dict(each for name in (*main.OWN_GROUPS, *main.OWN_COMMANDS) for each in commands(main.own(name), name))


def test_there_are_some() -> None:
    assert len(OWN) > 25
    assert set(OWN) > PRINT_NOTHING_OF_THEIR_OWN


@pytest.mark.parametrize("path", sorted({*OWN} - PRINT_NOTHING_OF_THEIR_OWN))
def test_a_command_of_coves_own_has_it(path: str) -> None:
    assert "--json" in {option for one in OWN[path].params for option in one.opts}


@pytest.mark.parametrize(
    "path", [*DOCKERS_LIKE, "volume export", "volume import", "image bootstrap", "image sbom", "image scan"]
)
def test_so_have_those_that_are_parsed_as_dockers(path: str) -> None:
    name, _, verb = path.partition(" ")
    entry = main.GROUPS[name][1][verb] if verb else main.VERBS[name]
    assert "json" in {flag.name for flag in main.load(entry).flags}


@pytest.mark.parametrize("path", sorted(OWN))
def test_its_help_page_names_its_arguments(path: str) -> None:
    assert all(one.metavar for one in OWN[path].params if isinstance(one, click.Argument))
