"""Who we are to a host: keys of the user's SSH agent and files. Nobody is asked for a password: there may be nobody to ask."""

from __future__ import annotations

import contextlib
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
from paramiko.agent import AgentKey

from cove.errors import RemoteError
from cove.machine.remote import Address
from cove.remote.way import Way

_AGENT_S = 10.0
PERSON_S = 60.0
"""In which a person has allowed that the SSH agent uses a key, or has touched a token."""


def _agent(path: str) -> paramiko.Agent:
    """Raises `OSError`."""
    if sys.platform == "win32":
        return paramiko.Agent()  # Pageant, or OpenSSH's own, at the one place that it has
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(_AGENT_S)
        made.connect(path)
        agent = _Agent(made)
        made.settimeout(None)  # of what it has it tells at once; that it uses a key may be for a person to allow
    except BaseException:
        made.close()
        raise
    return agent


class _Agent(paramiko.Agent):
    """That of a given socket: paramiko's own reads the environment of the process. Has asked for the keys once it is made."""

    def __init__(self, connection: socket.socket) -> None:
        self._conn = None
        self._keys = ()
        self._connect(connection)  # type: ignore[attr-defined]


def log_in(transport: paramiko.Transport, way: Way) -> None:
    """Raises `RemoteError`, `paramiko.SSHException`, `OSError`."""
    tried: list[str] = []
    locked: list[str] = []
    hints = [f"see that this works without a password: {Address(way.host, way.user).by_ssh}"]
    patience = transport.auth_timeout
    with contextlib.ExitStack() as stack:
        for name, key in _offered(way, locked, hints, stack):
            tried.append(name)
            transport.auth_timeout = PERSON_S if isinstance(key, AgentKey) else patience
            try:
                if not transport.auth_publickey(way.user, key):
                    return
            except paramiko.BadAuthenticationType as error:
                raise RemoteError(
                    f"{way.host} takes no keys, only {', '.join(error.allowed_types)}",
                    "have it take keys: sshd_config(5)",
                ) from error
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    break
                continue
            raise RemoteError(f"{way.host} wants more than a key to let {way.user} in", "Cove shows a key alone")
    said = f"it was shown {', '.join(tried)}" if tried else "there was no key to show"
    if locked:
        hints.append(
            f"{', '.join(locked)}: has a passphrase; give it to your SSH agent: ssh-add {shlex.quote(locked[0])}"
        )
    raise RemoteError(f"{way.host} does not let {way.user} in: {said}", "\n".join(hints))


def _offered(
    way: Way, locked: list[str], hints: list[str], stack: contextlib.ExitStack
) -> Iterator[tuple[str, paramiko.PKey]]:
    """Those that the configuration names first: a host ends a connection that has shown it too many."""
    agents = _of_agent(way.agent, hints, stack)
    named: list[tuple[str, paramiko.PKey]] = []
    blobs = set()
    for file in way.keys:
        public = _public(file)
        if public is not None:
            blobs.add(public)
        in_agent = [key for key in agents if key.asbytes() == public]
        if in_agent:
            named.append((f"{file} (by the SSH agent)", in_agent[0]))
        elif (key := _of_file(file, locked)) is not None:
            named.append((str(file), key))
    yield from named
    if not way.only_these:
        for key in agents:
            if key.asbytes() not in blobs:
                yield f"{getattr(key, 'comment', '') or key.get_name()} (of the SSH agent)", key


def _of_agent(path: str, hints: list[str], stack: contextlib.ExitStack) -> tuple[AgentKey, ...]:
    if not path and sys.platform != "win32":
        return ()
    try:
        agent = _agent(path)
        stack.callback(agent.close)
        return agent.get_keys()
    except TimeoutError:
        hints.append(f"the SSH agent at {path} does not answer: its keys were not tried")
        return ()
    except (OSError, paramiko.SSHException):
        return ()


def _public(file: Path) -> bytes | None:
    """Of the file itself, when that is what it has: `IdentityFile` may name a key that the SSH agent alone has whole."""
    for one in (file, file.with_name(f"{file.name}.pub")):
        with contextlib.suppress(OSError, ValueError):
            text = one.read_text("ascii").split()
            return paramiko.PublicBlob.from_string(" ".join(text[:2])).key_blob  # type: ignore[attr-defined,no-any-return]
    return None


def _of_file(file: Path, locked: list[str]) -> paramiko.PKey | None:
    try:
        key = paramiko.PKey.from_path(file)
    except (paramiko.PasswordRequiredException, TypeError):  # cryptography's word for it
        locked.append(str(file))
        return None
    except FileNotFoundError:
        return None
    except Exception:  # what is no private key, in one of many ways
        return None
    certificate = file.with_name(f"{file.name}-cert.pub")
    if certificate.exists():
        with contextlib.suppress(ValueError, OSError):
            key.load_certificate(str(certificate))
    return key
