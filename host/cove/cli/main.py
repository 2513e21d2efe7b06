"""`cove`: finds the command, loads its module alone, runs it, and turns every failure into words and an exit status.

Docker's verbs are parsed by `cove.cli.flags`, as docker's users expect; the groups that are Cove's own are click's,
imported with click only when they are used (docs/decisions/0014).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cove.cli import flags
from cove.cli.errors import CliError, ConnectionFailed, HelpfulError, UnknownCommand, UsageError

if TYPE_CHECKING:
    import click

    from cove.cli.command import Command, Context

PROGRAM = "cove"

# command -> (module, name in the module's COMMANDS, short help). Written out so that listing
# them imports no module. The short help is docker's but where that speaks of Docker and means its program.
VERBS: dict[str, tuple[str, str, str]] = {
    "attach": ("run", "attach", "Attach local standard input, output, and error streams to a running container"),
    "build": ("build", "build", "Build an image from a Dockerfile"),
    "commit": ("images", "commit", "Create a new image from a container's changes"),
    "compose": ("compose", "compose", "Define and run multi-container applications"),
    "cp": ("cp.command", "cp", "Copy files/folders between a container and the local filesystem"),
    "create": ("run", "create", "Create a new container"),
    "diff": ("export", "diff", "Inspect changes to files or directories on a container's filesystem"),
    "events": ("events", "events", "Get real time events from the server"),
    "exec": ("exec", "exec", "Execute a command in a running container"),
    "export": ("export", "export", "Export a container's filesystem as a tar archive"),
    "hello": ("hello", "hello", "Run a page in a container, fetch it from localhost, and show what to try next"),
    "history": ("images", "history", "Show the history of an image"),
    "images": ("images", "images", "List images"),
    "import": ("images", "import", "Import the contents from a tarball to create a filesystem image"),
    "info": ("info", "info", "Display system-wide information"),
    "inspect": ("inspect", "inspect", "Return low-level information on any object"),
    "kill": ("containers", "kill", "Kill one or more running containers"),
    "load": ("images", "load", "Load an image from a tar archive or STDIN"),
    "login": ("login", "login", "Authenticate to a registry"),
    "logout": ("login", "logout", "Log out from a registry"),
    "logs": ("logs", "logs", "Fetch the logs of a container"),
    "pause": ("containers", "pause", "Pause all processes within one or more containers"),
    "port": ("containers", "port", "List port mappings or a specific mapping for the container"),
    "ps": ("ps", "ps", "List containers"),
    "pull": ("pull", "pull", "Download an image from a registry"),
    "push": ("push", "push", "Upload an image to a registry"),
    "rename": ("containers", "rename", "Rename a container"),
    "restart": ("containers", "restart", "Restart one or more containers"),
    "rm": ("containers", "rm", "Remove one or more containers"),
    "rmi": ("images", "rmi", "Remove one or more images"),
    "run": ("run", "run", "Create and run a new container from an image"),
    "save": ("images", "save", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "search": ("search", "search", "Search Docker Hub for images"),
    "start": ("run", "start", "Start one or more stopped containers"),
    "stats": ("stats", "stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("containers", "stop", "Stop one or more running containers"),
    "tag": ("images", "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "top": ("containers", "top", "Display the running processes of a container"),
    "unpause": ("containers", "unpause", "Unpause all processes within one or more containers"),
    "update": ("update", "update", "Update configuration of one or more containers"),
    "version": ("info", "version", "Show the versions of this program and of the engine"),
    "wait": ("containers", "wait", "Block until one or more containers stop, then print their exit codes"),
}

_CONTAINER_VERBS = [
    "attach",
    "commit",
    "cp",
    "create",
    "diff",
    "exec",
    "export",
    "kill",
    "logs",
    "pause",
    "port",
    "rename",
    "restart",
    "rm",
    "run",
    "start",
    "stats",
    "stop",
    "top",
    "unpause",
    "update",
    "wait",
]
DOCKERS_OWN = ("buildx", "context", "manifest")
"""Commands of docker's that its own client carries out, on any engine."""
_INSPECT = "Display detailed information on one or more "

