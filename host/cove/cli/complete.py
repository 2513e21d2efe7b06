"""What could stand where the cursor is: the answers to shells' completion (`cove __complete SHELL WORD... CURRENT`).

Shells ask at each press of a key, so that nothing here may be slow, speak, or start a machine: whatever fails is no answer. The
answers come one on a line, `WORD` or `WORD<tab>DESCRIPTION`, and then a line for the shell: `:none` nothing else fits, `:files` files
do, `:open` the word may go on (docs/decisions/0014).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cove.cli import main as tables
from cove.cli.flags import Flag

if TYPE_CHECKING:
    import click

    from cove.cli.complete_names import Names

NONE, FILES, OPEN = ":none", ":files", ":open"
WITH_DESCRIPTIONS = ("zsh", "fish", "powershell")
_SAFE = re.compile(r"[\w./:@%+=,~-]+")
"""What is typed for the user must mean to the shell what it is: an engine's names may be anybody's."""

ARGUMENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("attach", "port", "top"), ("running",)),
    "exec": ("running", "files"),
    **dict.fromkeys(("kill", "pause", "stats", "stop"), ("running", "...")),
    "unpause": ("paused", "..."),
    "start": ("stopped", "..."),
    **dict.fromkeys(("container inspect", "restart", "rm", "update", "wait"), ("containers", "...")),
    **dict.fromkeys(("diff", "export", "logs", "rename"), ("containers",)),
    "commit": ("containers", "images"),
    "cp": ("paths", "..."),
    **dict.fromkeys(("create", "run"), ("images", "files", "...")),
    **dict.fromkeys(("image inspect", "rmi", "save"), ("images", "...")),
    **dict.fromkeys(("history", "image sbom", "image scan", "images", "pull", "push"), ("images",)),
    "tag": ("images", "images"),
    "inspect": ("objects", "..."),
    **dict.fromkeys(("network connect", "network disconnect"), ("networks", "containers")),
    **dict.fromkeys(("network inspect", "network rm"), ("networks", "...")),
    **dict.fromkeys(("volume export", "volume import", "volume inspect", "volume rm"), ("volumes", "...")),
    "build": ("files",),
    "import": ("files",),
}
"""By a command's name in its module, what its arguments are; "..." is the last one again and again."""

FLAGS: dict[str, tuple[str, ...]] = {
    "network": ("networks",),
    "net": ("networks",),
    "volumes-from": ("containers",),
    "link": ("containers",),
    "volume": ("volumes", "files"),
    "machine": ("machines",),
    "restart": ("=no", "=always", "=on-failure", "=unless-stopped"),
    "pull": ("=always", "=missing", "=never"),
    "progress": ("=auto", "=plain", "=tty", "=rawjson", "=quiet", "=none"),
    "type": ("=container", "=image", "=network", "=volume"),
    "log-driver": ("=json-file", "=local", "=none"),
    "driver": ("=bridge", "=local", "=host", "=null"),
    "format": ("=json", "=table"),
    "bind-mounts": ("=configmap", "=ignore", "=refuse"),
    "service-type": ("=ClusterIP", "=LoadBalancer", "=NodePort"),
    "fail-on": ("=low", "=medium", "=high", "=critical"),
    "platform": ("=linux/amd64", "=linux/arm64"),
    "signal": ("=HUP", "=INT", "=KILL", "=TERM", "=USR1", "=USR2"),
    **dict.fromkeys(
        ("build-context", "cidfile", "env-file", "file", "iidfile", "input", "label-file", "metadata-file", "output"),
        ("files",),
    ),
}
"""What the values of flags are, wherever they stand; "=x" is the word x."""

Found = tuple[list[tuple[str, str]], str]
"""Words with their descriptions, and the line for the shell."""


