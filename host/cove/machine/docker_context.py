"""The docker context of a machine, so that docker's own client finds it: `docker --context cove ps`.

Layout: docker's CLI keeps a context in contexts/meta/<SHA-256 of its name>/meta.json of its configuration directory. What else is in
"Metadata" it leaves alone, and shows (docker/cli, cli/command/context.go).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from cove.local.sockets import url
from cove.machine.files import write_whole
from cove.machine.paths import DEFAULT_MACHINE, MachinePaths

FOLDER = "CoveMachine"
"""In "Metadata": the machine's folder. Its socket's path alone depends on the session (XDG_RUNTIME_DIR)."""


def name_for(machine: str) -> str:
    """ "cove" for the default machine, "cove-NAME" for others."""
    return "cove" if machine == DEFAULT_MACHINE else f"cove-{machine}"


def create(paths: MachinePaths) -> None:
    """Write the machine's context; no other file of docker's is touched."""
    name = name_for(paths.name)
    place = _folder(name)
    place.mkdir(parents=True, exist_ok=True)
    meta = {
        "Name": name,
        "Metadata": {"Description": f"Cove machine {paths.name}", FOLDER: str(paths.folder)},
        "Endpoints": {"docker": {"Host": url(paths.docker_socket), "SkipTLSVerify": False}},
    }
    write_whole(place / "meta.json", json.dumps(meta).encode(), 0o644)


def remove(paths: MachinePaths) -> None:
    """Remove the machine's context, if it is of this very machine; docker's client no longer uses it then."""
    if not is_of(paths):
        return
    place = _folder(name_for(paths.name))
    shutil.rmtree(place, ignore_errors=True)
    for parent in (place.parent, place.parent.parent):
        with contextlib.suppress(OSError):
            parent.rmdir()  # ours, when nobody else has one
    _leave(name_for(paths.name))


def _leave(name: str) -> None:
    """docker's client fails as long as its configuration names a context that is gone: the name goes, and nothing else."""
    file = Path(os.path.realpath(folder() / "config.json"))
    try:
        value = json.loads(file.read_text("utf-8"))
        if not isinstance(value, dict) or value.get("currentContext") != name:
            return
        del value["currentContext"]
        write_whole(file, json.dumps(value, indent="\t", ensure_ascii=False).encode(), file.stat().st_mode & 0o777)
    except (OSError, ValueError):
        return


def folder() -> Path:
    """Docker's configuration."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _folder(name: str) -> Path:
    return folder() / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()


def meta_file(machine: str) -> Path:
    """Where docker's client reads the machine's context."""
    return _folder(name_for(machine)) / "meta.json"


def is_of(paths: MachinePaths) -> bool:
    """Whether the machine's context is there and is of this very one: another COVE_HOME may have a machine of the same name."""
    return leads_to(paths.name, paths.docker_socket) or _machine(_read(paths.name)) == str(paths.folder)


def leads_to(machine: str, socket: Path) -> bool:
    """Whether the machine's context is there and is of this very socket."""
    return _host(_read(machine)) == url(socket)


def is_anothers(paths: MachinePaths) -> bool:
    """Whether the machine's context leads to something else that is there: of a machine that is gone its sockets' folder is, too."""
    found = _read(paths.name)
    if found is None or is_of(paths):
        return False
    scheme, separator, path = _host(found).partition("://")
    if not separator:
        return False
    try:
        if scheme == "npipe" and (machine := _machine(found)):
            return Path(machine).is_dir()  # a pipe has no folder
        return scheme != "unix" or Path(path).parent.is_dir()
    except PermissionError:  # another user's
        return True


def _read(machine: str) -> Any:
    """The machine's context; None when there is none, or it cannot be read."""
    try:
        return json.loads(meta_file(machine).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _host(context: Any) -> str:
    """What a context leads to; "" when it does not say."""
    try:
        return str(context["Endpoints"]["docker"]["Host"])
    except (KeyError, TypeError):
        return ""


def _machine(context: Any) -> str:
    """The folder of the machine that a context is of; "" when it is not Cove's, or of one that did not say so yet."""
    try:
        return str(context["Metadata"][FOLDER])
    except (KeyError, TypeError):
        return ""
