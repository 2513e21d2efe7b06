"""Cove's own commands are click's; what their user sees of that is the same as with docker's verbs: the form of help
pages, and the words and exit statuses of errors. This module is where the one becomes the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click

from cove.cli import command as docker
from cove.cli import flags
from cove.cli.errors import UnknownCommand, UsageError

F = TypeVar("F", bound=Callable[..., Any])


class Integer(click.types.IntParamType):
    """A number as pflag reads it (`0x10` too), with its words when it is none."""

    name = "int"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        assert isinstance(param, click.Option)
        return int(_parsed(flags.parse_int, value, param))


class MachineName(click.types.StringParamType):
    """The value of -m; pflag takes `-m=NAME` for `-m NAME`, and no name begins with "="."""

    name = "string"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value.removeprefix("=")


def switch(*names: str, help: str) -> Callable[[F], F]:
    """An option without a value. pflag lets `--json=false` take it back, which is `--no-json` to click."""
    long = next(name for name in names if name.startswith("--"))
    others = [name for name in names if name != long]
    return click.option(f"{long}/--no-{long[2:]}", *others, default=False, help=help)


class _Parsing(click.Command):
    """Tells of wrong command lines as docker does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            if ctx.allow_interspersed_args:
                args = [*_respelled(ctx, args)]
            return super().parse_args(ctx, list(args))
        except UsageError as error:
            wrong = error
        except click.UsageError as error:
            wrong = _translated(error, self, ctx.command_path, args)
        raise _synopsis(self).misused(ctx.command_path, wrong) from None


class Command(_Parsing):
    def get_help(self, ctx: click.Context) -> str:
        group = ctx.parent.command if ctx.parent else None
        aliases = group.names(self.name or "") if isinstance(group, Group) else []
        path = ctx.parent.command_path if ctx.parent else ""
        names = [f"{path} {name}" for name in aliases] if len(aliases) > 1 else []
        return _synopsis(self).help(ctx.command_path, names).rstrip("\n")


class Group(_Parsing, click.Group):
    """`aliases` are other names of the group's commands, which are told by their own."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, aliases: Mapping[str, str] | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.aliases = aliases or {}

    def names(self, command: str) -> list[str]:
        return [command, *(alias for alias, meant in self.aliases.items() if meant == command)]

    def get_help(self, ctx: click.Context) -> str:
        shorts = {name: command.short_help or command.help or "" for name, command in self.commands.items()}
        return docker.group_help(ctx.command_path, self.help or "", shorts).rstrip("\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not set(args) - {"--"}:
            print(self.get_help(ctx), file=sys.stderr)  # not asked for: a message, not output
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = self.aliases.get(args[0], args[0])
        if name not in self.commands:
            raise UnknownCommand(ctx.command_path, name, [*self.commands, *self.aliases])
        return super().resolve_command(ctx, [name, *args[1:]])


def run(group: click.Command, path: str, words: Sequence[str], context: docker.Context) -> int:
    """Run a command, or the one of a group that `words` name, which is called by `path`; return its exit status.

    Not by click's `main`, which has its own mind about interrupts and closed pipes. Raises `CliError`, and what the
    command raises.
    """
    try:
        with group.make_context(path, list(words), obj=context, help_option_names=["--help", "-h"]) as ctx:
            return group.invoke(ctx) or 0
    except click.exceptions.Exit as done:
        return done.exit_code


def as_flags(command: click.Command) -> list[flags.Flag]:
    """The options of a command in the terms of docker's verbs."""
    return [_flag(param) for param in command.params if isinstance(param, click.Option)]


def _respelled(ctx: click.Context, words: Sequence[str]) -> Iterator[str]:
    """`--json=false` and the like in words that click knows."""
    switches = {
        name: option
        for option in ctx.command.get_params(ctx)
        if isinstance(option, click.Option) and option.is_flag
        for name in option.opts
    }
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word == "--":
            yield from words[index:]
            return
        if equals and (option := switches.get(name)):
            yield from option.opts[:1] if _parsed(flags.parse_bool, value, option) else option.secondary_opts[:1]
        else:
            yield word


def _parsed(parse: Callable[[str], Any], raw: str, option: click.Option) -> Any:
    values = flags.Values(())
    flag = _flag(option, parse)
    values.put(flag, raw)
    return values[flag.name]


def _flag(option: click.Option, parse: Callable[[str], Any] = str) -> flags.Flag:
    """The option in the terms of docker's verbs."""
    long = next(name for name in option.opts if name.startswith("--"))
    short = next((name[1:] for name in option.opts if name[1:2] != "-"), "")
    kind = "" if option.is_flag else "string" if option.type is click.STRING else option.type.name
    return flags.Flag(long[2:], short, kind=kind, parse=parse, help=option.help or "")


def _synopsis(command: click.Command) -> docker.Synopsis:
    """What the help page and the usage line of a command are made of."""
    if isinstance(command, click.Group):
        return docker.Synopsis(command.help or "", "COMMAND")
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    return docker.Synopsis(
        command.help or "",
        " ".join(argument.metavar or "" for argument in arguments),
        [_flag(param) for param in command.params if isinstance(param, click.Option)],
        least=sum(argument.required for argument in arguments),
        most=None if any(argument.nargs < 0 for argument in arguments) else len(arguments),
    )


def _translated(error: click.UsageError, command: click.Command, path: str, words: Sequence[str]) -> UsageError:
    """What click found wrong with `words`, in docker's terms."""
    if isinstance(error, click.NoSuchOption):
        return _unknown(error.option_name, words)
    if isinstance(error, click.BadOptionUsage):
        name = error.option_name
        return UsageError(f"flag needs an argument: {name if name[1] == '-' else f'{name[1:]!r} in {name}'}")
    if isinstance(error, click.MissingParameter) or type(error) is click.UsageError:
        synopsis = _synopsis(command)
        given = synopsis.least - 1 if isinstance(error, click.MissingParameter) else (synopsis.most or 0) + 1
        if miscounted := synopsis.miscounted(path, given):
            return miscounted
    return UsageError(error.format_message())


def _unknown(name: str, words: Sequence[str]) -> UsageError:
    if name.startswith("--"):
        return UsageError(f"unknown flag: {name}")
    letter = name[1:]
    cluster = next(word for word in words if word[:1] == "-" and word[1:2] != "-" and letter in word)
    return UsageError(f"unknown shorthand flag: '{letter}' in -{cluster[cluster.index(letter) :]}")
