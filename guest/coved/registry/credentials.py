"""Who asks: what clients send with ``X-Registry-Auth``, and with ``POST /auth``."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field

_MAX = 64 * 1024


@dataclass(frozen=True)
class Credentials:
    """All "" for whoever did not log in. Never logged: ``repr`` shows no secrets."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server: str = ""

    @classmethod
    def of_header(cls, text: str) -> Credentials:
        """Of ``X-Registry-Auth``: base64 (RFC 4648, section 5) of JSON. What cannot be read counts for none, as in dockerd."""
        if not text or len(text) > _MAX:
            return cls()
        try:
            data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_")
            document = json.loads(data)
        except (binascii.Error, ValueError, RecursionError):
            return cls()
        return cls.of_json(document) if isinstance(document, dict) else cls()

    @classmethod
    def of_json(cls, document: dict[str, object]) -> Credentials:
        """An ``AuthConfig`` of the API. Names count whatever their case, as for Go's decoder."""
        fields = {str(key).lower(): value for key, value in document.items()}

        def text(name: str) -> str:
            value = fields.get(name)
            return value if isinstance(value, str) else ""

        username, password = text("username"), text("password")
        if not username and text("auth"):
            username, password = _basic(text("auth"))
        return cls(username, password, text("identitytoken"), text("registrytoken"), text("serveraddress"))


def _basic(text: str) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return name, password.rstrip("\0")
