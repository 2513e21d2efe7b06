"""Volumes that are mounted as long as containers use them: where, by whom, and what an earlier engine has left.

A volume with ``device`` is mounted on its own folder ``_data`` in the mount namespace of the engine, which is the spawner's
and so that of all shims: what they clone for a container is what is mounted there. Who uses it is not on record. An engine
that was killed left its mounts; the next one finds them in mountinfo, keeps those whose containers still run, and takes the
others off. After a boot there are neither. docs/decisions/0040
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from coved.errors import EngineError
from coved.finishing import to_the_end
from coved.runtime import mountinfo
from coved.shares.shares import Located, MissingSource, Shares
from coved.threads import abandonable
from coved.volumes.local_options import (
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    PROPAGATION,
    described,
    local_mount,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# A server that does not answer keeps mount(2) for minutes: unlike the runtime's calls these let go of the interpreter's lock.
_libc = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


class Mounting:
    """Who uses which mounted volume. ``place`` gives the directory of a volume by its name."""

    def __init__(self, place: Callable[[str], Path]) -> None:
        self._place = place
        self.shares: Shares | None = None
        """Finds what the device of a bind means when the user's computer is another one than the engine's."""
        self._users: dict[str, set[object]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def in_use(self, name: str) -> bool:
        return bool(self._users.get(name))

    async def hold(self, name: str, options: Mapping[str, str], user: object) -> None:
        """Mounts a volume for its first user. Raises EngineError in dockerd's words; then ``user`` uses nothing."""
        place = self._place(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            users = self._users.setdefault(name, set())
            if user in users:
                return
            if not users:
                found = await self._found(options)
                # To its end: what was mounted for somebody who has left would be nobody's to take off.
                try:
                    await to_the_end(abandonable(lambda: _mount(place, options, found)))
                except asyncio.CancelledError:
                    await self._take_off(name)
                    raise
            users.add(user)

    async def _found(self, options: Mapping[str, str]) -> Located | None:
        if self.shares is None or not binds(options):
            return None
        try:
            return await self.shares.locate(options["device"], create=False)
        except MissingSource:
            return None  # mount(2) finds that too, and dockerd says it in its words

    async def let_go(self, name: str, user: object) -> None:
        """Takes the mount off after the last user. What cannot be taken off is logged."""
        users = self._users.get(name)
        if users is None or user not in users:
            return
        async with self._locks.setdefault(name, asyncio.Lock()):
            users.discard(user)
            if not users:
                await self._take_off(name)

    async def _take_off(self, name: str) -> None:
        place = self._place(name)
        try:
            await to_the_end(abandonable(lambda: unmount(place)))
        except OSError as error:
            log.error("volume %s stays mounted: %s", name, error)

    async def found(self, users: Mapping[str, Iterable[str]], root: Path) -> None:
        """At the engine's start: the containers that run, by the volumes that they use. What nobody uses is taken off."""
        mounted = set(mounts_below(root))
        kept = []
        for name, containers in users.items():
            if (path := _as_mounted(self._place(name))) in mounted:
                self._users[name] = set(containers)
                kept.append(path)
        for path in sorted(mounted, key=len):  # with each goes what is mounted in it
            if any(path == one or path.startswith(f"{one}/") for one in kept):
                continue
            try:
                await abandonable(lambda path=path: unmount(Path(path)))  # type: ignore[misc]
            except OSError as error:
                log.error("%s stays mounted: %s", path, error)

    def forget(self, name: str) -> None:
        """The volume is removed."""
        self._users.pop(name, None)
        self._locks.pop(name, None)


def _as_mounted(place: Path) -> str:
    """As mountinfo has it, without asking what is mounted there, which may never answer."""
    return f"{os.path.realpath(place.parent)}/{place.name}"


def mounts_below(folder: Path) -> list[str]:
    """Where something is mounted in ``folder``, links resolved; one entry for each mount."""
    wanted = os.path.realpath(folder).rstrip("/") + "/"
    return [mounted.point for mounted in mountinfo.entries() if mounted.point.startswith(wanted)]


def clear_mounts(folder: Path) -> None:
    """Takes off all that is mounted in ``folder``, for what is to be removed: what is mounted there is somebody else's.

    Raises OSError when something stays.
    """
    for point in reversed(mounts_below(folder)):  # those on top of others first
        _umount(point)
    if left := mounts_below(folder):
        raise OSError(errno.EBUSY, "something is mounted there", left[0])


def unmount(place: Path) -> None:
    """Take off all that is mounted on ``place``, as often as something is. Raises OSError."""
    while True:
        try:
            _umount(os.fspath(place))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return  # nothing is mounted there (umount(2))
            raise


def _umount(path: str) -> None:
    if _libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def binds(options: Mapping[str, str]) -> bool:
    """Whether a volume's options make it a directory that is somewhere already."""
    return "device" in options and not {"bind", "rbind"}.isdisjoint(options.get("o", "").split(","))


def _mount(place: Path, options: Mapping[str, str], found: Located | None = None) -> None:
    failed = f"error while mounting volume '{place}': "
    try:
        wanted = local_mount(options, _address)
    except EngineError as error:
        raise EngineError(f"{failed}{error}") from None
    kinds = wanted.flags & PROPAGATION
    flags = wanted.flags & ~PROPAGATION
    if found is not None and found.read_only:
        flags |= MS_RDONLY | MS_NOSUID | MS_NODEV
    target = os.fspath(place)
    unmount(place)  # whatever was left there: two mounts on one another would both be there for ever
    try:
        with _opened(found) if found is not None else contextlib.nullcontext(wanted.device) as device:
            _call(device, target, wanted.kind, flags, wanted.data)
        try:
            if kinds:
                _call("", target, "", kinds | wanted.flags & MS_REC, "")
            elif flags & MS_BIND:
                # Or what is mounted in the device would be taken off there as well, when this is (mount_namespaces(7)).
                _call("", target, "", MS_SLAVE | MS_REC, "")
            if flags & MS_BIND and flags & MS_RDONLY:  # which a bind mount is only made by a second call
                _call("", target, "", flags | MS_REMOUNT, "")
        except OSError:
            unmount(place)
            raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise EngineError(f"{failed}{described(wanted, target, reason)}") from None


@contextlib.contextmanager
def _opened(located: Located) -> Iterator[str]:
    """A path for mount(2) that means what was found, whoever changes the folder meanwhile. Raises OSError."""
    from coved.runtime import syscalls

    base = os.open(located.source, os.O_PATH | os.O_CLOEXEC)
    try:
        how = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS
        part = syscalls.openat2(base, located.below or ".", os.O_PATH, how)
    finally:
        os.close(base)
    try:
        yield f"/proc/self/fd/{part}"
    finally:
        os.close(part)


def _call(device: str, target: str, kind: str, flags: int, data: str) -> None:
    words = [os.fsencode(word) for word in (device, target, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(data)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _address(name: str) -> str:
    """The first IPv4 address of a name, else an IPv6 one; an address is its own. Raises OSError in Go's words."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OSError(errno.ENOENT, f"lookup {name}: {_go_words(error)}") from None
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])


def _go_words(error: Exception) -> str:
    if isinstance(error, socket.gaierror) and error.errno not in (socket.EAI_NONAME, socket.EAI_NODATA):
        return str(error.strerror).lower()
    return "no such host"