def main(words: Sequence[str]) -> int:
    """Answer a shell; always 0."""
    shell, *words = words or ("",)
    if shell == "bash" and words:
        words, cut = _of_line(words[0], words[1] if len(words) > 1 else "")
    else:
        # PowerShell leaves out an empty last word, so that its script puts a letter before it.
        words, cut = [*words[:-1], words[-1][1:] if shell == "powershell" else words[-1]] if words else [""], 0
    try:
        found, rest = _answer(words)
    except Exception:
        found, rest = [], FILES
    for word, about in dict(found).items():
        if _SAFE.fullmatch(word):
            line = word[cut:]
            if shell in WITH_DESCRIPTIONS and about and about.isprintable():
                line += f"\t{about}"
            print(line)
    print(rest)
    return 0


def _of_line(line: str, breaks: str) -> tuple[list[str], int]:
    """The words of bash's line up to the cursor, and how much of the last one bash takes for words before it: those that
    characters of COMP_WORDBREAKS part, which we do not.
    """
    import shlex

    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line.rstrip("\\") + closing)
            break
        except ValueError:
            continue
    else:
        words = line.split()
    if not words or (line[-1:].isspace() and not line.endswith("\\ ")):
        words.append("")
    last = words[-1]
    return words[1:], max((last.rfind(one) + 1 for one in ":=@" if one in breaks), default=0)


def _answer(words: Sequence[str]) -> Found:
    """For the words after the program's name, the last of which is being typed."""
    *before, current = words
    walk = _Walk(tables.GLOBAL_FLAGS, before, interspersed=False)
    names = _names(walk.values)
    if not walk.args:
        if found := _of_flags(walk, tables.GLOBAL_FLAGS, current, names):
            return found
        shorts = {name: short for name, (_, short) in {**tables.OWN_GROUPS, **tables.OWN_COMMANDS}.items()}
        shorts |= {name: short for name, (short, _) in tables.GROUPS.items()}
        shorts |= {name: entry[2] for name, entry in tables.VERBS.items()} | {"help": "Help about a command"}
        return _beginning(shorts.items(), current), NONE
    name, *rest = walk.args
    if name == "help" and rest:
        name, *rest = rest
    elif name == "help":
        return _answer([current])
    if name in tables.OWN_GROUPS or name in tables.OWN_COMMANDS:
        return _own(tables.own(name), rest, current, names)
    entry = tables.VERBS.get(name)
    if name in tables.GROUPS:
        verbs = tables.GROUPS[name][1]
        if not rest:
            return _beginning([(verb, each[2]) for verb, each in verbs.items()], current), NONE
        verb, *rest = rest
        entry = verbs.get(tables.ALIASES.get(name, {}).get(verb, verb))
    if entry is None:
        return [], FILES
    command = tables.load(entry)
    shown = [flag for flag in command.flags if not flag.hidden]
    walk = _Walk(command.flags, rest, interspersed=command.interspersed)
    if found := _of_flags(walk, shown, current, names):
        return found
    return _of_kinds([_kind(ARGUMENTS.get(entry[1], ()), len(walk.args))], current, names, walk.args)


class _Walk:
    """Words read as `flags.parse` reads them, but nothing in them is wrong. `pending` is the flag that waits for its value."""

    def __init__(self, known: Iterable[Flag], words: Sequence[str], *, interspersed: bool) -> None:
        self.flags = list(known)
        self.values: dict[str, str] = {}
        self.args: list[str] = []
        self.pending: Flag | None = None
        self.ended = False
        """No flag can follow."""
        for word in words:
            if self.pending is not None:
                self.values[self.pending.name] = word
                self.pending = None
            elif self.ended or not word.startswith("-") or word == "-":
                self.args.append(word)
                self.ended = self.ended or not interspersed
            elif word == "--":
                self.ended = True
            else:
                self._flag(word)

    def _flag(self, word: str) -> None:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flag = next((each for each in self.flags if each.name == name), None)
            if flag is not None and equals:
                self.values[name] = value
            elif flag is not None and flag.kind:
                self.pending = flag
            return
        for place, letter in enumerate(word[1:], 2):
            flag = next((each for each in self.flags if each.short == letter), None)
            if flag is None or not flag.kind:
                continue
            if rest := word[place:].removeprefix("="):
                self.values[flag.name] = rest
            else:
                self.pending = flag
            return


