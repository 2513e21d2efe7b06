"""`login` and `logout`, and the question for credentials that a registry has asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from cove.cli import credentials, terminal
from cove.cli.command import Command, Context
from cove.cli.docker_config import Credentials, DockerConfig
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import FALSE, Values, switch, text
from cove.cli.notes import note

Answer = TypeVar("Answer")

REGISTER = (
    "Log in with your Docker ID or email address to push and pull images from Docker Hub. "
    "If you don't have a Docker ID, head over to https://hub.docker.com/ to create one."
)
TOKENS = (
    "You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better "
    "security and is required for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/"
)
UNAUTHORIZED = 401


def login(context: Context, values: Values) -> int:
    """`cove login`"""
    config = DockerConfig.load()
    user, password = values["username"], values["password"]
    if values.changed("password-stdin"):
        if values.changed("password"):
            raise CliError("conflicting options: cannot specify both --password and --password-stdin")
        if not values.changed("username"):
            raise CliError("the --password-stdin option requires --username to be set")
    for name in ("username", "password"):
        if values.changed(name) and not values[name]:
            raise CliError(f"{name} is empty")
    if password:
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
    if values["password-stdin"]:
        password = sys.stdin.buffer.read().decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
    server = values.args[0] if values.args else ""
    server = credentials.HUB if server in ("", "docker.io", credentials.HUB) else credentials.hostname(server)
    known = Credentials(server=server)
    if not user and not password:
        with suppress(CliError):  # a helper that fails is as good as none: the user is asked
            known = replace(credentials.find(config, server), server=server, identity_token="")
    status = _with_known(context, config, known) if known.username and known.password else None
    if status is None:
        status = _with_asked(context, config, user, password, known)
    if status:
        print(status)
    return 0


def _with_known(context: Context, config: DockerConfig, known: Credentials) -> str | None:
    """Try what is stored; None when the engine refuses it."""
    print(f"Authenticating with existing credentials... [Username: {known.username}]", file=sys.stderr)
    note(sys.stderr, "To login with a different account, run 'docker logout' followed by 'docker login'")
    print("\n", file=sys.stderr)
    try:
        status, known = _authenticated(context, known)
    except DaemonError as error:
        if error.code == UNAUTHORIZED:
            print("Stored credentials invalid or expired", file=sys.stderr)
        else:
            print(f"Login did not succeed, error: {error.message}", file=sys.stderr)
        return None
    _store(config, known)
    return status


def _with_asked(context: Context, config: DockerConfig, user: str, password: str, known: Credentials) -> str:
    if not (user and password):
        if not terminal.is_terminal(0):
            raise CliError("Error: Cannot perform an interactive login from a non TTY device")
        if known.server == credentials.HUB and not user and not password:
            print(
                "Cove has no web-based login to Docker Hub - going on with command line login...\n",
                file=sys.stderr,
                flush=True,
            )
    asked = ask(user, password, known.username, known.server)
    status, asked = _authenticated(context, asked)
    _store(config, asked)
    return status


def _authenticated(context: Context, given: Credentials) -> tuple[str, Credentials]:
    """What the engine says, and the credentials to keep: a registry may give a token for a password."""
    answer = context.engine.json("POST", "/auth", body=given.body()) or {}
    if token := answer.get("IdentityToken"):
        given = replace(given, password="", identity_token=str(token))
    return str(answer.get("Status") or ""), given


def _store(config: DockerConfig, given: Credentials) -> None:
    try:
        credentials.store(config, given)
    except CliError as error:
        raise CliError(f"Error saving credentials: {error.message}") from error


def ask(user: str, password: str, known_user: str, server: str) -> Credentials:
    """What the user types for whatever of `user` and `password` is not given. Raises `CliError`."""
    user, password, known_user = user.strip(), password.strip(), known_user.strip()
    if not user:
        if server == credentials.HUB:
            print(REGISTER)
            if os.environ.get("DOCKER_CLI_HINTS") not in FALSE:
                print(f"{TOKENS}\n")
        user = _typed(f"Username ({known_user}): " if known_user else "Username: ") or known_user
        if not user:
            raise CliError("Error: Non-null Username Required")
    if not password:
        with terminal.unechoed(0):
            if server == credentials.HUB:
                note(
                    sys.stderr,
                    "A Personal Access Token (PAT) can be used instead.\n"
                    "To create a PAT, visit \x1b[4mhttps://app.docker.com/settings\x1b[0m\n\n",
                )
            password = _typed("Password: ")
            print(flush=True)
        if not password:
            raise CliError("Error: Password Required")
    return Credentials(username=user, password=password, server=server)


def _typed(question: str) -> str:
    print(question, end="", flush=True)
    try:
        return sys.stdin.readline().strip()
    except KeyboardInterrupt:
        print(flush=True)
        raise


def retried(domain: str, verb: str, send: Callable[[Credentials], Answer]) -> Answer:
    """`send` with what is known for the registry, and once more with what the user types when that is refused. Raises
    `DaemonError`, `CliError`.
    """
    server = credentials.registry_key(domain)
    known = credentials.find_quietly(DockerConfig.load(), server)
    try:
        return send(known)
    except DaemonError as error:
        if error.code != UNAUTHORIZED:
            raise
    print(f"\nLogin prior to {verb}:", flush=True)
    return send(ask("", "", known.username, server))


def logout(context: Context, values: Values) -> int:
    """`cove logout`"""
    server = values.args[0] if values.args else ""
    host = credentials.hostname(server) if server else credentials.HUB
    # An older docker may have kept them under any of these.
    servers = dict.fromkeys([server, host, f"http://{host}", f"https://{host}"] if server else [host])
    config = DockerConfig.load()
    if not server:
        _forget_web_login(config)
    print(f"Removing login credentials for {host}", flush=True)
    failures: dict[str, str] = {}
    for name in servers:
        try:
            credentials.erase(config, name)
        except CliError as error:
            failures[name] = error.message
    if len(failures) == len(servers):
        print("WARNING: could not erase credentials:", file=sys.stderr)
        for name, reason in failures.items():
            print(f"{name}: {reason}", file=sys.stderr)
    return 0


def _forget_web_login(config: DockerConfig) -> None:
    """What docker's own web login to Docker Hub has left: a token of its kind is "<token>..<client>"."""
    access, refresh = (f"{credentials.HUB}{kind}-token" for kind in ("access", "refresh"))
    try:
        if credentials.find(config, refresh).password.count("..") != 1:
            return
        credentials.erase(config, access)
        credentials.erase(config, refresh)
    except CliError as error:
        print(f"WARNING: {error.message}", file=sys.stderr)
        return
    print("WARNING: the token of docker's web login is removed here, but not revoked at Docker Hub", file=sys.stderr)


COMMANDS = {
    "login": Command(
        login,
        "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
        "[SERVER]",
        (
            text("password", "p", "Password or Personal Access Token (PAT)"),
            switch("password-stdin", "", "Take the Password or Personal Access Token (PAT) from stdin"),
            text("username", "u", "Username"),
        ),
        most=1,
    ),
    "logout": Command(
        logout,
        "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
        "[SERVER]",
        most=1,
    ),
}