GROUPS: dict[str, tuple[str, dict[str, tuple[str, str, str]]]] = {
    "builder": (
        "Manage builds",
        {
            "build": VERBS["build"],
            "du": ("builder", "builder du", "Disk usage"),
            "prune": ("builder", "builder prune", "Remove build cache"),
        },
    ),
    "container": (
        "Manage containers",
        {
            **{verb: VERBS[verb] for verb in _CONTAINER_VERBS},
            "inspect": ("inspect", "container inspect", _INSPECT + "containers"),
            "ls": VERBS["ps"],
            "prune": ("prune", "container prune", "Remove all stopped containers"),
        },
    ),
    "image": (
        "Manage images",
        {
            **{verb: VERBS[verb] for verb in ("build", "history", "import", "load", "pull", "push", "save", "tag")},
            "bootstrap": ("bootstrap", "image bootstrap", "Make a base image of Debian from its signed archive"),
            "inspect": ("inspect", "image inspect", _INSPECT + "images"),
            "ls": VERBS["images"],
            "prune": ("prune", "image prune", "Remove unused images"),
            "rm": VERBS["rmi"],
            "sbom": ("contents", "image sbom", "Tell which packages are in an image (SPDX, CycloneDX)"),
            "scan": (
                "contents",
                "image scan",
                "Look for known vulnerabilities in an image, in a database on this computer",
            ),
        },
    ),
    "network": (
        "Manage networks",
        {
            "connect": ("networks", "network connect", "Connect a container to a network"),
            "create": ("networks", "network create", "Create a network"),
            "disconnect": ("networks", "network disconnect", "Disconnect a container from a network"),
            "inspect": ("inspect", "network inspect", _INSPECT + "networks"),
            "ls": ("networks", "network ls", "List networks"),
            "prune": ("prune", "network prune", "Remove all unused networks"),
            "rm": ("networks", "network rm", "Remove one or more networks"),
        },
    ),
    "system": (
        "Manage the engine",
        {
            "df": ("system", "system df", "Show what takes disk space"),
            "events": VERBS["events"],
            "info": VERBS["info"],
            "prune": ("prune", "system prune", "Remove unused data"),
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": ("volumes", "volume create", "Create a volume"),
            "export": ("volume_archives", "volume export", "Export all files of a volume as a tar archive"),
            "import": ("volume_archives", "volume import", "Import the files of a tar archive into a volume"),
            "inspect": ("inspect", "volume inspect", _INSPECT + "volumes"),
            "ls": ("volumes", "volume ls", "List volumes"),
            "prune": ("prune", "volume prune", "Remove unused local volumes"),
            "rm": ("volumes", "volume rm", "Remove one or more volumes"),
            "update": ("volumes", "volume update", ""),  # docker tells of it on a swarm's manager alone
        },
    ),
}

ALIASES = {
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "network": {"list": "ls", "remove": "rm"},
    "volume": {"list": "ls", "remove": "rm"},
}

UNTOLD_ALIASES = {"image": {"rmi": "rm"}}
"""What docker accepts without telling of it in its help."""
BARE_USAGE = ("container", "image", "network", "system")
"""Groups whose usage docker tells without "COMMAND" beside an error, for no reason."""
OWN_GROUPS = {
    "config": ("config", "Show and change a machine's settings"),
    "kube": ("kube", "Carry containers to Kubernetes, and run its pods here"),
    "machine": ("machine", "Manage Cove's machines"),
    "vm-image": ("vm_image", "Build and look into the VM image"),
}
"""What docker does not have: group -> (module with the click group `group`, short help)."""
OF_AN_ENGINE = ("kube",)
"""Those of them that may be told to use any engine, with -H."""
OWN_COMMANDS = {
    "completion": ("completion", "Print what completes command lines in bash, fish, PowerShell or zsh"),
    "dashboard": ("dashboard", "Open the dashboard, a page in your browser, on this computer alone"),
    "diagnose": ("diagnose", "Look for what is wrong, say how to mend it, and collect what a report needs"),
    "tray": ("tray", "Show a machine in the desktop's tray, or menu bar"),
    "uninstall": ("uninstall", "Remove everything that Cove has made on this computer"),
    "verify": ("verify", "Try on this computer what Cove promises, and write a report"),
}
"""Commands of that kind: name -> (module with the click command `command`, short help)."""

