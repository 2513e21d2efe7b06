"""What containers, and commands of builds, are told of the outside: proxies, and a file of certificates that TLS trusts.

Only by the host's settings. Nothing of it is in a container's configuration, so that neither ``inspect`` shows a proxy's password nor
``commit`` puts it into an image, and what has changed counts from the container's next start.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path

from coved.current_outside import CurrentOutside
from coved.errors import EngineError
from coved.runtime.spec import Mount

BUNDLE = "/run/host-services/ca-certificates.crt"
"""Where it is in containers: those that the engine's system trusts, and the host's."""
_SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")


class ProxiesAndCertificates:
    """``folder``: where files for containers may be put, the engine's own."""

    def __init__(self, outside: CurrentOutside, folder: Path) -> None:
        self._outside = outside
        self._folder = folder

    def environment(self, env: Sequence[str], pid: int = 0) -> list[str]:
        """Variables beside ``env``, in which there is none of them.

        Args:
            pid: of a container that runs; certificates are told of only when it was started with them.
        """
        now = self._outside.now
        if not (now.proxies_in_containers or now.authorities_in_containers):
            return []
        found = [f"{name}={value}" for name, value in now.proxy_variables(_names(env)).items()]
        if not pid or os.path.exists(f"/proc/{pid}/root{BUNDLE}"):  # noqa: PTH110 - lighter
            found += self.bundle_variables(env)
        return found

    def bundle_variables(self, env: Sequence[str]) -> list[str]:
        """Those for a process that has ``mounts``."""
        if not self._has_bundle():
            return []
        return [f"{name}={value}" for name, value in self._outside.now.bundle_variables(BUNDLE, _names(env)).items()]

    def proxies(self, given: Iterable[str]) -> dict[str, str]:
        """What the commands of a build are told of proxies, beside build arguments with these names."""
        return self._outside.now.proxy_variables(given)

    def mounts(self) -> list[Mount]:
        """For a container that is started. Raises EngineError."""
        if not self._has_bundle():
            return []
        try:
            source = str(self._file())
        except OSError as error:
            raise EngineError(f"the host's certificates cannot be given to a container: {error}") from error
        return [{"destination": BUNDLE, "type": "bind", "source": source, "options": ["bind", "ro", "nosuid", "nodev"]}]

    def _has_bundle(self) -> bool:
        now = self._outside.now
        return now.authorities_in_containers and bool(now.authorities)

    def _file(self) -> Path:
        """Named by what is in it: what containers have does not change under them."""
        own = self._outside.now.authorities
        file = self._folder / f"ca-{hashlib.sha256(own.encode()).hexdigest()[:32]}.crt"
        if not file.exists():
            system = Path(ssl.get_default_verify_paths().cafile or _SYSTEM)
            text = f"{system.read_text() if system.exists() else ''}\n{own}"
            for old in self._folder.glob("ca-*.crt"):
                old.unlink()  # containers that have it keep it
            new = self._folder / f".ca-{secrets.token_hex(8)}"
            new.write_text(text)
            new.chmod(0o644)
            new.rename(file)
        return file


def _names(env: Sequence[str]) -> list[str]:
    return [entry.partition("=")[0] for entry in env]
