"""Which machine a command of Cove's own is about: `-m`, the argument, COVE_MACHINE, else the machine that all have."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import click

from cove.cli.clicked import MachineName
from cove.cli.command import Context
from cove.cli.errors import CliError
from cove.machine.paths import DEFAULT_MACHINE

_option = click.option("--machine", "-m", "chosen", type=MachineName(), default="", help="The machine (COVE_MACHINE)")


def machine(context: Context, chosen: str) -> str:
    """The name, by what `-m` after the command said, "" for nothing."""
    return chosen or context.machine or os.environ.get("COVE_MACHINE") or DEFAULT_MACHINE


def chosen(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """For a command with arguments of its own: the machine is named with -m."""

    @functools.wraps(command)
    @click.pass_obj
    def resolved(context: Context, /, chosen: str, **values: Any) -> int | None:
        return command(machine(context, chosen), **values)

    return _option(resolved)


def named(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """For a command about one machine and nothing else: named as an argument, or with -m as everywhere."""

    @functools.wraps(command)
    @click.pass_obj
    def resolved(context: Context, /, given: str | None, chosen: str, **values: Any) -> int | None:
        if given and chosen not in ("", given):
            raise CliError(f"cove: two machines are named, {given} and {chosen}")
        return command(given or machine(context, chosen), **values)

    return click.argument("given", metavar="[NAME]", required=False)(_option(resolved))
