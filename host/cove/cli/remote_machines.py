"""Machines whose engine runs on another computer: made by `cove machine init --ssh`, and what commands say of them."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cove.cli.command import agreed
from cove.cli.errors import CliError
from cove.cli.machine_rows import folder_rows, span
from cove.errors import CoveError, RemoteError
from cove.machine import lifecycle, remote, settings
from cove.machine.paths import MachinePaths
from cove.machine.remote import COVE, Remote
from cove.plain import printable

if TYPE_CHECKING:
    from cove.remote.connection import Connection


_MISSING = {
    "docker": "it is to listen at /run/docker.sock, and your user there to be in the group docker",
    "podman": "have its API served: systemctl enable --now podman.socket, or systemctl --user for your user alone",
}


def made(
    name: str, where: str, engine: str, host_key: str, accepted: bool, shared: Sequence[str], asks: bool
) -> tuple[MachinePaths, Remote]:
    """Make a machine of another computer. Raises `CoveError`."""
    lifecycle.absent(name)
    # What leaves this computer for another one is for its user to say (docs/decisions/0073).
    file = settings.render(settings.Settings())
    for key, value in (("share_home", "no"), ("ssh_agent", "none"), ("proxy", "none")):
        file = settings.with_value(file, key, value, "the command line")
    if shared:
        file = settings.with_value(file, "shared_folders", ",".join(shared), "--share")
    wanted = settings.parse(file, "the command line")
    connection = _introduced(where, host_key, accepted, asks)
    try:
        found = _engine(connection, engine)
    finally:
        connection.close()
    return lifecycle.init(name, wanted, found), found


def pinned_anew(name: str, where: str, host_key: str, accepted: bool) -> Remote | None:
    """Pin another key of a machine that is there, when that is what is asked for. Raises `CoveError`."""
    paths = MachinePaths(name)
    there = remote.load(paths) if paths.settings.exists() else None
    if there is None or there.address != remote.address(where) or not (host_key or accepted):
        return None
    connection = _introduced(where, host_key, accepted, asks=False)
    connection.close()
    if connection.host_key == there.host_key:
        return None
    found = replace(there, host_key=connection.host_key)
    remote.save(paths, found)
    return found


def _introduced(where: str, host_key: str, accepted: bool, asks: bool) -> Connection:
    """A connection to a host whose key somebody has vouched for: one that is given counts, whatever known_hosts has. Raises `CoveError`."""
    from cove.remote import connection, trust

    to = remote.address(where)
    if host_key and not host_key.startswith("SHA256:"):
        raise CliError(f"cove: --host-key is a fingerprint such as SHA256:Kx3..., not {host_key}")
    if host_key or accepted:
        return connection.connect(to, _shown(to, host_key))
    try:
        return connection.connect(to)
    except trust.UnknownHost as error:
        if error.host != to or not asks:  # one that is between is not what was asked for
            raise
        shown = remote.fingerprint(error.key)
        if not agreed(f"{to} shows the host key {shown} ({error.key.split()[0]}). Is that its key?"):
            raise
        return connection.connect(to, error.key)


def _shown(to: remote.Address, wanted: str) -> str:
    """The key with that fingerprint among those that a host shows, or the first when it is "". Raises `RemoteError`."""
    from cove.remote import connection

    seen = []
    for key in connection.shown_keys(to):
        if wanted in ("", remote.fingerprint(key)):
            return key
        seen.append(remote.fingerprint(key))
    shows = f"the host key {' and '.join(seen)}" if seen else "no host key of a kind that Cove knows"
    raise RemoteError(
        f"{to} shows {shows}" + (f", and not {wanted}" if wanted else ""), "somebody else may answer in its place"
    )


def _engine(connection: Connection, wanted: str) -> Remote:
    """What is to be used there. Raises `CoveError`."""
    from cove.remote import engine

    found = engine.look(connection)
    there = {"docker": found.docker, "podman": found.podman}
    if wanted == "auto":
        try:
            found.check()
            wanted = COVE
        except CoveError:
            wanted = next((kind for kind, socket in there.items() if socket), COVE)
    if wanted == COVE:
        found.check()
        return Remote(connection.address, connection.host_key, COVE, instance=secrets.token_hex(8))
    if not there[wanted]:
        raise RemoteError(f"{connection.address} has no {wanted} that your user there may use", _MISSING[wanted])
    return Remote(connection.address, connection.host_key, wanted, there[wanted])


def rows(value: dict[str, Any]) -> list[tuple[str, str]]:
    """What `cove machine status` shows of such a machine beside its state and its lost ports."""
    engine = value["engine"] if value["engine"] != COVE else "Cove's own"
    versions = [f"{value[key]}" for key in ("engine_version",) if value.get(key)]
    if value.get("api_version"):
        versions.append(f"API {value['api_version']}")
    found = [
        ("host", f"{value['host']}, by SSH; host key {value['host_key']}"),
        ("engine", " ".join([engine, ", ".join(versions)]).strip()),
    ]
    if value["state"] == "unreachable":
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value["lost_at"]))
        found += [
            ("connection", f"lost since {since}: {value['lost_because']}"),
            *(("", line) for line in value.get("lost_hint", "").splitlines()),
            ("", "what runs there goes on, unless it was restarted; the next command tries again"),
        ]
    elif "connected_at" in value:
        found.append(("connection", f"for {span(time.time() - value['connected_at'])}"))
    if value.get("ports_not_carried"):
        found.append(("not carried", f"{', '.join(value['ports_not_carried'])}: published there, and not here"))
    return found + folder_rows(value)


def ssh_words(paths: MachinePaths, found: Remote) -> list[str]:
    """The system's ssh to the computer itself, which is to have the key that was pinned. Raises `CoveError` when there is no ssh."""
    program = shutil.which("ssh")
    if program is None:
        raise CoveError("there is no ssh program on this computer", "install OpenSSH's client")
    alias = f"cove-{paths.name}"
    paths.known_hosts.write_text(f"{alias} {found.host_key}\n", "ascii")
    file = str(paths.known_hosts).replace("%", "%%")
    words = [
        program,
        "-o",
        f'UserKnownHostsFile="{file}"',
        "-o",
        f"HostKeyAlias={alias}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "ControlPath=none",  # a connection that the user has already was made by another key, perhaps
    ]
    words += ["-l", found.address.user] if found.address.user else []
    words += ["-p", str(found.address.port)] if found.address.port else []
    return [*words, found.address.host]


def show_log(paths: MachinePaths, found: Remote, *, follow: bool, tail: int | None) -> None:
    """What our engine there has said last. Raises `CoveError`."""
    import sys

    from cove.remote import connection
    from cove.remote.engine import RemoteEngine

    if not found.is_ours:
        remote.refuse(paths, "its console", f"what Cove did: cove machine logs --agent {paths.name}")
    if follow:
        raise CliError("cove: the log of an engine on another computer is not followed")
    made = connection.connect(found.address, found.host_key)
    try:
        lines = RemoteEngine(made, found.instance, remote.label(paths)).log().splitlines(keepends=True)
    finally:
        made.close()
    shown = b"".join(lines[-tail:] if tail else lines if tail is None else [])
    sys.stdout.write(printable(shown.decode("utf-8", "replace"), "\n\t"))
