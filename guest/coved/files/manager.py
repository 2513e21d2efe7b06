"""The files domain: what ``docker cp``, ``diff``, ``export`` and ``commit`` ask for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from coved.containers import Container, Containers, spec
from coved.containers.files_turn import Place
from coved.errors import EngineError, Forbidden, InvalidParameter, NotFound
from coved.events import Events
from coved.files import changes, paths, tarwriter
from coved.files.changes import Change
from coved.files.roots import Roots
from coved.files.stream import ArchiveStream, IteratorSource
from coved.files.unpack import Unpacker
from coved.images import Images
from coved.images.compression import DecompressedStream
from coved.images.streams import OwnThreads, ThreadStream, in_thread
from coved.images.tar import TarReader
from coved.runtime import view
from coved.runtime.ids import Ids
from coved.runtime.paths import open_in_root
from coved.runtime.view import View
from coved.times import go_rfc3339

T = TypeVar("T")

# Made in every container's root to mount something on; dockerd hides the same in a layer of its own.
_OWN_PLACES = ("dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf", "sbin/docker-init")
_WORKERS = 4


class Files:
    """Works on containers that run and on those that do not."""

    def __init__(self, containers: Containers, images: Images, events: Events) -> None:
        self._containers = containers
        self._images = images
        self._events = events
        self._workers = ThreadPoolExecutor(_WORKERS, "files")
        self._roots = Roots(containers, self._workers)

    async def close(self) -> None:
        await asyncio.to_thread(self._workers.shutdown, cancel_futures=True)

    async def stat(self, reference: str, path: str) -> dict[str, Any]:
        """What ``X-Docker-Container-Path-Stat`` holds. Raises NotFound."""
        container = self._containers.get(reference)
        async with self._roots.opened(container) as (root, _):
            found = await self._find(root, path, reference)
            os.close(found.parent)
        return _stat(found)

    async def read(self, reference: str, path: str) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
        """The file's description, and an archive of it and of all below it. Raises NotFound."""
        container = self._containers.get(reference)
        async with contextlib.AsyncExitStack() as stack:
            root, place = await stack.enter_async_context(self._roots.opened(container))
            found = await self._find(root, path, reference)
            stack.callback(os.close, found.parent)
            archive = tarwriter.archive(found.parent, found.name, found.shown, root.ids)
            stream = self._stream(container, archive, stack, place)
        self._event(container, "archive-path")
        return _stat(found), stream

    async def write(
        self, reference: str, path: str, chunks: AsyncIterator[bytes], *, keep_kinds: bool, as_user: bool
    ) -> None:
        """Unpacks an archive into a directory of the container.

        Args:
            keep_kinds: refuse to put a directory in the place of something else, or the reverse.
            as_user: everything belongs to the container's user.

        Raises NotFound, InvalidParameter, Forbidden (read-only), Conflict (its end or start did not wait for the client).
        """
        container = self._containers.get(reference)
        source = ThreadStream(chunks)
        async with self._roots.opened(container) as (root, place):
            target = await self._roots.run(self._target, container, root, path, reference)
            owner = (
                await self._roots.run(_owner, root, container.config["User"])
                if as_user and container.config["User"]
                else None
            )

            def unpack() -> None:
                Unpacker(root.root, root.ids, target, keep_kinds=keep_kinds, owner=owner).extract(
                    TarReader(DecompressedStream(source))
                )

            async with place.at_a_clients_pace():
                await in_thread(OwnThreads(), unpack, source.abort)
        self._event(container, "extract-to-dir")

    async def export(self, reference: str) -> AsyncIterator[bytes]:
        """An archive of the container's root, without what is mounted in it."""
        container = self._containers.get(reference)
        async with contextlib.AsyncExitStack() as stack:
            root, place = await stack.enter_async_context(self._roots.opened(container, alone=True))
            directory = open_in_root(root.root, "/", os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, directory)
            stream = self._stream(container, tarwriter.archive(directory, ".", "", root.ids), stack, place)
        self._event(container, "export")
        return stream

    async def changes(self, reference: str) -> list[Change]:
        """What the container has changed in its image's files, sorted by path."""
        layout = self._containers.layout(self._containers.get(reference))
        return await self._roots.run(_compare, layout)

    async def commit(
        self,
        reference: str,
        *,
        repository: str,
        tag: str,
        comment: str,
        author: str,
        instructions: list[str],
        config: dict[str, Any] | None,
        pause: bool,
    ) -> str:
        """Makes an image of a container's image and what the container has changed; its id.

        Args:
            instructions: Dockerfile instructions that set defaults.
            config: replaces the container's configuration, which fills in what this leaves open.
            pause: freeze the container meanwhile.

        Raises NotFound, InvalidParameter, Conflict.
        """
        from coved.containers.commit import image_config  # rare, as is what it needs
        from coved.images.manager import parse_name

        if not reference:
            raise InvalidParameter('invalid name or ID supplied: ""')
        container = self._containers.get(reference)
        name = parse_name(repository, tag)
        merged = image_config(container, config, instructions)
        base = self._images.get(container.image_id)
        command = " ".join(container.config["Cmd"] or ())
        layout = self._containers.layout(container)
        with _directory(layout.upper) as upper:
            source = IteratorSource(tarwriter.archive(upper, ".", "", Ids(), layer=True, skip=_OWN_PLACES))
            async with self._containers.life.frozen(container) if pause else contextlib.nullcontext():
                changed = bool(await self._roots.run(_compare, layout))
                image = await self._images.derive(
                    base, source if changed else None, source.abort, config=merged, created_by=command, comment=comment,
                    author=author, name=name,
                )  # fmt: skip
        shown = f"{repository}:{tag or 'latest'}" if repository else ""
        self._event(container, "commit", comment=comment, imageID=image.id, imageRef=shown)
        return image.id

    # -- within

    def _stream(
        self, container: Container, archive: Iterator[bytes], stack: contextlib.AsyncExitStack, place: Place
    ) -> ArchiveStream:
        """What ``stack`` holds is the stream's from now on; the container's life does not wait for its reader."""
        folder = self._containers.layout(container).directory
        stream = ArchiveStream(archive, self._workers, stack.pop_all(), folder)
        place.when_wanted(stream.hasten)
        return stream

    async def _find(self, root: View, path: str, reference: str) -> paths.Found:
        try:
            return await self._roots.run(paths.find, root, path, reference, undo=lambda found: os.close(found.parent))
        except OSError as error:
            kind = InvalidParameter if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else EngineError
            raise kind(f"{error.strerror}") from None

    def _target(self, container: Container, root: View, path: str, reference: str) -> str:
        """The directory that ``path`` leads to, from the root of the container."""
        try:
            fd = open_in_root(root.root, paths.absolute(path), os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            raise paths.missing(path, reference) from None
        except NotADirectoryError:
            raise InvalidParameter("extraction point is not a directory") from None
        except OSError as error:  # a name that is too long, links that lead in circles
            if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
                raise
            raise InvalidParameter(os.strerror(error.errno).lower()) from None
        try:
            target = root.path_of(fd)
        finally:
            os.close(fd)
        mount = _mount_of(container, target)
        if mount is not None and not mount.writable:
            raise Forbidden("mounted volume is marked read-only")
        if mount is None and container.host_config["ReadonlyRootfs"]:
            raise Forbidden("container rootfs is marked read-only")
        return target

    def _event(self, container: Container, action: str, **attributes: str) -> None:
        self._events.publish("container", action, container.id, container.event_attributes(**attributes))


def _compare(layout: spec.Layout) -> list[Change]:
    with view.of_image(layout.lower) as image, _directory(layout.upper) as upper:
        return changes.compare(upper, image, _OWN_PLACES)


def _mount_of(container: Container, path: str) -> Any:
    inside = [one for one in container.mounts if path == one.destination or path.startswith(f"{one.destination}/")]
    return max(inside, key=lambda one: len(one.destination), default=None)


def _stat(found: paths.Found) -> dict[str, Any]:
    return {
        "name": found.shown,
        "size": found.status.st_size,
        "mode": paths.go_mode(found.status.st_mode),
        "mtime": go_rfc3339(found.status.st_mtime_ns),
        "linkTarget": found.link,
    }


def _owner(root: View, user: str) -> tuple[int, int]:
    """The container's user by its own passwd file. Raises InvalidParameter."""
    from coved.runtime import users

    with contextlib.ExitStack() as stack:
        files = []
        for name in ("/etc/passwd", "/etc/group"):
            with contextlib.suppress(OSError):
                fd = open_in_root(root.root, name, os.O_RDONLY | os.O_NONBLOCK)
                stack.callback(os.close, fd)
                files.append(f"/proc/self/fd/{fd}")
                continue
            files.append("/nonexistent")
        try:
            identity = users.resolve({"username": user}, *files)
        except users.UserError as error:
            raise InvalidParameter(str(error)) from None
    return identity.uid, identity.gid


@contextlib.contextmanager
def _directory(path: Any) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"the files of the container are gone: {path}") from None
    try:
        yield fd
    finally:
        os.close(fd)
