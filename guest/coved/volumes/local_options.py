"""Options of the ``local`` driver: what they may be, and the mount(2) that they mean.

Names, rules and words are those of dockerd's local driver, and of mount(8) for what is in ``o``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coved.errors import EngineError, InvalidParameter

_KNOWN = ("type", "o", "device", "size")
_NEEDED = (("device", ("type",)), ("type", ("device",)), ("o", ("device", "type")))
_SIZE = re.compile(r"(\d+(?:\.\d+)*) ?([kKmMgGtTpP])?(?:[iI]?[bB])?")
_PAGE = 4095
"""Bytes of options that mount(2) passes on."""

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 32, 4096, 16384
MS_SLAVE = 1 << 19
_UNBINDABLE, _PRIVATE, _SHARED = 1 << 17, 1 << 18, 1 << 20
PROPAGATION = _UNBINDABLE | _PRIVATE | MS_SLAVE | _SHARED
# Set, or (False) cleared. linux/mount.h
_FLAGS = {
    "defaults": (True, 0), "ro": (True, MS_RDONLY), "rw": (False, MS_RDONLY), "nosuid": (True, 2), "suid": (False, 2),
    "nodev": (True, 4), "dev": (False, 4), "noexec": (True, 8), "exec": (False, 8), "sync": (True, 16), "async": (False, 16),
    "remount": (True, MS_REMOUNT), "mand": (True, 64), "nomand": (False, 64), "dirsync": (True, 128),
    "noatime": (True, 1024), "atime": (False, 1024), "nodiratime": (True, 2048), "diratime": (False, 2048),
    "bind": (True, MS_BIND), "rbind": (True, MS_BIND | MS_REC), "relatime": (True, 1 << 21), "norelatime": (False, 1 << 21),
    "strictatime": (True, 1 << 24), "nostrictatime": (False, 1 << 24),
    "unbindable": (True, _UNBINDABLE), "runbindable": (True, _UNBINDABLE | MS_REC),
    "private": (True, _PRIVATE), "rprivate": (True, _PRIVATE | MS_REC), "slave": (True, MS_SLAVE),
    "rslave": (True, MS_SLAVE | MS_REC), "shared": (True, _SHARED), "rshared": (True, _SHARED | MS_REC),
}  # fmt: skip


@dataclass(frozen=True)
class LocalMount:
    """The arguments of mount(2), but for the place."""

    device: str
    kind: str
    flags: int
    data: str


def validate(options: Mapping[str, str]) -> None:
    """Raises InvalidParameter in dockerd's words."""
    for name, value in options.items():
        if name not in _KNOWN:
            raise InvalidParameter(f'invalid option: "{name}"')
        if "\0" in value:
            raise InvalidParameter(f'invalid option: "{name}" holds a null byte')
    if "size" in options:
        match = _SIZE.fullmatch(options["size"])
        if match is None or match[1].count(".") > 1:
            raise InvalidParameter(f"invalid size: '{options['size']}'")
        if float(match[1]) > 0:
            # A quota would need project quotas on the disk's ext4, or XFS: dockerd without them says the same.
            raise InvalidParameter("quota size requested but no quota support")
    for name, others in _NEEDED:
        if name in options:
            for other in others:
                if other not in options:
                    raise InvalidParameter(f'missing required option: "{other}"')


def needs_mount(options: Mapping[str, str]) -> bool:
    """Whether the volume is something that is mounted, and no directory of the data disk."""
    return bool(options.get("device") or options.get("type"))


def local_mount(options: Mapping[str, str], resolve: Callable[[str], str]) -> LocalMount:
    """What to mount; ``resolve`` gives the address of a name. May take as long as that does.

    Raises EngineError.
    """
    device, kind, text = options.get("device", ""), options.get("type", ""), options.get("o", "")
    if not device:
        raise EngineError("missing device in volume options")
    if kind in ("nfs", "nfs4", "cifs"):
        # The kernel takes addresses only, and these file systems have no helper (mount.nfs, mount.cifs) here.
        try:
            host = next((one.removeprefix("addr=") for one in text.split(",") if one.startswith("addr=")), "")
            if host:
                text = text.replace(f"addr={host}", f"addr={resolve(host)}", 1)
            elif kind == "cifs" and (match := re.fullmatch(r"(?:cifs:|smb:)?//([^/]+)(/.*)?", device)):
                device = f"//{resolve(match[1])}{match[2] or ''}"
        except OSError as error:
            raise EngineError(f"error resolving passed in network volume address: {error.strerror or error}") from None
    flags, data = 0, []
    for word in text.split(","):
        if word in _FLAGS:
            on, bits = _FLAGS[word]
            flags = flags | bits if on else flags & ~bits
        elif word:
            data.append(word)
    joined = ",".join(data)
    if len(joined.encode(errors="surrogateescape")) > _PAGE:
        raise EngineError("failed to mount local volume: argument list too long")
    return LocalMount(device, kind, flags, joined)


def described(mount: LocalMount, place: str, reason: str) -> str:
    """dockerd's words for a mount that failed. No passwords are told."""
    text = f"mount {mount.device}:{place}"
    if shown := mount.flags & ~PROPAGATION:
        text += f", flags: 0x{shown:x}"
    if mount.data:
        text += ", data: " + re.sub(r"(^|,)(pass(?:word)?)=[^,]*", r"\1\2=********", mount.data)
    return f"failed to mount local volume: {text}: {reason}"
