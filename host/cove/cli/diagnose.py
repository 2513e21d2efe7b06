"""`cove diagnose`: what is wrong, and what to do about it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cove.cli import as_json as json_output
from cove.cli.clicked import Command
from cove.cli.colour import paint
from cove.cli.which_machine import named
from cove.errors import CoveError
from cove.machine.paths import MachinePaths
from cove.support.findings import NOTE, OK, PROBLEM, WARNING, Finding

COLOURS = {OK: "green", NOTE: "dim", WARNING: "yellow", PROBLEM: "red"}
WIDTH = 16
"""Columns of a check's name, the longest of which is "virtualisation"."""

HELP = """Look for what is wrong, and say how to mend it

It needs no machine, starts none, and changes nothing. The exit status is 1 when something does
not work; warnings and notes leave it 0.

--bundle writes what a report of trouble needs: findings, versions, settings and logs, with
passwords, tokens, keys and the values of variables taken out. FILE ends in .tar.gz or .zip."""


@click.command(
    "diagnose",
    cls=Command,
    short_help="Look for what is wrong, and say how to mend it",
    help=HELP,
)
@named
@click.option(
    "--bundle",
    is_flag=False,
    flag_value="",
    default=None,
    help="Write a bundle too, to a FILE or the present folder",
    metavar="FILE",
)
@json_output.option
def command(name: str, bundle: str | None, as_json: bool) -> int:
    from cove.support import diagnose, findings

    file = _bundle_file(bundle) if bundle is not None else None
    if not as_json and sys.stderr.isatty():
        print("Cove is looking; this takes some seconds", file=sys.stderr)
    found: list[Finding] = []
    for each in findings.run(diagnose.checks_of(MachinePaths(name))):
        found.append(each)
        if not as_json:
            _print(each)
    problems, warnings = findings.count(found, PROBLEM), findings.count(found, WARNING)
    if file is not None:
        _bundle(name, file, found)
    if as_json:
        json_output.show(
            {
                "machine": name, "problems": problems, "warnings": warnings, "findings": [each.shown() for each in found],
                "bundle": str(file) if file is not None else None,
            }
        )  # fmt: skip
        return 1 if problems else 0
    print()
    if not problems and not warnings:
        print("nothing is wrong")
    else:
        print(f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}")
    if file is not None:
        print(f"wrote {file}; secrets have been taken out, but look through it before you give it away")
    elif problems:
        print(f"what a report of this needs: cove diagnose {name} --bundle")
    return 1 if problems else 0


def _print(found: Finding) -> None:
    first, *more = found.text.splitlines() or [""]
    print(f"{paint(f'{found.state:<9}', COLOURS[found.state])}{found.check:<{WIDTH}}{first}", flush=True)
    for line in more:
        print(" " * (9 + WIDTH) + line)
    for number, line in enumerate(found.fix.splitlines()):
        print(" " * (9 + WIDTH) + ("do:  " if not number else "     ") + line, flush=True)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _bundle_file(given: str) -> Path:
    """Raises `CoveError` when it cannot be there: before all checks have been made for nothing."""
    from cove.support import bundle

    file = Path(given) if given else Path(bundle.default_name())
    if file.is_dir():
        file = file / bundle.default_name()
    if not file.name.endswith(bundle.ENDINGS):
        raise CoveError(
            f"{file} is no name of a bundle: it is a .tar.gz or a .zip",
            f"cove diagnose --bundle '{file.with_suffix('.tar.gz')}'",
        )
    if not file.absolute().parent.is_dir():
        raise CoveError(
            f"there is no folder {file.absolute().parent}", "make it, or name another: cove diagnose --bundle FILE"
        )
    return file


def _bundle(name: str, file: Path, found: list[Finding]) -> None:
    from cove.support import bundle

    def in_guest(words: str, bound_s: float) -> str:
        import subprocess

        from cove.agent.client import ask
        from cove.cli.ssh_words import ssh_words

        paths = MachinePaths(name)
        try:
            call = ssh_words(paths, ask(paths, "status", 5)["ssh_port"])
            done = subprocess.run(
                [*call, words], capture_output=True, timeout=bound_s, check=False, stdin=subprocess.DEVNULL
            )
        except (CoveError, OSError, KeyError, subprocess.TimeoutExpired) as error:
            return f"it could not be read: {error}\n"
        return (done.stdout or done.stderr).decode("utf-8", "replace")

    bundle.write(file, name, found, in_guest)
