"""`cove`: finds the command, loads its module alone, runs it, and turns every failure into words and an exit status.

Command lines are parsed by `cove.cli.flags`, as docker's users expect (docs/decisions/0014).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cove.cli import flags
from cove.cli.errors import CliError, HelpfulError, UsageError

if TYPE_CHECKING:
    from cove.cli.command import Command

PROGRAM = "cove"

# command -> (module, name in the module's COMMANDS, short help). Written out so that listing
# them imports no module.
VERBS: dict[str, tuple[str, str, str]] = {
    "attach": ("run", "attach", "Attach local standard input, output, and error streams to a running container"),
    "commit": ("images", "commit", "Create a new image from a container's changes"),
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
    "inspect": ("inspect", "inspect", "Return low-level information on Docker objects"),
    "kill": ("containers", "kill", "Kill one or more running containers"),
    "load": ("images", "load", "Load an image from a tar archive or STDIN"),
    "logs": ("logs", "logs", "Fetch the logs of a container"),
    "pause": ("containers", "pause", "Pause all processes within one or more containers"),
    "port": ("containers", "port", "List port mappings or a specific mapping for the container"),
    "ps": ("ps", "ps", "List containers"),
    "pull": ("pull", "pull", "Download an image from a registry"),
    "rename": ("containers", "rename", "Rename a container"),
    "restart": ("containers", "restart", "Restart one or more containers"),
    "rm": ("containers", "rm", "Remove one or more containers"),
    "rmi": ("images", "rmi", "Remove one or more images"),
    "run": ("run", "run", "Create and run a new container from an image"),
    "save": ("images", "save", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "start": ("run", "start", "Start one or more stopped containers"),
    "stats": ("stats", "stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("containers", "stop", "Stop one or more running containers"),
    "tag": ("images", "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "top": ("containers", "top", "Display the running processes of a container"),
    "unpause": ("containers", "unpause", "Unpause all processes within one or more containers"),
    "update": ("update", "update", "Update configuration of one or more containers"),
    "version": ("info", "version", "Show the Docker version information"),
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
NOT_YET = ("build", "builder", "buildx", "compose", "login", "logout", "manifest", "push", "search", "swarm")
"""Commands of docker's that a user would look for and that have yet to be written."""
_INSPECT = "Display detailed information on one or more "

