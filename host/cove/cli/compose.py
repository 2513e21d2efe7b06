"""`compose`: the docker compose that is installed, on Cove's engine.

It is found where docker finds its plugins, or on PATH, and takes this process's place: terminal, signals and exit status
are its own. Which engine it works on is said in its environment alone, so that nothing of the user's docker configuration
changes. A plugin that is not called by docker is a program of its own (`RunningStandalone` in docker's `cli-plugins/plugin`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cove.cli import flags
from cove.cli.command import Command, Context
from cove.cli.docker_config import DockerConfig
from cove.cli.errors import CliError
from cove.cli.flags import Values
from cove.local.sockets import url

PLUGIN = "docker-compose"
SYSTEM_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
"""Where docker looks after the user's own folders (cli-plugins/manager/manager_unix.go)."""
OTHERS_ENGINE = ("DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
"""What says more of an engine than DOCKER_HOST does: of another one than Cove's."""
CALLED_BY_DOCKER = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"
"""With it in the environment a plugin expects docker's arguments."""
WITH_VALUE = {
    "--ansi", "--config", "--context", "--env-file", "--file", "--host", "--log-level", "--parallel", "--profile",
    "--progress", "--project-directory", "--project-name", "-c", "-f", "-H", "-l", "-p",
}  # fmt: skip
"""Options of compose that may precede its command and take the next word."""
WITHOUT_ENGINE = {"completion", "config", "convert", "help", "version", "__complete", "__completeNoDesc"}
"""Commands of compose for which no machine has to be started."""
GET = {
    "alpine": "apk add docker-cli-compose",
    "arch": "pacman -S docker-compose",
    "debian": "apt install docker-compose",
    "fedora": "dnf install docker-compose",
    "opensuse": "zypper install docker-compose",
    "suse": "zypper install docker-compose",
    "ubuntu": "apt install docker-compose-v2",
    "darwin": "brew install docker-compose",
    "win32": "winget install Docker.DockerCompose",
}
"""By the system's or the distribution's name, as os-release(5) has it. Debian has version 2 since 13."""
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "armv6l": "armv6", "armv7l": "armv7"}
"""Names of processors that are others in the names of a release's files."""
RELEASES = "https://github.com/docker/compose/releases"


class Passed(Command):
    """A command whose words, help and errors are another program's."""

    __slots__ = ()

    def parse(self, context: Context, argv: Sequence[str]) -> Values:
        values = flags.parse((), ())
        values.args = list(argv)
        return values


def _compose(context: Context, values: Values) -> int:
    program = find()
    if program is None:
        raise CliError(missing())
    engine = context.engine
    if needs_engine(values.args):
        engine.connect().close()  # starts the machine when it has to be started
    return _become(program, values.args, environment(os.environ, url(engine.path)))


def find() -> Path | None:
    """The program: a plugin of docker's client, or what PATH has by the name that it had before there were plugins."""
    import shutil

    for folder in _folders():
        found = shutil.which(PLUGIN, path=str(folder))
        if found is not None:
            return Path(found)
    found = shutil.which(PLUGIN)
    return None if found is None else Path(found)


def _folders() -> Iterator[Path]:
    """docker's folders of plugins, the first to be looked into first (cli-plugins/manager/manager.go, `getPluginDirs`)."""
    config = DockerConfig.load()
    yield from (Path(folder) for folder in config.texts("cliPluginsExtraDirs"))
    yield config.path.parent / "cli-plugins"
    if sys.platform == "win32":
        for variable in ("ProgramData", "ProgramFiles"):
            if folder := os.environ.get(variable):
                yield Path(folder) / "Docker" / "cli-plugins"
    else:
        yield from map(Path, SYSTEM_FOLDERS)


def needs_engine(words: Sequence[str]) -> bool:
    """Whether compose asks the engine anything when it is called with these words."""
    rest = iter(words)
    for word in rest:
        if word in WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return word not in WITHOUT_ENGINE and next(rest, None) not in ("--help", "-h")
    return False


def environment(given: Mapping[str, str], host: str) -> dict[str, str]:
    """`given`, in which the engine at the address `host` is the one to use."""
    kept = {name: value for name, value in given.items() if name not in (*OTHERS_ENGINE, CALLED_BY_DOCKER)}
    return kept | {"DOCKER_HOST": host}


def missing() -> str:
    """What is told to whom has no docker compose: how it is had on this system."""
    how = next((GET[name] for name in _system() if name in GET), "")
    folder = DockerConfig.load().path.parent / "cli-plugins"
    suffix = ".exe" if sys.platform == "win32" else ""
    manual = f"{_file()} from {RELEASES}, executable, as {folder / PLUGIN}{suffix}"
    return f"cove: docker compose is not installed\n      get it with: {how}\n      or: {manual}" if how else (
        f"cove: docker compose is not installed\n      get {manual}"
    )  # fmt: skip


def _file() -> str:
    """The one of a release's files that runs on this computer."""
    import platform

    system = {"win32": "windows"}.get(sys.platform, sys.platform)
    machine = platform.machine()
    architecture = ARCHITECTURES.get(machine.lower(), machine)
    return f"{PLUGIN}-{system}-{architecture}{'.exe' if system == 'windows' else ''}"


def _system() -> list[str]:
    """Names for this system, the most exact first."""
    if sys.platform != "linux":
        return [sys.platform]
    import platform

    try:
        told = platform.freedesktop_os_release()
    except OSError:
        return []
    if told.get("ID") == "debian" and told.get("VERSION_ID", "13").split(".")[0] in ("10", "11", "12"):
        return []  # its docker-compose is version 1, which reads but old files
    return [told.get("ID", ""), *told.get("ID_LIKE", "").split()]


def _become(program: Path, words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Go on as `program`. Returns only where a process cannot become another one. Raises `CliError`."""
    import signal

    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if sys.platform == "win32":
            import subprocess

            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the program's, which shares the console
            return subprocess.call([str(program), *words], env=environment)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so
        os.execve(program, [PLUGIN, *words], environment)
    except OSError as error:
        raise CliError(f"cove: {program}: {error.strerror}") from error


COMMANDS = {
    "compose": Passed(
        _compose, "Define and run multi-container applications with Docker",
        "[OPTIONS] COMMAND",
    ),
}  # fmt: skip
