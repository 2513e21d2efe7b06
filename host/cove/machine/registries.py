"""What a machine's engine is told of registries: settings, and the certificates that docker's users have for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cove.errors import SettingsError
from cove.machine.policy import Policy
from cove.machine.settings import Settings

CERTIFICATES = Path("~/.docker/certs.d")
"""A folder for each registry, named as it is called: ``*.crt`` are CAs, ``*.cert`` and ``*.key`` are a client's own."""
_ENDINGS = (".crt", ".cert", ".key")
_FILE_MAX = 256 << 10
_ALL_MAX = 512 << 10


def told(settings: Settings, policy: Policy | None = None, folder: Path | None = None) -> dict[str, Any]:
    """The seed's ``registries``. Raises `SettingsError` for certificates that cannot be read, or that are too many."""
    found: dict[str, Any] = {
        "insecure": list(settings.insecure_registries),
        "mirrors": list(settings.registry_mirrors),
        "certificates": certificates(folder or CERTIFICATES.expanduser()),
    }
    if policy is not None and policy.allowed_registries is not None:
        found |= {"allowed": list(policy.allowed_registries), "policy": str(policy.file)}
    return found


def certificates(folder: Path) -> dict[str, dict[str, str]]:
    """By registry and by file name, the files' texts."""
    found: dict[str, dict[str, str]] = {}
    total = 0
    for file in sorted(folder.glob("*/*")):
        if not file.name.endswith(_ENDINGS) or not file.is_file():
            continue
        try:
            with file.open("rb") as stream:
                data = stream.read(_FILE_MAX + 1)
            text = data.decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file} cannot be read: {error}", "certificates and keys are PEM files") from error
        total += len(data)
        if len(data) > _FILE_MAX or total > _ALL_MAX:
            raise SettingsError(f"{folder} has over {_ALL_MAX >> 10} KiB of certificates", f"{file} is one of them")
        found.setdefault(file.parent.name, {})[file.name] = text
    return found