GROUPS: dict[str, tuple[str, dict[str, tuple[str, str, str]]]] = {
    "machine": (
        "Manage Cove's machines",
        {
            "init": ("machine", "init", "Make a machine; the first command that needs it starts it"),
            "list": ("machine", "list", "List the machines"),
            "logs": ("machine", "logs", "Print the machine's console, or its agent's log"),
            "restart": ("machine", "restart", "Stop a machine and start it again"),
            "rm": ("machine", "rm", "Remove a machine with all its containers, images and volumes"),
            "ssh": ("machine", "ssh", "Run a command in the machine itself, or a shell"),
            "start": ("machine", "start", "Start a machine, and make it when it is missing"),
            "status": ("machine", "status", "Tell what a machine does, what accelerates it and why, and what it takes"),
            "stop": ("machine", "stop", "Stop a machine: containers first, then the VM; nothing is lost"),
        },
    ),
    "machine config": (
        "Show and change a machine's settings",
        {
            "get": ("machine", "config get", "Print one setting"),
            "list": ("machine", "config list", "Print all settings"),
            "set": ("machine", "config set", "Change one setting"),
        },
    ),
    "vm-image": (
        "Build and look into the VM image",
        {
            "build": ("vm_image", "build", "Build the image of this version of Cove, or find it built"),
            "lock": ("vm_image", "lock", "Pin the newest packages of Debian's signed index"),
            "path": ("vm_image", "path", "Print where the image lies"),
            "report": ("vm_image", "report", "Tell what is in the image: packages, versions, licences, sizes"),
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
            **{verb: VERBS[verb] for verb in ("history", "import", "load", "pull", "save", "tag")},
            "inspect": ("inspect", "image inspect", _INSPECT + "images"),
            "ls": VERBS["images"],
            "prune": ("prune", "image prune", "Remove unused images"),
            "rm": VERBS["rmi"],
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
        "Manage Docker",
        {
            "df": ("system", "system df", "Show docker disk usage"),
            "events": VERBS["events"],
            "info": VERBS["info"],
            "prune": ("prune", "system prune", "Remove unused data"),
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": ("volumes", "volume create", "Create a volume"),
            "inspect": ("inspect", "volume inspect", _INSPECT + "volumes"),
            "ls": ("volumes", "volume ls", "List volumes"),
            "prune": ("prune", "volume prune", "Remove unused local volumes"),
            "rm": ("volumes", "volume rm", "Remove one or more volumes"),
        },
    ),
}

ALIASES = {
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "machine": {"ls": "list", "remove": "rm"},
    "network": {"list": "ls", "remove": "rm"},
    "volume": {"list": "ls", "remove": "rm"},
}

BARE_USAGE = ("container", "image", "network", "system")
"""Groups whose usage docker tells without "COMMAND" beside an error, for no reason."""
OWN_GROUPS = ("machine", "vm-image")
"""What docker does not have."""

GLOBAL_FLAGS = (
    flags.text("machine", "m", "Machine to use (COVE_MACHINE)"),
    flags.text("host", "H", "Engine to use instead of a machine's, unix:///path (COVE_HOST)"),
    flags.switch("debug", "D", "Show tracebacks"),
    flags.switch("version", "v", "Print version information and quit"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """The program. Never returns; its exit status is the command's."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["--debug"], ["-D"]):
        os.environ["COVE_DEBUG"] = "1"  # the agent that this command may start inherits it
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

    if isinstance(error, CoveError):
        print("\n      ".join([f"{PROGRAM}: {error.message}", *error.hint.splitlines()]), file=sys.stderr)
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
    while name in GROUPS:
        group, (_, commands) = name, GROUPS[name]
        if not rest or rest[0] in ("--help", "-h"):
            # Asked for, help is output; as the answer to an incomplete command it is a message.
            print(group_help(group), end="", file=sys.stdout if rest else sys.stderr)
            return 0
        verb, *rest = rest
        verb = ALIASES.get(group, {}).get(verb, verb)
        name, entry = f"{group} {verb}", commands.get(verb)
        if entry is None and name not in GROUPS:
            raise CliError(
                f"unknown help topic: {verb}"
                if helping
                else f"{PROGRAM}: unknown command: {path} {verb}\n\n"
                f"Usage:  {path}{'' if group in BARE_USAGE else ' COMMAND'}\n\n"
                f"Run '{path} --help' for more information"
            )
        path = f"{path} {verb}"
    if entry is None and name in NOT_YET:
        raise CliError(f"{PROGRAM}: this version of Cove has no '{name}' yet")
    if entry is None and helping:
        raise CliError(f"unknown help topic: {name}")
    if entry is None:
        raise CliError(f"{PROGRAM}: unknown command: {path}\n\nRun '{PROGRAM} --help' for more information")
    return _run(load(entry), path, all_names(entry), rest, given["machine"] or None, given["host"] or None)


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
        # Docker says "See" after too few arguments and "Run" after all else.
        pointer = "See" if error.status == 1 and command.most is None else "Run"
        raise UsageError(
            f"{error.message}\n\n{command.usage_line(path)}\n\n{pointer} '{path} --help' for more information",
            error.status,
        ) from None
    try:
        return command.run(context, values)
    except CoveError as error:
        if os.environ.get("COVE_DEBUG"):
            raise
        return report(error, command.failure)
    except HelpfulError as error:
        raise CliError(
            f"{PROGRAM}: {error.message}\n\nRun '{path} --help' for more information", error.status
        ) from None


def overview() -> str:
    """The text of `cove --help`."""
    common = ("run", "exec", "ps", "pull", "images", "version", "info")
    sections = (
        (
            "Cove's own Commands",
            {name: GROUPS[name][0] for name in OWN_GROUPS} | {"hello": VERBS["hello"][2]},
        ),
        ("Common Commands", {name: VERBS[name][2] for name in common}),
        (
            "Management Commands",
            {name: short for name, (short, _) in GROUPS.items() if name.split()[0] not in OWN_GROUPS},
        ),
        ("Commands", {name: entry[2] for name, entry in VERBS.items() if name not in (*common, "hello")}),
    )
    text = f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\n"
    text += "Containers on your laptop, in a small virtual machine; docker's commands work here\n"
    for title, rows in sections:
        text += f"\n{title}:\n" + "".join(f"  {name:<12}{short}\n" for name, short in rows.items())
    text += f"\nGlobal Options:\n{flags.describe(GLOBAL_FLAGS)}\n"
    return text + f"\nRun '{PROGRAM} COMMAND --help' for more information on a command.\n"


def group_help(name: str) -> str:
    """The text of `cove NAME --help` for a group of commands."""
    short, commands = GROUPS[name]
    rows = {verb: entry[2] for verb, entry in commands.items()}
    rows |= {path.removeprefix(f"{name} "): about for path, (about, _) in GROUPS.items() if path.startswith(f"{name} ")}
    lines = "".join(f"  {verb:<12}{about}\n" for verb, about in sorted(rows.items()))
    path = f"{PROGRAM} {name}"
    return (
        f"Usage:  {path} COMMAND\n\n{short}\n\nCommands:\n{lines}\n"
        f"Run '{path} COMMAND --help' for more information on a command.\n"
    )
