"""Where the credentials for a registry are kept: with a helper program, or in docker's configuration file.

A helper is `docker-credential-NAME get|store|erase`, with one request on its stdin and one answer on its stdout
(github.com/docker/docker-credential-helpers). What it has to say to a user goes to stderr, which is ours.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from typing import Any

from cove.cli.docker_config import Credentials, DockerConfig
from cove.cli.errors import CliError

HUB = "https://index.docker.io/v1/"
"""Docker Hub's name among the credentials, kept from the first version of its protocol."""
TOKEN_USER = "<token>"
"""The user name under which a helper keeps an identity token."""
UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""
_NOT_FOUND = "credentials not found in native keychain"


def registry_key(domain: str) -> str:
    """Under which name the credentials for images of `domain` are kept."""
    return HUB if domain in ("docker.io", "index.docker.io") else domain


def hostname(server: str) -> str:
    """The host, with its port, of a server that may be named by a URL."""
    _, mark, rest = server.partition("://")
    if mark:
        host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].removesuffix(":")
        if host:
            return host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return server.partition("/")[0]


def find(config: DockerConfig, server: str) -> Credentials:
    """What is known for `server`; nothing is no failure. Raises `CliError` when the helper fails."""
    filed = _filed(config, server)
    if not (helper := config.helper(server)):
        return filed
    try:
        answer = _call(helper, "get", server, "getting")
    except CliError as error:
        if not error.message.endswith(f"`{_NOT_FOUND}`"):
            raise
        return replace(filed, username="", password="", identity_token="", server="")
    user, secret = _answered(answer, "Username"), _answered(answer, "Secret")
    if user == TOKEN_USER:
        return replace(filed, username="", password="", identity_token=secret, server=server)
    return replace(filed, username=user, password=secret, identity_token="", server=server)


def find_quietly(config: DockerConfig, server: str) -> Credentials:
    """`find`, without credentials when the helper fails: what is public can be had all the same."""
    try:
        return find(config, server)
    except CliError:
        return _filed(config, server)


def store(config: DockerConfig, credentials: Credentials) -> None:
    """Keep them, with docker's warning when that is in plain text. Raises `CliError`."""
    helper = config.helper(credentials.server)
    if helper:
        token = credentials.identity_token
        request = {
            "ServerURL": credentials.server,
            "Username": TOKEN_USER if token else credentials.username,
            "Secret": token or credentials.password,
        }
        _call(helper, "store", json.dumps(request, separators=(",", ":")) + "\n", "storing")
        credentials = replace(credentials, username="", password="", identity_token="")
    if config.auths.get(credentials.server) == credentials:
        return
    config.put(credentials, helper)
    if credentials.password:
        print(UNENCRYPTED.format(config.path), file=sys.stderr)


def erase(config: DockerConfig, server: str) -> None:
    """Forget them; raises `CliError`."""
    if helper := config.helper(server):
        _call(helper, "erase", server, "erasing")
    config.drop(server)


def _filed(config: DockerConfig, server: str) -> Credentials:
    """What the file says, also where an old docker has written the server's URL."""
    if server in config.auths:
        return config.auths[server]
    return next((auth for key, auth in config.auths.items() if hostname(key) == server), Credentials())


def _call(helper: str, action: str, request: str, doing: str) -> str:
    """What the helper answers. Raises `CliError` with docker's words, which end with what the helper said."""
    import shutil
    import subprocess

    name = f"docker-credential-{helper}"
    program = shutil.which(name)
    said = ""
    if program is None:
        reason = f'exec: "{name}": executable file not found in $PATH'
    else:
        try:
            done = subprocess.run([program, action], input=request.encode(), stdout=subprocess.PIPE, check=False)
        except OSError as error:
            reason = f"fork/exec {program}: {(error.strerror or str(error)).lower()}"
        else:
            said = done.stdout.decode(errors="replace").strip()
            if done.returncode == 0:
                return said
            reason = f"exit status {done.returncode}" if done.returncode > 0 else f"signal: {-done.returncode}"
            if said in ("no credentials server URL", "no credentials username"):
                reason = said
    raise CliError(f"error {doing} credentials - err: {reason}, out: `{said}`")


def _answered(answer: str, name: str) -> str:
    try:
        found: Any = json.loads(answer)
        value = found.get(name, "")
    except (ValueError, AttributeError):
        raise CliError("error getting credentials: the credential helper answered something that is not JSON") from None
    return value if isinstance(value, str) else ""
