"""The docker context of a machine, so that docker's own client finds it: `docker --context cove ps`.

Layout: docker's CLI keeps a context in contexts/meta/<SHA-256 of its name>/meta.json of its configuration directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

from cove.local.sockets import url
from cove.machine.files import write_whole
from cove.machine.paths import DEFAULT_MACHINE


def name_for(machine: str) -> str:
    """ "cove" for the default machine, "cove-NAME" for others."""
    return "cove" if machine == DEFAULT_MACHINE else f"cove-{machine}"


def create(machine: str, socket: Path) -> None:
    """Write the machine's context; no other file of docker's is touched."""
    name = name_for(machine)
    place = _folder(name)
    place.mkdir(parents=True, exist_ok=True)
    meta = {
        "Name": name,
        "Metadata": {"Description": f"Cove machine {machine}"},
        "Endpoints": {"docker": {"Host": url(socket), "SkipTLSVerify": False}},
    }
    write_whole(place / "meta.json", json.dumps(meta).encode(), 0o644)


def remove(machine: str, socket: Path) -> None:
    """Remove the machine's context, if it leads to this socket; docker's client no longer uses it then."""
    if not leads_to(machine, socket):
        return
    place = _folder(name_for(machine))
    shutil.rmtree(place, ignore_errors=True)
    for parent in (place.parent, place.parent.parent):
        with contextlib.suppress(OSError):
            parent.rmdir()  # ours, when nobody else has one
    _leave(name_for(machine))


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


def leads_to(machine: str, socket: Path) -> bool:
    """Whether the machine's context is there and is of this very socket: another COVE_HOME may have a machine of the same name."""
    return _host(machine) == url(socket)


def is_anothers(machine: str, socket: Path) -> bool:
    """Whether the machine's context leads to something else that is there: of a machine that is gone its sockets' folder is, too."""
    host = _host(machine)
    scheme, separator, path = host.partition("://")
    if not separator or host == url(socket):
        return False
    try:
        return scheme != "unix" or Path(path).parent.is_dir()
    except PermissionError:  # another user's
        return True


def _host(machine: str) -> str:
    """What the machine's context leads to; "" when there is none, or it cannot be read."""
    try:
        return str(json.loads(meta_file(machine).read_text("utf-8"))["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
