"""Which VM image a start takes, and what is tidied up when its engine answers (docs/decisions/0049)."""

from __future__ import annotations

import logging
from dataclasses import replace

from cove.agent import memory
from cove.errors import CoveError
from cove.image import store
from cove.image.store import VmImage
from cove.machine import systems, templates
from cove.machine.architecture import Architecture
from cove.machine.paths import MachinePaths
from cove.progress import Event, Report

log = logging.getLogger(__name__)


def choose(paths: MachinePaths, architecture: Architecture, progress: Report) -> VmImage:
    """The newest image for these processors, which is made when it is missing; after a rollback the one that the machine has gone back to.

    When the newest cannot be made, the one that it has been using will do. Blocking. Raises `CoveError`, `OSError`.
    """
    noted = systems.load(paths)
    if noted.pinned:
        image = store.find(noted.kept)
        if image is None:
            raise CoveError(
                f"the VM image {noted.kept[:16]}, to which the machine {paths.name} has gone back, is not there any more",
                f"take the newest one with: cove machine upgrade {paths.name}",
            )
        return image
    if not noted.used and paths.disk.exists() and (latest := store.latest()) is not None:
        # Of a Cove that noted nothing yet: it took what had been made last.
        noted = replace(noted, used=latest.digest)
        systems.save(paths, noted)
    try:
        image = store.current(architecture) or _made(architecture, progress)
    except (CoveError, OSError) as error:
        used = store.find(noted.used)
        if used is None:
            raise
        log.error("the new VM image could not be made: %s", error)
        progress(Event("image", "the new one could not be made: this start takes the one before", detail=str(error)))
        return used
    if image.digest != noted.used and noted.trying != image.digest:
        systems.save(paths, replace(noted, trying=image.digest))
    return image


def _made(architecture: Architecture, progress: Report) -> VmImage:
    from cove.image import (
        builder,
    )  # not needed to take over a VM, to wake one, or to start one of an image that is there

    try:
        return builder.build(architecture, progress)
    finally:
        memory.give_back()


def answered(paths: MachinePaths, digest: str) -> None:
    """The engine of that image answers: it is the machine's from now on, and what nobody goes back to is removed. Blocking."""
    try:
        if systems.answered(paths, digest):
            store.prune()
            templates.keep_only(path.name for path in store.folders())
    except OSError as error:
        log.error("it could not be noted that the VM image %s answers: %s", digest[:16], error)


def failed(paths: MachinePaths, digest: str) -> str:
    """That image does not start. What to do when the one before did; "" when there is none. A rollback ends here. Blocking."""
    noted = systems.load(paths)
    if noted.trying != digest or store.find(noted.used) is None:
        return ""
    if noted.pinned:
        try:
            systems.save(paths, noted.stayed())
        except OSError as error:
            log.error("it could not be noted that the machine has not gone back: %s", error)
            return f"It was to go back to the VM image {digest[:16]}. Take the newest one with: cove machine upgrade {paths.name}"
        return (
            f"It was to go back to the VM image {digest[:16]}, and has not: its next start takes the one that it had."
        )
    return (
        f"It was to start with a new VM image ({digest[:16]}) for the first time. Go back to the one before it, with all data: "
        f"cove machine rollback {paths.name}"
    )
