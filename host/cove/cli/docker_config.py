"""The user's docker configuration, ~/.docker/config.json: what is in it for registries, and how it is written.

The file belongs to docker and to whatever else uses it. Nothing that is not understood here is lost when it is
written, and one that cannot be read is never written over.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cove.cli.errors import CliError, os_error_text

OWNER_ONLY = 0o600
PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}
"""The variable of each key of `proxies`."""
_FIELDS = {"email": "email", "identity_token": "identitytoken", "registry_token": "registrytoken"}
"""What an entry of `auths` says in plain words."""


@dataclass(frozen=True)
class Credentials:
    """Of one registry, `server`; all that is not known is empty."""

    username: str = ""
    password: str = field(default="", repr=False)
    email: str = ""
    server: str = ""
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def body(self) -> dict[str, str]:
        """As the API takes them (`AuthConfig`)."""
        named = {
            "username": self.username,
            "password": self.password,
            "email": self.email,
            "serveraddress": self.server,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
        }
        return {name: value for name, value in named.items() if value}

    def header(self) -> str:
        """The value of X-Registry-Auth: base64url (RFC 4648, section 5) of JSON."""
        return base64.urlsafe_b64encode(json.dumps(self.body(), separators=(",", ":")).encode()).decode()


class DockerConfig:
    """The file at `path`, read once. `auths` are its credentials by server."""

    def __init__(self, path: Path, data: dict[str, Any], *, broken: bool = False) -> None:
        self.path = path
        self._data = data
        self._broken = broken
        self.auths: dict[str, Credentials] = {}
        entries = data.get("auths")
        for server, entry in entries.items() if isinstance(entries, dict) else ():
            try:
                self.auths[server] = _credentials(server, entry)
            except ValueError as error:
                _warn(f"parsing config file ({path}): {error}")

    @classmethod
    def load(cls) -> DockerConfig:
        """The file that DOCKER_CONFIG says, or the home folder's. A missing one is empty, one that cannot be read too,
        with a warning on stderr.
        """
        folder = os.environ.get("DOCKER_CONFIG")
        path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
        try:
            text = path.read_text("utf-8")
            data = json.loads(text) if text.strip() else {}
            if not isinstance(data, dict):
                raise ValueError("not a JSON object")
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            _warn(f"loading config file: {os_error_text(error)}")
            return cls(path, {}, broken=True)
        except ValueError as error:
            _warn(f"parsing config file ({path}): {error}")
            return cls(path, {}, broken=True)
        return cls(path, data)

    def helper(self, server: str) -> str:
        """The credential helper for `server` by its last name, `pass` of docker-credential-pass; empty for none."""
        helpers = self._data.get("credHelpers")
        named = helpers.get(server) if isinstance(helpers, dict) else None
        store = self._data.get("credsStore")
        chosen = named if named is not None else store
        if chosen or helpers or self._data.get("auths"):
            return chosen if isinstance(chosen, str) else ""
        return _default_helper()

    def value(self, name: str) -> Any:
        """A setting of the file, whatever it is; None when it is not there."""
        return self._data.get(name)

    def proxies(self, given: Iterable[str] = ()) -> list[str]:
        """Variables for containers (`proxies.default`), in capitals and not, but for those that are `given` (NAME[=VALUE])."""
        known = {entry.partition("=")[0] for entry in given}
        settings = self._data.get("proxies")
        default = settings.get("default") if isinstance(settings, dict) else None
        found = []
        for key, variable in PROXIES.items():
            value = default.get(key) if isinstance(default, dict) else None
            if isinstance(value, str) and value:
                found += [f"{name}={value}" for name in (variable, variable.lower()) if name not in known]
        return found

    def texts(self, name: str) -> Iterator[str]:
        """A list of settings of the file."""
        value = self._data.get(name)
        yield from (item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    def put(self, credentials: Credentials, helper: str = "") -> None:
        """Write `credentials` into the file, and as `credsStore` a `helper` that was found for a file with none. Raises
        `CliError`.
        """
        auths = self._entries()
        former = auths.get(credentials.server)
        entry = dict(former) if isinstance(former, dict) else {}
        for known in ("username", "password", "auth", *_FIELDS.values()):
            entry.pop(known, None)
        if credentials.username or credentials.password:
            plain = f"{credentials.username}:{credentials.password}".encode()
            entry["auth"] = base64.b64encode(plain).decode()
        for attribute, name in _FIELDS.items():
            if value := getattr(credentials, attribute):
                entry[name] = value
        auths[credentials.server] = entry
        if helper and not self._data.get("credsStore") and not self._data.get("credHelpers"):
            self._data["credsStore"] = helper
        self._save()
        self.auths[credentials.server] = credentials

    def drop(self, server: str) -> None:
        """Take the credentials for `server` out of the file. Raises `CliError`."""
        if self._entries().pop(server, None) is None:
            return
        self.auths.pop(server, None)
        self._save()

    def _entries(self) -> dict[str, Any]:
        entries = self._data.get("auths")
        if not isinstance(entries, dict):
            entries = self._data["auths"] = {}
        return entries

    def _save(self) -> None:
        """Whole or not at all, and for its owner alone: there are passwords in it."""
        if self._broken:
            raise CliError(f"{self.path} cannot be read and is left as it is")
        import tempfile

        auths = self._entries()
        ordered = {"auths": {server: _ordered(auths[server]) for server in sorted(auths)}}
        text = json.dumps(ordered | {key: self._data[key] for key in self._data if key != "auths"}, indent="\t")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = Path(os.path.realpath(self.path))  # a link stays one, for it may lead to where others look
            with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix="config.json", delete=False) as file:
                partial = Path(file.name)
                try:
                    file.write(text)
                    file.close()
                    partial.chmod(OWNER_ONLY)
                    _keep_owner(target, partial)
                    partial.replace(target)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise CliError(os_error_text(error)) from error


def _ordered(entry: Any) -> Any:
    """An entry of `auths` with its keys as docker writes them, what it does not know at the end."""
    if not isinstance(entry, dict):
        return entry
    first = ("username", "password", "auth", *_FIELDS.values())
    return {key: entry[key] for key in sorted(entry, key=lambda key: first.index(key) if key in first else len(first))}


def _keep_owner(former: Path, new: Path) -> None:
    """A file that root writes for a user stays that user's."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        found = former.stat()
        if found.st_uid and found.st_gid:
            os.chown(new, found.st_uid, found.st_gid)


