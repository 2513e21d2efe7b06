"""What a docker verb is: its usage, its flags, how many arguments it takes, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from cove.cli import flags
from cove.cli.errors import CliError, UsageError
from cove.cli.flags import Flag, Values

if TYPE_CHECKING:
    from cove.cli.client import EngineClient


class Context:
    """What a command works with: the engine (connected to when first asked for) and the name it was called by."""

    def __init__(self, path: str, *, machine: str | None = None, host: str | None = None) -> None:
        self.path = path
        self.machine = machine
        self._host = host
        self._engine: EngineClient | None = None

    @property
    def engine(self) -> EngineClient:
        if self._engine is None:
            from cove.cli.client import EngineClient

            self._engine = EngineClient.from_environment(self.machine, self._host)
        return self._engine

    @property
    def lost_machine(self) -> str | None:
        """The machine whose engine was asked something; None when there was none."""
        return self._engine.machine if self._engine is not None else None


class Synopsis:
    """What is said of a command. `usage` is what follows its name, after "[OPTIONS]" unless `bare`. `most` None means
    any number of arguments from `least` on.
    """

    __slots__ = ("bare", "flags", "least", "most", "short", "usage")

    def __init__(
        self,
        short: str,
        usage: str = "",
        flags: Sequence[Flag] = (),
        *,
        least: int = 0,
        most: int | None = None,
        bare: bool = False,
    ) -> None:
        self.bare = bare
        self.short = short
        self.usage = usage
        self.flags = flags
        self.least = least
        self.most = most

    def usage_line(self, path: str) -> str:
        parts = [path, "[OPTIONS]" if self.flags and not self.bare else "", self.usage]
        return "Usage:  " + " ".join(part for part in parts if part)

    def help(self, path: str, aliases: Sequence[str] = ()) -> str:
        """The whole help text; `aliases` are all names of the command, when it has more than one."""
        from cove.cli import terminal

        text = f"{self.usage_line(path)}\n\n{self.short}\n"
        if aliases:
            text += f"\nAliases:\n  {', '.join(aliases)}\n"
        if any(not flag.hidden for flag in self.flags):
            columns = (terminal.size(0) or (24, 80))[1]  # of where the user types, as docker: the text may be piped
            text += f"\nOptions:\n{flags.describe(self.flags, columns)}\n"
        return text

    def misused(self, path: str, error: UsageError) -> UsageError:
        """`error` with what a user needs to know after it."""
        # Docker says "See" after too few arguments and "Run" after all else.
        pointer = "See" if error.status == 1 and self.most is None else "Run"
        return UsageError(
            f"{error.message}\n\n{self.usage_line(path)}\n\n{pointer} '{path} --help' for more information",
            error.status,
        )

    def miscounted(self, path: str, given: int) -> UsageError | None:
        """What is wrong with so many arguments."""
        message = self._count(given)
        return UsageError(f"cove: '{path}' {message}", status=1) if message else None

    def _count(self, given: int) -> str:
        def plural(count: int) -> str:
            return f"{count} argument{'' if count == 1 else 's'}"

        if self.most == 0 and given:
            return "accepts no arguments"
        if self.most == self.least and given != self.least:
            return f"requires {plural(self.least)}"
        if self.most is not None and self.least and not self.least <= given <= self.most:
            return f"requires at least {self.least} and at most {plural(self.most)}"
        if given < self.least:
            return f"requires at least {plural(self.least)}"
        if self.most is not None and given > self.most:
            return f"requires at most {plural(self.most)}"
        return ""


class Command(Synopsis):
    """A synopsis, and how it is done. `failure` is the exit status when the machine cannot be had."""

    __slots__ = ("failure", "interspersed", "run")

    def __init__(
        self,
        run: Callable[[Context, Values], int],
        short: str,
        usage: str = "",
        flags: Sequence[Flag] = (),
        *,
        least: int = 0,
        most: int | None = None,
        interspersed: bool = True,
        failure: int = 1,
        bare: bool = False,
    ) -> None:
        super().__init__(short, usage, flags, least=least, most=most, bare=bare)
        self.run = run
        self.interspersed = interspersed
        self.failure = failure

    def parse(self, context: Context, argv: Sequence[str]) -> Values:
        """Parse and count arguments. Raises `UsageError`, `HelpAsked`."""
        values = flags.parse(argv, self.flags, interspersed=self.interspersed)
        if error := self.miscounted(context.path, len(values.args)):
            raise error
        return values


def group_help(path: str, short: str, shorts: Mapping[str, str]) -> str:
    """The help text of a group of commands, whose own `shorts` it lists; one without words is known and not told of."""
    lines = "".join(f"  {verb:<12}{about}\n" for verb, about in sorted(shorts.items()) if about)
    return (
        f"Usage:  {path} COMMAND\n\n{short}\n\nCommands:\n{lines}\n"
        f"Run '{path} COMMAND --help' for more information on a command.\n"
    )


def for_each(names: Sequence[str], act: Callable[[str], str | None]) -> int:
    """Do `act` to every name and print what it returns; failures are told after, all of them, and make the status 1."""
    failures = []
    for name in names:
        try:
            line = act(name)
        except CliError as error:
            failures.append(error.message)
        else:
            if line is not None:
                print(line, flush=True)
    if failures:
        raise CliError("\n".join(failures))
    return 0


AT_ONCE = 50
"""How many requests docker sends at the same time."""


def for_each_at_once(context: Context, names: Sequence[str], act: Callable[[EngineClient, str], object]) -> int:
    """Do `act` to all names at the same time, for each may take as long as a container takes to stop, and print those
    that succeeded in their order. Failures are told after and make the status 1.
    """
    if len(names) == 1:
        return for_each(names, lambda name: _named(name, act(context.engine, name)))
    from concurrent.futures import ThreadPoolExecutor

    from cove.cli.client import EngineClient

    context.engine.connect().close()  # starts the machine, once, when it has to be started
    with ThreadPoolExecutor(min(len(names), AT_ONCE)) as pool:
        # A client carries one exchange at a time: each request has its own.
        running = {index: pool.submit(act, EngineClient(context.engine.path), name) for index, name in enumerate(names)}
        indexes = iter(running)
        return for_each(names, lambda name: _named(name, running[next(indexes)].result()))


def _named(name: str, done: object) -> str:
    return name


def confirm(question: str, stream: TextIO | None = None) -> bool:
    """Ask on stdout as docker does, or on `stream`; no terminal or anything but "y" means no."""
    import sys

    print(f"{question} [y/N] ", end="", flush=True, file=stream)
    return sys.stdin.readline().strip().lower() == "y"


def agreed(question: str, stream: TextIO | None = None) -> bool:
    """`confirm` of Cove's own commands: what is printed next begins a line, also where no terminal has shown the answer's end."""
    import sys

    answer = confirm(question, stream)
    if not sys.stdin.isatty():
        print(flush=True, file=stream)
    return answer