GLOBAL_FLAGS = (
    flags.text("machine", "m", "Machine to use (COVE_MACHINE)"),
    flags.text(
        "host",
        "H",
        "Engine to use instead of a machine's, unix:///path or npipe:////./pipe/NAME (COVE_HOST, not DOCKER_HOST)",
    ),
    flags.switch("debug", "D", "Show tracebacks"),
    flags.switch("version", "v", "Print version information and quit"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """The program. Never returns; its exit status is the command's."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
    except Exception as error:
        if os.environ.get("COVE_DEBUG") and not isinstance(error, CliError):
            raise
        status = report(error)
    except KeyboardInterrupt:
        status = 130
    _exit(status)


def report(error: Exception, failure: int = 1) -> int:
    """Tell the user about `error`; return the exit status, `failure` for a machine that cannot be had."""
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has gone (`cove logs | head`): the status of a program that SIGPIPE ends.
        return 141
    if isinstance(error, CliError):
        if error.message:
            print(error.message, file=sys.stderr)
        return error.status
    from cove.errors import CoveError, GivenUp

    if isinstance(error, PermissionError):
        from cove.machine import ownership

        error = ownership.refusal(error) or error
    if isinstance(error, CoveError):
        from cove.plain import printable

        first, *further = error.message.split("\n")
        # What is set in belongs to the line above it.
        message = "\n".join([first, *(line if line.startswith("  ") else f"{PROGRAM}: {line}" for line in further)])
        lines = "\n      ".join([f"{PROGRAM}: {message}", *error.hint.splitlines()])
        print(printable(lines, "\n\t"), file=sys.stderr)  # others may have written parts of it
        return 130 if isinstance(error, GivenUp) else failure
    print(f"{PROGRAM}: {type(error).__name__}: {error}", file=sys.stderr)
    print("      this is a bug in Cove; COVE_DEBUG=1 shows where", file=sys.stderr)
    return 125


def _exit(status: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 141
    # Daemon threads may sit in a read of stdin; nothing of ours is left to clean up, and the interpreter's own
    # shutdown costs 5 ms.
    os._exit(status)


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["__complete"]:
        from cove.cli import complete

        return complete.main(words[1:])
    try:
        given = flags.parse(words, GLOBAL_FLAGS, interspersed=False)
    except flags.HelpAsked:
        print(overview(), end="")
        return 0
    except UsageError as error:
        raise UsageError(
            f"{error.message}\n\nUsage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]\n\n"
            f"Run '{PROGRAM} --help' for more information"
        ) from None
    if given["debug"]:
        os.environ["COVE_DEBUG"] = "1"  # the agent that this command may start inherits it
    if given["version"]:
        from importlib.metadata import version  # 20 ms that only this needs

        print(f"Cove version {version('cove')}")
        return 0
    if not given.args:
        print(overview(), end="")
        return 0
    name, *rest = given.args
    helping = name == "help"
    if helping:
        rest, name = [*rest[1:], "--help"], rest[0] if rest else "--help"
        if name == "--help":
            print(overview(), end="")
            return 0
    path, entry = f"{PROGRAM} {name}", VERBS.get(name)
    machine = given["machine"] or None
    try:
        if name in OWN_GROUPS or name in OWN_COMMANDS:
            if given["host"] and name not in OF_AN_ENGINE:
                raise CliError(
                    f"{PROGRAM}: -H names an engine, with which '{path}' has nothing to do\n"
                    "      leave it out, or name a machine with -m"
                )
            return _run_own(name, path, rest, machine, given["host"] or None)
        if name in GROUPS:
            if not rest or rest[0] in ("--help", "-h"):
                # Asked for, help is output; as the answer to an incomplete command it is a message.
                print(_group_help(name, path), end="", file=sys.stdout if rest else sys.stderr)
                return 0
            verb, *rest = rest
            verb = (ALIASES.get(name, {}) | UNTOLD_ALIASES.get(name, {})).get(verb, verb)
            entry = GROUPS[name][1].get(verb)
            if entry is None:
                known = [*GROUPS[name][1], *ALIASES.get(name, {})]
                raise UnknownCommand(path, verb, known, "" if name in BARE_USAGE else " COMMAND")
            path = f"{path} {verb}"
    except UnknownCommand as error:
        if helping:
            raise CliError(f"unknown help topic: {error.name}") from None
        raise
    if entry is None and name in DOCKERS_OWN:
        raise CliError(f"{PROGRAM}: '{name}' is a command of docker's own client, which works with Cove: docker {name}")
    if entry is None and helping:
        raise CliError(f"unknown help topic: {name}")
    if entry is None:
        from cove.cli.nearest import suggestion

        near = _of_machines(name) or suggestion(name, [*VERBS, *GROUPS, *OWN_GROUPS, *OWN_COMMANDS])
        raise CliError(f"{PROGRAM}: unknown command: {path}{near}\n\nRun '{PROGRAM} --help' for more information")
    return _run(load(entry), path, all_names(entry), rest, machine, given["host"] or None)


def _of_machines(name: str) -> str:
    """For who leaves out `machine`, which other programs of this kind do not have; "" for what is no command of it."""
    from cove.cli.machine import group

    return f"\n\nDid you mean this?\n  machine {name}" if name in group.commands else ""


def load(entry: tuple[str, str, str]) -> Command:
    """The command of a table's entry; imports its module."""
    from importlib import import_module

    module, name, _ = entry
    command: Command = import_module(f"cove.cli.{module}").COMMANDS[name]
    return command


def all_names(entry: tuple[str, str, str]) -> list[str]:
    """Every full name of the command, empty when it has but one: the group's first, then its aliases, then docker's
    old name.
    """
    names = []
    for group, (_, commands) in GROUPS.items():
        for name in (name for name, offered in commands.items() if offered is entry):
            aliases = [alias for alias, meant in ALIASES.get(group, {}).items() if meant == name]
            names += [f"{PROGRAM} {group} {known}" for known in (name, *aliases)]
    names += [f"{PROGRAM} {name}" for name, offered in VERBS.items() if offered is entry]
    return names if len(names) > 1 else []


def _run(
    command: Command, path: str, names: Sequence[str], words: list[str], machine: str | None, host: str | None
) -> int:
    from cove.cli.command import Context
    from cove.errors import CoveError

    context = Context(path, machine=machine, host=host)
    try:
        values = command.parse(context, words)
    except flags.HelpAsked:
        print(command.help(path, names), end="")
        return 0
    except UsageError as error:
        raise command.misused(path, error) from None
    try:
        return command.run(context, values)
    except (CoveError, PermissionError) as error:
        if os.environ.get("COVE_DEBUG"):
            raise
        return report(error, command.failure)
    except CliError as error:
        if ended := _of_the_machine(error, context):
            raise CliError(ended, error.status) from error
        if not isinstance(error, HelpfulError):
            raise
        raise CliError(
            f"{PROGRAM}: {error.message}\n\nRun '{path} --help' for more information", error.status
        ) from None


def _of_the_machine(error: CliError, context: Context) -> str:
    """What a user is told instead when it was the machine that ended, and not only a connection to its engine; "" when it was not."""
    if not isinstance(error, ConnectionFailed) and not isinstance(error.__cause__, ConnectionFailed):
        return ""
    from cove.cli import ended

    lines = ended.told(context.lost_machine)
    return "\n      ".join([error.message.partition("\n")[0], *lines]) if lines else ""


def own(name: str) -> click.Command:
    """A group, or a command, of Cove's own; imports its module."""
    from importlib import import_module

    if name in OWN_GROUPS:
        group: click.Command = import_module(f"cove.cli.{OWN_GROUPS[name][0]}").group
        return group
    command: click.Command = import_module(f"cove.cli.{OWN_COMMANDS[name][0]}").command
    return command


def _run_own(name: str, path: str, words: list[str], machine: str | None, host: str | None) -> int:
    from cove.cli import clicked  # and with it click: 30 ms that only these commands need
    from cove.cli.command import Context

    return clicked.run(own(name), path, words, Context(path, machine=machine, host=host))


def overview() -> str:
    """The text of `cove --help`."""
    common = ("run", "exec", "ps", "build", "pull", "images", "version", "info")
    sections = (
        (
            "Cove's own Commands",
            {name: short for name, (_, short) in sorted({**OWN_GROUPS, **OWN_COMMANDS}.items())}
            | {"hello": VERBS["hello"][2]},
        ),
        ("Common Commands", {name: VERBS[name][2] for name in common}),
        ("Management Commands", {name: short for name, (short, _) in GROUPS.items()}),
        ("Commands", {name: entry[2] for name, entry in VERBS.items() if name not in (*common, "hello")}),
    )
    text = f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\n"
    text += "Containers on your laptop, in a small virtual machine; docker's commands work here\n"
    for title, rows in sections:
        text += f"\n{title}:\n" + "".join(f"  {name:<12}{short}\n" for name, short in rows.items())
    text += f"\nGlobal Options:\n{flags.describe(GLOBAL_FLAGS)}\n"
    return text + f"\nRun '{PROGRAM} COMMAND --help' for more information on a command.\n"


def _group_help(name: str, path: str) -> str:
    from cove.cli.command import group_help

    short, commands = GROUPS[name]
    return group_help(path, short, {verb: entry[2] for verb, entry in commands.items()})
