"""The docker context of a machine, so that docker's own client finds it: `docker --context cove ps`.

Layout: docker's CLI keeps a context in contexts/meta/<SHA-256 of its name>/meta.json of its configuration directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

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
        "Endpoints": {"docker": {"Host": f"unix://{socket}", "SkipTLSVerify": False}},
    }
    write_whole(place / "meta.json", json.dumps(meta).encode(), 0o644)


def remove(machine: str) -> None:
    """Remove the machine's context."""
    shutil.rmtree(_folder(name_for(machine)), ignore_errors=True)


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
    try:
        meta = json.loads(meta_file(machine).read_text("utf-8"))
        return bool(meta["Endpoints"]["docker"]["Host"] == f"unix://{socket}")
    except (OSError, ValueError, KeyError, TypeError):
        return False
