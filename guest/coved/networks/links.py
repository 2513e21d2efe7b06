"""Links (Docker Engine API, ``HostConfig.Links`` and ``EndpointSettings.Links``): how they are written, and their lines in
a container's /etc/hosts, which the container may have changed as well."""

from __future__ import annotations

import re
from collections.abc import Mapping

from coved.errors import EngineError, InvalidParameter

_LINE = re.compile(r"[^\S\n]*[^\s#]+[^\S\n]+([^\s#]+)")
_LONGEST = 255


def parse(text: str) -> tuple[str, str]:
    """Target and alias of ``target:alias``, ``target``, or ``/target:/container/alias`` as an inspect shows it.

    Raises EngineError in dockerd's words (a 500, as it is there), and InvalidParameter for an alias that would be more
    than a word in a container's /etc/hosts, or lead out of the container's own names; dockerd takes those.
    """
    if not text:
        raise EngineError("empty string specified for links")
    target, colon, alias = text.partition(":")
    if ":" in alias:
        raise EngineError(f"bad format for links: {text}")
    if not colon:
        alias = target
    elif target.startswith("/"):
        target, alias = target[1:], alias.rpartition("/")[2]
    crooked = any(one.isspace() or not one.isprintable() or one in "#\ufffd" for one in alias)
    if crooked or len(alias) > _LONGEST or (alias and any(part in ("", ".", "..") for part in alias.split("/"))):
        raise InvalidParameter(f"bad format for links: {text!a}")
    return target, alias


def changed(text: str, addresses: Mapping[str, str]) -> str:
    """The hosts(5) ``text`` with other addresses for these names; "" takes away the line whose first name it is.

    A name that has no line yet gets one; all other lines stay as they are.
    """
    left = dict(addresses)
    lines = []
    for line in text.splitlines(keepends=True):
        match = _LINE.match(line)
        name = match[1] if match else ""
        if name not in addresses:
            lines.append(line)
        elif address := left.pop(name, ""):
            lines.append(f"{address}\t{line.split(None, 1)[1].rstrip()}\n")
    if any(left.values()) and lines and not lines[-1].endswith("\n"):
        lines.append("\n")
    return "".join(lines) + "".join(f"{address}\t{name}\n" for name, address in left.items() if address)