def _credentials(server: str, entry: Any) -> Credentials:
    """An entry of `auths`. Raises `ValueError`."""
    if not isinstance(entry, dict):
        raise ValueError(f"the entry for {server} is no object")
    username, password = entry.get("username"), entry.get("password")
    if encoded := entry.get("auth"):
        username, password = _decoded(encoded)
    plain = {attribute: entry.get(name) for attribute, name in _FIELDS.items()} | {
        "username": username,
        "password": password,
    }
    return Credentials(server=server, **{key: value for key, value in plain.items() if isinstance(value, str)})


def _decoded(encoded: Any) -> tuple[str, str]:
    plain = str(encoded).replace("\r", "").replace("\n", "")
    try:
        text = base64.b64decode(plain, validate=True).decode()
    except ValueError:  # also what binascii raises
        first = next(
            (at for at, one in enumerate(plain) if not (one.isascii() and (one.isalnum() or one in "+/"))), None
        )
        raise ValueError(f"illegal base64 data at input byte {len(plain) if first is None else first}") from None
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise ValueError("Invalid auth configuration file")
    return username, password.strip("\0")


def _default_helper() -> str:
    """The one that a system has of its own, where it is installed."""
    import shutil

    if sys.platform == "darwin":
        name = "osxkeychain"
    elif sys.platform == "win32":
        name = "wincred"
    else:
        name = "pass" if shutil.which("pass") else "secretservice"
    return name if shutil.which(f"docker-credential-{name}") else ""


def _warn(what: str) -> None:
    print(f"WARNING: Error {what}", file=sys.stderr)
