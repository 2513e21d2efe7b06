"""The starter image, which no registry has: the VM's own archive answers for it, whenever it was removed and is wanted again."""

from __future__ import annotations

from coved.errors import EngineError, NotFound, no_room
from coved.images import Images, platforms, reference
from coved.images.reference import Reference
from coved.registry import choice
from coved.registry.progress import Report, action, message

_STARTER = reference.parse("cove/starter:latest")
_BUSYBOX = reference.parse("busybox:latest")


def has(images: Images, name: Reference, platform: str) -> bool:
    """Whether an image is pulled from the archive: the starter by its tag, for this machine, where there is the archive.

    Args:
        platform: as the client wrote it; "" is this machine's.

    Raises ``InvalidParameter`` for a platform that is none.
    """
    if images.starter_archive is None or name != _STARTER:
        return False
    return platforms.rank(choice.wanted(""), choice.wanted(platform)) is not None


async def pull(images: Images, report: Report) -> None:
    """Gives the starter its name back, and busybox, which is in the same archive, its own when nobody has that.

    Raises EngineError.
    """
    archive, before = images.starter_archive, _id(images, _STARTER)
    if archive is None:
        raise NotFound(f"No such image: {_STARTER.familiar}")
    report(message(f"Pulling from {_STARTER.path}", _STARTER.tag))
    wanted = {str(_STARTER)} | ({str(_BUSYBOX)} if _id(images, _BUSYBOX) is None else set())
    try:
        await images.load_file(archive, lambda _: None, wanted.__contains__)
    except OSError as error:
        raise no_room(error) or EngineError(f"the starter image {archive} cannot be read: {error.strerror}") from error
    image = images.get(_STARTER.familiar)
    if image.id != before:
        for diff_id in image.diff_ids:
            report(action("Pull complete", diff_id.removeprefix("sha256:")[:12]))
    newer = "Image is up to date" if image.id == before else "Downloaded newer image"
    report(message(f"Status: {newer} for {_STARTER.familiar}"))


def _id(images: Images, name: Reference) -> str | None:
    try:
        return images.get(str(name)).id
    except NotFound:
        return None