def _of_flags(walk: _Walk, shown: Sequence[Flag], current: str, names: Names) -> Found | None:
    """When a flag or its value is being typed."""
    if walk.pending is not None:
        return _of_kinds(FLAGS.get(walk.pending.name, ("files",)), current, names)
    if walk.ended or not current.startswith("-"):
        return None
    name, equals, value = current.partition("=")
    if equals and name.startswith("--"):
        found, rest = _of_kinds(FLAGS.get(name[2:], ("files",)), value, names)
        return [(f"{name}={word}", about) for word, about in found], rest
    flags = [(f"--{flag.name}", flag.help.partition("\n")[0]) for flag in shown] + [("--help", "Tell how it is used")]
    flags += [(f"-{flag.short}", flag.help.partition("\n")[0]) for flag in shown if flag.short and current == "-"]
    return _beginning(sorted(flags), current), NONE


def _kind(kinds: Sequence[str], index: int) -> str:
    if kinds and kinds[-1] == "...":
        return kinds[min(index, len(kinds) - 2)]
    return kinds[index] if index < len(kinds) else ""


def _of_kinds(kinds: Iterable[str], current: str, names: Names, given: Sequence[str] = ()) -> Found:
    found: list[tuple[str, str]] = []
    rest = NONE
    for kind in kinds:
        if kind == "files":
            rest = FILES
        elif kind.startswith("="):
            found.append((kind[1:], ""))
        elif kind == "paths":
            if not current.startswith((".", "/", "~")) and ":" not in current:
                found += [(f"{name}:", about) for name, about in names.of("containers", current)]
            return _beginning(found, current), OPEN if found else FILES
        elif kind:
            found += [(name, about) for name, about in names.of(kind, current) if name not in given]
    return _beginning(found, current), rest


def _beginning(found: Iterable[tuple[str, str]], current: str) -> list[tuple[str, str]]:
    return [(word, about) for word, about in found if word.startswith(current)]


def _names(values: dict[str, str]) -> Names:
    from cove.cli.complete_names import Names

    return Names(values.get("machine", ""), values.get("host", ""))


def _own(command: click.Command, words: Sequence[str], current: str, names: Names) -> Found:
    """Of Cove's own commands, which are click's."""
    import click

    from cove.cli.clicked import as_flags

    if isinstance(command, click.Group):
        if words:
            verb = getattr(command, "aliases", {}).get(words[0], words[0])
            inner = command.commands.get(verb)
            return _own(inner, words[1:], current, names) if inner is not None else ([], NONE)
        shorts = {
            name: each.short_help or (each.help or "").partition("\n")[0] for name, each in command.commands.items()
        }
        return _beginning(shorts.items(), current), NONE
    flags = as_flags(command)
    walk = _Walk(flags, words, interspersed=bool(command.context_settings.get("allow_interspersed_args", True)))
    if found := _of_flags(walk, flags, current, names):
        return found
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    if len(walk.args) >= len(arguments) and not (arguments and arguments[-1].nargs < 0):
        return [], NONE
    argument = arguments[min(len(walk.args), len(arguments) - 1)]
    return _of_kinds(_own_kinds(argument.metavar or "", walk.args), current, names)


def _own_kinds(metavar: str, given: Sequence[str]) -> Iterator[str]:
    if metavar == "[NAME]":
        yield "machines"
    elif metavar == "[CONTAINER...]":
        yield "containers"
    elif metavar == "SHELL":
        from cove.cli.completion import SCRIPTS

        yield from (f"={shell}" for shell in SCRIPTS)
    elif metavar == "KEY":
        from cove.machine.settings import SCHEMA

        yield from (f"={key}" for key in SCHEMA)
    elif metavar == "VALUE":
        from cove.machine.settings import SCHEMA

        for key in [SCHEMA[name] for name in given if name in SCHEMA]:
            yield from (f"={each}" for each in key.words)
            if key.of_files:
                yield "files"
    else:
        yield "files"
